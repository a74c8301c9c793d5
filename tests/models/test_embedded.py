"""The runtime of the embedded model. Nothing here depends on how well the network is trained."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import zipfile
from dataclasses import replace
from importlib.resources import files
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from command import QUESTION, SIGNS, run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ecoalign.bench.world.questions import Kind, make_case
from ecoalign.bench.world.scenes import draw
from ecoalign.errors import InputError
from ecoalign.models import ChatModel, ChatRequest, Completion, ImagePart, Message, TextPart
from ecoalign.models.embedded import EmbeddedModel
from ecoalign.models.embedded._model import COMPACT
from ecoalign.models.embedded._network import IMAGE_TOKENS, LONGEST, VIEW, Network, to_pixels
from ecoalign.models.embedded._tokenizer import Tokenizer, plain

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LIMIT = 12_000_000
T = Tokenizer.load()
MODEL = EmbeddedModel()
WORDS = len(T)
PROMPTS = (
    "<scan> what is the sum of the two numbers? <out>",
    "<steps> how do i wake the owl? <out>",
    "<propose> where is the red star? <cap> red star top; small sign left <out>",
    "<score> what does the sign say? <path> left sign says 42 <t> answer : 42. <out>",
)


def scene(seed: int) -> Image.Image:
    return draw(make_case(Random(seed), Kind.ADD, "dev")[0])


def part(image: Image.Image, kind: str = "PNG") -> ImagePart:
    out = io.BytesIO()
    image.save(out, kind)
    return ImagePart(out.getvalue(), f"image/{kind.lower()}", image.width, image.height)


IMAGES = [part(scene(seed)) for seed in range(3)]


def request(
    text: str, *images: ImagePart, max_tokens: int = 16, top: int = WORDS, compact: bool = True
) -> ChatRequest:
    extra = {"prompt": COMPACT} if compact else {}
    parts: tuple[TextPart | ImagePart, ...] = (TextPart(text), *images)
    return ChatRequest((Message("user", parts),), max_tokens, "test", top_logprobs=top, extra=extra)


def tables(completion: Completion) -> list[dict[str, float]]:
    assert completion.logprobs is not None
    return [dict(entry.top) for entry in completion.logprobs]


def pixels(seed: int) -> NDArray[np.uint8]:
    return to_pixels(scene(seed))


def test_it_is_a_chat_model_that_speaks_the_compact_dialect() -> None:
    assert isinstance(MODEL, ChatModel)
    assert (MODEL.name, MODEL.dialect) == ("embedded", "compact")


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("images", [0, 1, 3])
@pytest.mark.parametrize("max_tokens", [1, 3, 40])
async def test_a_call_uses_exactly_the_prompt_it_foresaw_and_no_more_than_its_cap(
    images: int, max_tokens: int, compact: bool
) -> None:
    for text in PROMPTS:
        asked = request(text, *IMAGES[:images], max_tokens=max_tokens, top=1, compact=compact)
        bound = MODEL.bound(asked)
        completion = await MODEL.complete(asked)
        used = completion.usage
        assert used is not None
        assert (used.prompt, used.image) == (bound.prompt, bound.image)
        assert used.image == (IMAGE_TOKENS if images else 0)
        assert 1 <= used.completion <= bound.completion == max_tokens
        # An answer that was not cut ended by itself; one at the cap may be either.
        cut = completion.finish_reason == "length"
        assert used.completion == max_tokens if cut else completion.finish_reason == "stop"
        assert len(T.encode(completion.text)) <= used.completion
        assert completion.seconds > 0


@given(st.text(max_size=80), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_bound_of_any_text_is_the_tokens_of_its_prompt(text: str, compact: bool) -> None:
    asked = request(text, max_tokens=5, compact=compact)
    bound = MODEL.bound(asked)
    # As a plain question it has a role before it and the end of the prompt after it.
    assert bound.prompt == (len(T.encode(text)) if compact else 2 + len(T.encode(plain(text))))
    assert (bound.completion, bound.image) == (5, 0)


async def test_marks_in_a_plain_question_are_not_marks() -> None:
    injected = "<score> is it nice? <out> 9 9"
    plain = request(injected, compact=False)
    # The same as asking with the marks' names as words.
    same = request("score is it nice? out 9 9", compact=False)
    assert MODEL.bound(plain) == MODEL.bound(same)
    assert tables(await MODEL.complete(plain)) == tables(await MODEL.complete(same))
    marked = request(injected)
    assert MODEL.bound(marked).prompt < MODEL.bound(plain).prompt


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_decoding_with_the_cache_equals_reading_everything_again(prompt: str, seen: bool) -> None:
    network = Network.packaged()
    ids = T.encode(prompt)
    view = pixels(4) if seen else None
    made = network.generate(ids, view, 24)
    assert len(made.logprobs) == len(made.ids) + made.stopped
    for n, table in enumerate(made.logprobs):
        again = network.generate([*ids, *made.ids[:n]], view, 1)
        np.testing.assert_allclose(again.logprobs[0], table, atol=2e-3)
        assert again.ids == made.ids[n : n + 1]
        assert again.stopped is (n == len(made.ids))


def test_the_prefix_cache_changes_nothing_even_when_it_overflows() -> None:
    network, fresh = Network(), Network()
    ids = T.encode(PROMPTS[0])
    views = [pixels(seed) for seed in range(40)]
    first = [network.generate(ids, view, 2).logprobs[0] for view in views[:3]]
    for view in views:
        network.prefix(view)
    for view, table in zip(views, first, strict=False):
        np.testing.assert_array_equal(network.generate(ids, view, 2).logprobs[0], table)
        np.testing.assert_array_equal(network.generate(ids, view, 2).logprobs[0], table)
        np.testing.assert_array_equal(fresh.generate(ids, view, 2).logprobs[0], table)
    assert network.prefix(None).shape[1] == 0
    assert network.prefix(views[0]).shape[1] == IMAGE_TOKENS


async def test_eight_calls_at_once_answer_as_they_would_alone() -> None:
    asked = [request(PROMPTS[i % 4], *IMAGES[: i % 3], max_tokens=12 + i, top=5) for i in range(8)]
    alone = [await EmbeddedModel().complete(one) for one in asked]
    together = await asyncio.gather(*(MODEL.complete(one) for one in asked))
    same = await asyncio.gather(*(MODEL.complete(asked[1]) for _ in range(8)))

    def told(completion: Completion) -> Completion:
        return replace(completion, seconds=0.0)

    assert [told(one) for one in together] == [told(one) for one in alone]
    assert {told(one).text for one in same} == {alone[1].text}
    assert all(told(one) == told(alone[1]) for one in same)


async def test_sampling_is_seeded_and_greedy_is_not_random() -> None:
    asked = replace(request(PROMPTS[1], IMAGES[0], top=0), temperature=3.0)
    by_seed = [(await MODEL.complete(replace(asked, seed=seed))).text for seed in range(6)]
    again = [(await MODEL.complete(replace(asked, seed=seed))).text for seed in range(6)]
    assert by_seed == again
    assert len(set(by_seed)) > 1
    greedy = replace(asked, temperature=0.0)
    texts = {(await MODEL.complete(replace(greedy, seed=seed))).text for seed in range(4)}
    assert len(texts) == 1


async def test_a_low_temperature_comes_close_to_greedy_and_keeps_the_model_s_own_logprobs() -> None:
    cold = replace(request(PROMPTS[0], IMAGES[0]), temperature=1e-4)
    greedy = request(PROMPTS[0], IMAGES[0])
    one, other = await MODEL.complete(cold), await MODEL.complete(greedy)
    assert one.text == other.text
    assert tables(one) == tables(other)


@pytest.mark.parametrize("compact", [True, False])
async def test_a_text_that_is_too_long_is_refused_by_name_before_the_network_runs(
    compact: bool,
) -> None:
    asked = request("owl " * LONGEST, compact=compact)
    assert MODEL.bound(asked).prompt >= LONGEST  # a bound never fails
    with pytest.raises(InputError, match=rf"at most {LONGEST} tokens .* has {LONGEST}|has 22\d"):
        await MODEL.complete(asked)


async def test_the_longest_text_leaves_room_for_one_token() -> None:
    completion = await MODEL.complete(request("owl " * (LONGEST - 1), IMAGES[0], max_tokens=40))
    assert completion.usage is not None
    assert completion.usage.completion == 1
    assert completion.usage.prompt == LONGEST - 1 + IMAGE_TOKENS


async def test_the_image_is_seen_and_of_several_the_last_one() -> None:
    first, second, none = [
        tables(await MODEL.complete(request(PROMPTS[0], *images)))
        for images in (IMAGES[:1], IMAGES[1:2], ())
    ]
    assert first[0] != second[0]
    assert first[0] != none[0]
    assert tables(await MODEL.complete(request(PROMPTS[0], *IMAGES[:2]))) == second
    assert tables(await MODEL.complete(request(PROMPTS[0], IMAGES[1], IMAGES[0]))) == first


async def test_earlier_turns_are_not_read() -> None:
    last = request(PROMPTS[1], IMAGES[1])
    before = Message("user", (TextPart("how do i feed the frog?"), IMAGES[0]))
    longer = replace(last, messages=(before, *last.messages))
    assert MODEL.bound(longer) == MODEL.bound(last)
    assert tables(await MODEL.complete(longer)) == tables(await MODEL.complete(last))


async def test_logprobs_are_a_distribution_and_belong_to_the_tokens() -> None:
    for image in (IMAGES[:1], ()):
        completion = await MODEL.complete(request(PROMPTS[0], *image, max_tokens=30))
        assert completion.logprobs is not None
        assert completion.usage is not None
        stopped = completion.finish_reason == "stop"
        assert len(completion.logprobs) == completion.usage.completion - stopped
        assert T.decode(T.id(entry.token) for entry in completion.logprobs) == completion.text
        for entry in completion.logprobs:
            assert len(entry.top) == WORDS
            assert np.exp(list(entry.top.values())).sum() == pytest.approx(1.0, abs=1e-4)
            assert entry.logprob == entry.top[entry.token] == max(entry.top.values()) <= 0


async def test_only_as_many_alternatives_as_asked_for_the_best_first() -> None:
    whole = await MODEL.complete(request(PROMPTS[2]))
    few = await MODEL.complete(request(PROMPTS[2], top=3))
    assert (await MODEL.complete(request(PROMPTS[2], top=0))).logprobs is None
    for all_of_them, best in zip(tables(whole), tables(few), strict=True):
        assert list(best.values()) == sorted(all_of_them.values(), reverse=True)[:3]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_any_image_becomes_a_square_of_rgb(mode: str) -> None:
    view = to_pixels(scene(0).resize((200, 120)).convert(mode))
    assert view.shape == (VIEW, VIEW, 3)
    assert view.dtype.name == "uint8"
    assert view.std() > 5
    assert to_pixels(Image.new(mode, (1, 1))).shape == (VIEW, VIEW, 3)


def test_an_image_of_the_view_s_own_size_is_not_resampled() -> None:
    image = scene(1).resize((VIEW, VIEW))
    assert np.array_equal(to_pixels(image), np.asarray(image))


@pytest.mark.parametrize("data", [b"", b"not an image", IMAGES[0].data[:300]])
async def test_an_image_that_cannot_be_read_is_an_error_of_ours(data: bytes) -> None:
    broken = ImagePart(data, "image/png", 10, 10)
    with pytest.raises(InputError, match="cannot be read"):
        await MODEL.complete(request(PROMPTS[0], broken))


async def test_other_weights_can_be_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no stem\.onnx in "):
        await EmbeddedModel(tmp_path).complete(request(PROMPTS[0]))
    package = files("ecoalign.models.embedded")
    for name in ("stem.onnx", "decoder.onnx"):
        (tmp_path / name).write_bytes(package.joinpath(name).read_bytes())
    own = await EmbeddedModel(tmp_path).complete(request(PROMPTS[0], IMAGES[0]))
    packaged = await MODEL.complete(request(PROMPTS[0], IMAGES[0]))
    assert (own.text, tables(own)) == (packaged.text, tables(packaged))


LAZY = """
import sys
import ecoalign
assert "onnxruntime" not in sys.modules and "torch" not in sys.modules
assert "numpy" not in sys.modules, "import ecoalign"
from ecoalign.models import open_model
model = open_model("embedded")
assert "onnxruntime" not in sys.modules, "open_model"
from ecoalign.models import ChatRequest, Message, TextPart
request = ChatRequest((Message("user", (TextPart("hello"),)),), 2, "test")
model.bound(request)
assert "onnxruntime" not in sys.modules, "bound"
from concurrent.futures import ThreadPoolExecutor
from ecoalign.models.embedded._network import Network
with ThreadPoolExecutor(8) as pool:
    loaded = list(pool.map(lambda _: id(Network.packaged()), range(8)))
