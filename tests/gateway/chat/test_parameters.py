"""Parameters that real servers take: each is refused by name, or has a bounded effect, whatever the
route."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import environment
from hostile import HostileServer
from hostile_parameters import MALFORMED, PARAMETERS, TOOLS
from hypothesis import given
from hypothesis import strategies as st
from served import well_behaved
from serving import ANY_METHOD, WAIT, Served, asking, serving

from ecoalign.errors import InputError
from ecoalign.gateway._errors import ApiError
from ecoalign.gateway.chat._parameters import ChatParameters, parse_pass
from ecoalign.gateway.chat._request import read_parameters
from ecoalign.models import SamplingParams

ROUTES = tuple(itertools.product(("ecoalign", "best-of-2", "base"), (False, True)))

ROWS = [
    pytest.param(name, value, id=f"{server}-{name}")
    for server, (_, values) in PARAMETERS.items()
    for name, value in values.items()
]

LISTED = ("--pass", "top_n_sigma", "--pass", "web_search_options=tokens=700")


@pytest.fixture(scope="module")
def upstream() -> Iterator[HostileServer]:
    with HostileServer(well_behaved) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(upstream: HostileServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("parameters")
    arguments = ("--model", "gpt-4o", "--base-url", upstream.url, "--budget", "200000")
    with serving(home, *arguments, *LISTED[:2], *ANY_METHOD) as served:
        yield served


def sent(upstream: HostileServer) -> list[dict[str, object]]:
    found = [request.json for request in upstream.received]
    upstream.received.clear()
    return found


def test_they_are_many_and_of_many_servers() -> None:
    assert len(PARAMETERS) >= 9
    assert len(ROWS) >= 150
    assert len({name for _, values in PARAMETERS.values() for name in values}) >= 140


@pytest.mark.parametrize(("name", "value"), ROWS)
def test_a_hostile_parameter_is_refused_by_name_on_every_route(
    gateway: Served, upstream: HostileServer, name: str, value: object
) -> None:
    upstream.received.clear()
    for method, stream in ROUTES:
        body = asking("hello", ecoalign={"method": method}, stream=stream)
        refused = gateway.post(body | {name: value})
        error = refused.json()["error"]
        assert (refused.status_code, error["type"]) == (400, "invalid_request_error"), error
        assert error["param"].partition(".")[0] == name
        assert name in error["message"]
    assert upstream.received == []


@pytest.mark.parametrize("method", ["ecoalign", "best-of-2", "base"])
def test_null_is_as_good_as_missing(gateway: Served, upstream: HostileServer, method: str) -> None:
    upstream.received.clear()
    nulls = {name: None for _, values in PARAMETERS.values() for name in values}
    reply = gateway.post(asking("hello", ecoalign={"method": method}, **nulls))
    assert reply.status_code == 200, reply.text
    for body in sent(upstream):
        assert not {name for name in nulls if body.get(name, "missing") is None}
        assert not body.keys() & (nulls.keys() - ChatParameters.model_fields.keys())


@pytest.mark.parametrize("tool", [*TOOLS, *MALFORMED], ids=lambda tool: json.dumps(tool)[:60])
def test_only_function_tools_with_a_schema_pass(
    gateway: Served, upstream: HostileServer, tool: object
) -> None:
    upstream.received.clear()
    good = {"type": "function", "function": {"name": "f"}}
    for method, stream in ROUTES:
        body = asking("hello", ecoalign={"method": method}, stream=stream, tools=[good, tool])
        refused = gateway.post(body)
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["param"].startswith("tools[1]")
    assert upstream.received == []


@pytest.mark.parametrize(
    ("choice", "known"),
    [
        ("required", True),
        ({"type": "function", "function": {"name": "f"}}, True),
        ({"type": "function", "function": {"name": "g"}}, False),
        ({"type": "mcp", "server_label": "x"}, False),
        ({"type": "file_search"}, False),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "auto",
                    "tools": [{"type": "function", "function": {"name": "f"}}],
                },
            },
            True,
        ),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "mcp"}]},
            },
            False,
        ),
    ],
    ids=str,
)
def test_a_choice_is_among_the_clients_tools(choice: object, known: bool) -> None:
    schema = {"type": "object", "$defs": {"x": {}}, "properties": {"x": {"$ref": "#/$defs/x"}}}
    function = {"name": "f", "parameters": schema}
    body = {"model": "m", "tools": [{"type": "function", "function": function}]}
    if known:
        assert read_parameters(body | {"tool_choice": choice}).tool_choice is not None
        return
    with pytest.raises(ApiError) as refused:
        read_parameters(body | {"tool_choice": choice})
    assert str(refused.value.param).startswith("tool_choice")


@given(st.text(min_size=1, max_size=200), st.sampled_from([0, False, "", "x", [], {}, 1]))
def test_no_name_is_taken_that_is_not_known(name: str, value: object) -> None:
    if name in ChatParameters.model_fields or name == "messages":
        return
    with pytest.raises(ApiError) as refused:
        read_parameters({"model": "m", name: value})
    assert refused.value.code == "unsupported_parameter"
    assert refused.value.param == name[:128]


# What hidden reasoning may cost -------------------------------------------------------------------

WITHIN: tuple[dict[str, object], ...] = (
    {"thinking": {"type": "enabled", "budget_tokens": 90}},
    {"reasoning": {"max_tokens": 90, "exclude": True}},
    {"thinking_token_budget": 90},
)

BESIDE: tuple[dict[str, object], ...] = (
    {"thinking_budget": 90},
    {"enable_thinking": True, "thinking_budget": 90},
)

FREE: tuple[dict[str, object], ...] = (
    {"thinking": {"type": "disabled"}},
    {"reasoning": {"effort": "high", "enabled": True}},
    {"reasoning_effort": "xhigh"},
    {"enable_thinking": False},
    {"thinking_budget": 0},
    {"chat_template_kwargs": {"enable_thinking": True, "thinking": False}},
)


@pytest.mark.parametrize("thinking", [*WITHIN, *BESIDE, *FREE], ids=str)
@pytest.mark.parametrize("method", ["ecoalign", "best-of-2", "base"])
def test_thoughts_and_answer_are_within_the_cap(
    gateway: Served, upstream: HostileServer, thinking: dict[str, object], method: str
) -> None:
    """Whether a server counts thoughts within the cap on the output or on top of it, both together
    are at most what is reserved."""
    upstream.received.clear()
    reply = gateway.post(asking("hello", ecoalign={"method": method}, max_tokens=200, **thinking))
    assert reply.status_code == 200, reply.text
    writing = [body for body in sent(upstream) if thinking.keys() <= body.keys()]
    assert writing
    for body in writing:
        assert {name: body[name] for name in thinking} == thinking
        assert body["max_tokens"] == (110 if thinking in BESIDE else 200)
    for name in ("max_tokens", "max_completion_tokens"):
        body = asking("hello", ecoalign={"method": method}, **{name: 90}, **thinking)
        refused = gateway.post(body)
        assert refused.status_code == (200 if thinking in FREE else 400), refused.text
    # Nor is there room in what a small budget leaves for an answer.
    if method == "base" and thinking not in FREE:
        tight = asking("hello", ecoalign={"method": method, "budget": 220}, max_tokens=200)
        assert gateway.post(tight | thinking).status_code == 400


# What the operator lists --------------------------------------------------------------------------


def test_what_the_operator_lists_passes_and_costs_what_it_may(
    upstream: HostileServer, tmp_path: Path
) -> None:
    given = {"top_n_sigma": {"deep": [1, None]}, "web_search_options": {"x": 1}}
    arguments = ("--model", "gpt-4o", "--base-url", upstream.url, *LISTED)
    with serving(tmp_path, *arguments, *ANY_METHOD) as served:
        upstream.received.clear()
        for method in ("ecoalign", "best-of-2"):
            reply = served.post(asking("hello", ecoalign={"method": method}, **given))
            assert reply.status_code == 200, reply.text
            bodies = sent(upstream)
            writing = [body for body in bodies if given.keys() & body.keys()]
            assert 0 < len(writing) < len(bodies)
            assert all({name: body[name] for name in given} == given for body in writing)
        caps = []
        for more in ({}, {"top_n_sigma": 1}, given):
            body = asking("hello", ecoalign={"method": "base", "budget": 3000}, **more)
            assert served.post(body).status_code == 200
            (found,) = sent(upstream)
            caps.append(found["max_tokens"])
        plain, free, dear = caps
        assert isinstance(plain, int)
        assert isinstance(free, int)
        assert isinstance(dear, int)
        # The names themselves are part of the request, and so of its bound.
        assert 0 < plain - free < 100
        assert 700 < plain - dear < 900
        refused = served.post(asking("hello", n_predict=5, ecoalign={"method": "base"}))
        assert refused.status_code == 400


def test_what_it_may_cost_is_reserved() -> None:
    listed = SamplingParams(50, {"web_search_options": {}, "top_p": 1}, {"web_search_options": 700})
    from ecoalign.models import ChatRequest, Message, TextPart, bound

    call = ChatRequest((Message("user", (TextPart("hello"),)),), 100, "answer")
    assert bound(listed.apply(call, None), "gpt-4o").completion == 750
    again = SamplingParams.from_json(listed.to_json())
    assert again == listed
    with pytest.raises(InputError, match="web_search_options"):
        SamplingParams(50, {"web_search_options": {}})


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("top_n_sigma", ("top_n_sigma", 0)),
        ("top_n_sigma=free", ("top_n_sigma", 0)),
        ("thinking=tokens=32000", ("thinking", 32000)),
        ("n_predict=tokens=5", ("n_predict", 5)),
        ("x=tokens=", None),
        ("x=tokens=-1", None),
        ("x=cheap", None),
        ("x=$5", None),
        ("", None),
        ("a b", None),
        ("messages", None),
        ("model", None),
        ("n", None),
        ("tools", None),
        ("max_tokens", None),
        ("stream", None),
        ("api_base", None),
        ("Models", None),
        ("extra_body=free", None),
    ],
)
def test_what_can_be_listed(text: str, read: tuple[str, int] | None) -> None:
    if read is not None:
        assert parse_pass(text) == read
        return
    with pytest.raises(InputError):
        parse_pass(text)


def test_a_list_that_cannot_be_is_bad_usage(tmp_path: Path) -> None:
    for name in ("api_key", "x=cheap"):
        done = subprocess.run(
            [sys.executable, "-m", "ecoalign", "serve", "--port", "0", "--pass", name],
            capture_output=True,
            cwd=tmp_path,
            env=environment(tmp_path),
            text=True,
            timeout=WAIT,
            check=False,
        )
        assert done.returncode == 2
        assert name.partition("=")[0] in done.stderr
