"""Bounds that learn: they hold on any honest server, in any order, and are dropped on any other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from clock import no_wait
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.budget import Budget, Ledger, MeteredClient
from ecoalign.budget._learned import Learned
from ecoalign.errors import BudgetExceeded
from ecoalign.models import (
    ChatRequest,
    Completion,
    ImagePart,
    KnownTokens,
    Message,
    Segment,
    TextPart,
    Usage,
    bound,
    segments,
)

FAMILY = "unknown"


@dataclass
class Server:
    """An honest server: what a prompt costs is what its lines and images cost, but for a token more
    or less wherever two of them meet.

    Attributes:
        bytes_per_token: of its tokenizer.
        images: what an image costs, by its width.
        template: tokens of the template, in each call and for each message.
        joins: whether tokens are lost or won where lines meet.
        hides: tokens that are left out of the report from the second call on, as some servers leave
            out what they had in a cache.
        lies: added to what is reported.
    """

    bytes_per_token: int = 4
    images: dict[int, int] = field(default_factory=lambda: {40: 130, 50: 3000})
    template: int = 9
    joins: int = 1
    hides: int = 0
    lies: int = 0
    name: str = "openai:server"
    dialect: str = "full"
    order: random.Random = field(default_factory=lambda: random.Random(0))
    calls: int = 0

    def __post_init__(self) -> None:
        self.known = KnownTokens()

    def bound(self, request: ChatRequest) -> Usage:
        return bound(request, FAMILY)

    def segments(self, request: ChatRequest) -> list[Segment]:
        return segments(request, FAMILY)

    def real(self, request: ChatRequest) -> int:
        """What the prompt costs."""
        pieces: list[str | int] = []
        for message in request.messages:
            for part in message.parts:
                if isinstance(part, ImagePart):
                    pieces.append(self.images[part.width])
                else:
                    pieces += part.text.split("\n")
        cost = self.template * (1 + len(request.messages))
        for piece in pieces:
            cost += piece if isinstance(piece, int) else -(-len(piece) // self.bytes_per_token)
        for one, other in pairwise(pieces):
            # The same wherever the two meet.
            cost += random.Random(f"{one}|{other}").randint(-self.joins, self.joins)
        return max(1, cost)

    async def complete(self, request: ChatRequest) -> Completion:
        self.calls += 1
        hidden = self.hides if self.calls > 1 else 0
        prompt = max(1, self.real(request) - hidden) + self.lies
        for _ in range(self.order.randrange(4)):
            await asyncio.sleep(0)
        return Completion("", Usage(prompt, self.order.randint(0, request.max_tokens)))

    async def aclose(self) -> None:
        pass


def picture(width: int, shade: int = 0) -> ImagePart:
    return ImagePart(bytes([shade]), "image/png", width, 30)


def asking(
    lines: Sequence[str], views: Sequence[int] = (), system: str = "Be short.", cap: int = 5
) -> ChatRequest:
    images = (picture(width, i) for i, width in enumerate(views))
    user = Message("user", (*images, TextPart("\n".join(lines))))
    messages = (Message("system", (TextPart(system),)), user)
    return ChatRequest(messages, cap, "test")


lines = st.lists(
    st.sampled_from(["", "a", "the sign on the wall", "x" * 40, "long words " * 20, "Grüße, 你好"]),
    max_size=8,
)
requests = st.builds(
    asking,
    lines,
    st.lists(st.sampled_from([40, 50]), max_size=3),
    st.sampled_from(["", "Be short.", "Judge strictly.\nOne word."]),
    st.integers(1, 30),
)
servers = st.builds(
    Server,
    st.integers(1, 6),
    st.fixed_dictionaries({40: st.integers(1, 3900), 50: st.integers(1, 3900)}),
    st.integers(0, 16),
    st.integers(0, 1),
    order=st.integers(0, 10**6).map(random.Random),
)


async def converse(
    server: Server, batches: Sequence[Sequence[ChatRequest]], budget: int
) -> tuple[Ledger, list[list[Usage]]]:
    """All requests of a batch at once, what they tell taken over after each batch; the ledger, and
    the bounds of the batches as they were made."""
    ledger = Ledger(Budget(tokens=budget))
    client = MeteredClient(ledger, retries=0, sleep=no_wait)
    bounds = []
    for batch in batches:
        bounds.append([client.bound(server, request) for request in batch])
        calls = (client.complete(server, request) for request in batch)
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, Completion | BudgetExceeded)
        client.learned.take()
    return ledger, bounds


@settings(max_examples=300, deadline=None)
@given(
    servers,
    st.lists(st.lists(requests, min_size=1, max_size=4), max_size=6),
    st.integers(1, 90_000),
)
def test_an_honest_server_never_reports_more_than_its_bound(
    server: Server, batches: list[list[ChatRequest]], budget: int
) -> None:
    ledger, bounds = asyncio.run(converse(server, batches, budget))
    assert ledger.spent.tokens.total <= budget
    assert not ledger.overdrawn
    for batch, bounded in zip(batches, bounds, strict=True):
        for request, most in zip(batch, bounded, strict=True):
            assert server.real(request) <= most.prompt <= server.bound(request).prompt
            assert most.completion == request.max_tokens
            assert most.image <= most.prompt


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(requests, min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(0, 10**6),
    st.randoms(use_true_random=False),
)
def test_what_is_learned_does_not_depend_on_which_call_ended_first(
    batches: list[list[ChatRequest]], seed: int, rng: random.Random
) -> None:
    later = [asking(["the sign on the wall", "more"], [40]), asking(["a"], [50, 50])]
    found = []
    for order in (random.Random(0), random.Random(seed)):
        shuffled = [rng.sample(batch, len(batch)) for batch in batches]
        _, bounds = asyncio.run(converse(Server(order=order), [*shuffled, later], 10**9))
        found.append(bounds[-1])
    assert found[0] == found[1]


def bounds_after(
    server: Server, first: Sequence[ChatRequest], then: ChatRequest
) -> tuple[int, int]:
    """The bound of a prompt after some calls, and what it really costs."""
    _, bounds = asyncio.run(converse(server, [[request] for request in [*first, then]], 10**9))
    return bounds[-1][0].prompt, server.real(then)


def test_the_same_images_and_prefix_are_bounded_by_what_they_cost() -> None:
    prefix = ["A long request. " * 20, "With a second line."]
    first = asking([*prefix, "Describe it."], [40, 40, 50])
    most, real = bounds_after(Server(), [first], asking([*prefix, "Is it safe?"], [40, 40, 50]))
    assert 3000 < real <= most < real + 90
    # Nothing is taken over before it is asked for.
    server, client = Server(), MeteredClient(Ledger(Budget(tokens=10**9)))
    asyncio.run(client.complete(server, first))
    assert client.bound(server, first) == server.bound(first)
    assert client.learned.take()
    assert not client.learned.take()
    assert client.bound(server, first).prompt < server.bound(first).prompt


def test_one_of_several_images_of_a_size_bounds_another_of_that_size_alone() -> None:
    most, real = bounds_after(Server(), [asking([], [40, 40, 40])], asking(["a"], [40]))
    assert real <= most < real + 400
    unseen, _ = bounds_after(Server(), [asking([], [40, 40, 40])], asking(["a"], [50]))
    assert unseen > 4000
    hinted = ChatRequest(
        (Message("user", (ImagePart(b"", "image/png", 40, 30, "low"),)),), 5, "test"
    )
    assert bounds_after(Server(), [asking([], [40])], hinted)[0] > 4000


def test_a_schema_is_never_taken_for_paid() -> None:
    plain = asking(["a"], [50])
    schema = {"type": "object", "title": "t" * 300}
    asked = ChatRequest(plain.messages, 5, "test", schema=schema)
    with_schema, _ = bounds_after(Server(), [asked], asked)
    without, _ = bounds_after(Server(), [asked], plain)
    assert with_schema >= without + 300


def test_a_report_above_its_bound_ends_all_trust_and_is_learned() -> None:
    server = Server()
    ledger = Ledger(Budget(tokens=10**6))
    client = MeteredClient(ledger, retries=0)
    request = asking(["a"], [40])
    asyncio.run(client.complete(server, request))
    client.learned.take()
    client.learned.keep()
    assert server.known.images
    server.lies = 500
    done = asyncio.run(client.complete(server, request))
    # Charged as reported.
    assert done.usage is not None
    assert done.usage.prompt == server.real(request) + 500
    assert not ledger.overdrawn
    assert server.known.images == {}
    client.learned.take()
    formula = server.bound(request)
    assert client.bound(server, request) == formula
    # What is above the formula itself is reserved from then on.
    server.lies = formula.prompt + 1000 - server.real(request)
    asyncio.run(client.complete(server, request))
    assert client.bound(server, request).prompt == formula.prompt + 1000
    assert not ledger.overdrawn


def test_a_server_that_leaves_out_what_it_had_in_its_cache_is_not_believed() -> None:
    server = Server(hides=2900)
    first = asking(["A long request. " * 20, "Describe it."], [50])
    second = asking(["A long request. " * 20, "Judge."], [50])
    ledger, bounds = asyncio.run(converse(server, [[first], [second], [first]], 10**6))
    assert bounds[2] == [server.bound(first)]
    assert not ledger.overdrawn


def test_a_server_that_was_found_out_passes_no_bound_of_a_second_run() -> None:
    """It leaves out what it had in its cache, and had all of it there before the first call."""
    server, request = Server(hides=2900, calls=1), asking(["a"], [50])

    def run() -> bool:
        client = MeteredClient(Ledger(Budget(tokens=10**6)), retries=0)
        passed = False
        for hidden in (2900, 0):
            server.hides = hidden
            bound = client.bound(server, request)
            done = asyncio.run(client.complete(server, request))
            assert done.usage is not None
            passed = passed or done.usage.prompt > bound.prompt
            client.learned.take()
        client.learned.keep()
        return passed

    assert [run(), run(), run()] == [True, False, False]
    assert Learned().snapshot(server) == {}
    assert server.known.uncounted(["A long line of text, to be counted."]) == []


def test_nothing_is_learned_without_a_report_or_from_an_exact_bound() -> None:
    class Silent(Server):
        async def complete(self, request: ChatRequest) -> Completion:
            return Completion("", None)

    class Exact(Server):
        def bound(self, request: ChatRequest) -> Usage:
            return Usage(self.real(request), request.max_tokens)

    request = asking(["a"], [40])
    for server in (Silent(), Exact()):
        ledger, bounds = asyncio.run(converse(server, [[request], [request]], 10**6))
        assert bounds[1] == [server.bound(request)]
        assert server.known.images == {}
        assert not ledger.overdrawn


def test_a_model_object_remembers_images_for_its_next_run() -> None:
    server = Server()
    client = MeteredClient(Ledger(Budget(tokens=10**6)))
    asyncio.run(client.complete(server, asking(["a"], [40, 40])))
    client.learned.take()
    client.learned.keep()
    later = MeteredClient(Ledger(Budget(tokens=10**6)))
    snapshot = later.learned.snapshot(server)
    assert snapshot == {"images": {"40x30 auto": server.known.images["40x30 auto"]}, "texts": {}}
    assert later.bound(server, asking(["b"], [40])).prompt < 700
    # What another run learns meanwhile changes nothing in this one.
    server.known.add(images={"50x30 auto": 9})
    assert later.bound(server, asking(["b"], [50])).prompt > 4000


def test_memory_is_bounded() -> None:
    known = KnownTokens()
    for number in range(200):
        known.add(images={f"{number}x1 auto": number}, texts={str(number): 1})
    known.add(texts={str(number): 2 for number in range(1000)})
    assert len(known.images) == 64
    assert list(known.images)[-1] == "199x1 auto"
    assert len(known.texts) == 512
    assert KnownTokens.from_json(known.to_json()) == known


def test_which_calls_are_kept_does_not_depend_on_their_order_either() -> None:
    batch = [asking([f"line {number} " * 40]) for number in range(70)]
    later = [asking([f"line {number} " * 40, "more"]) for number in range(70)]
    found: list[list[Usage]] = []
    for turned in (batch, batch[::-1]):
        server = Server(order=random.Random(len(found)))
        found.append(asyncio.run(converse(server, [turned, later], 10**9))[1][-1])
    assert found[0] == found[1]
    kept = [
        most.prompt < server.bound(asked).prompt // 2
        for most, asked in zip(found[0], later, strict=True)
    ]
    assert 40 < sum(kept) < 60


def test_a_dearer_call_loosens_no_bound() -> None:
    alone, long = asking(["a"], [40]), asking(["other words " * 90], [40])
    tight, _ = bounds_after(Server(), [alone], asking(["b"], [40]))
    assert bounds_after(Server(), [alone, long], asking(["b"], [40]))[0] == tight
    assert bounds_after(Server(), [long, alone], asking(["b"], [40]))[0] == tight