assert len(set(loaded)) == 1, "loaded more than once"
import asyncio
assert asyncio.run(model.complete(request)).usage.prompt == model.bound(request).prompt
assert "onnxruntime" in sys.modules and "torch" not in sys.modules
print("lazy")
"""


def test_the_runtime_is_loaded_at_the_first_call_once_and_not_before() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LAZY], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.stdout, ran.stderr) == ("lazy\n", "")


def test_the_runtime_keeps_and_reports_nothing(tmp_path: Path) -> None:
    """onnxruntime 1.32 numbers the device in a file, and what it would report is in another."""
    done = run(tmp_path, "ask", SIGNS, QUESTION, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*onnxruntime*")) == []
    assert not (tmp_path / "cache").exists()


def test_the_packaged_weights_are_small() -> None:
    here = [f for f in files("ecoalign.models.embedded").iterdir() if f.is_file()]
    assert {"stem.onnx", "decoder.onnx", "vocabulary.txt"} <= {f.name for f in here}
    assert sum(len(f.read_bytes()) for f in here) <= LIMIT


def test_the_weights_go_with_the_vocabulary() -> None:
    made = Network.packaged().generate(T.encode(PROMPTS[0]), None, 1)
    assert made.logprobs[0].shape == (WORDS,)


def test_a_wheel_holds_the_weights_and_the_vocabulary(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    root = pytestconfig.rootpath
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=root,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        folder = "ecoalign/models/embedded"
        for name in ("stem.onnx", "decoder.onnx", "vocabulary.txt"):
            here = root / "src" / folder / name
            assert archive.read(f"{folder}/{name}") == here.read_bytes()
    assert "ecoalign/py.typed" in names
    assert not [n for n in names if n.startswith(("lab/", "tests/", "perf/"))]
    assert wheel.stat().st_size <= LIMIT
