"""What a client asks of the answer: what may be asked, and what becomes of a call."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.budget import Budget
from ecoalign.errors import InputError, ModelError
from ecoalign.models import (
    ChatRequest,
    Message,
    SamplingParams,
    TextPart,
    ToolCall,
    attribute_error,
    bound,
    checked,
    request_key,
)
from ecoalign.models._sampling import OWNED, unsupported
from ecoalign.models.embedded import EmbeddedModel
from ecoalign.models.fake import FakeModel
from ecoalign.query import Query


def call(max_tokens: int = 512) -> ChatRequest:
    return ChatRequest((Message("user", (TextPart("hi"),)),), max_tokens, "execute", seed=1)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner),
    max_leaves=5,
)  # fmt: skip
names = st.sampled_from(["temperature", "top_p", "stop", "seed", "tools", "x_vendor", "logprobs"])


@given(st.dictionaries(names, values, max_size=4), st.none() | st.integers(1, 10**6))
def test_whatever_is_asked_goes_with_the_call_unchanged_and_into_the_trace(
    params: dict[str, object], most: int | None
) -> None:
    sampling = SamplingParams(most, params)
    sent = sampling.apply(call(), 2000)
    assert sent.client == params
    assert SamplingParams.from_json(json.loads(json.dumps(sampling.to_json()))) == sampling
    assert bool(sampling) == bool(params or most)
    assert sent.max_tokens == min(most or 512, 2000)


@pytest.mark.parametrize("name", sorted(OWNED))
def test_a_parameter_that_the_house_answers_for_is_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=name) as caught:
        SamplingParams(params={name: 1})
    assert caught.value.param == name


@pytest.mark.parametrize("value", [math.nan, math.inf, {1}, b"x", "\ud800", {"a": object()}])
def test_a_value_that_could_not_be_sent_is_refused_by_name(value: object) -> None:
    with pytest.raises(InputError, match="x_vendor") as caught:
        SamplingParams(params={"top_p": 1, "x_vendor": value})
    assert caught.value.param == "x_vendor"


@pytest.mark.parametrize("most", [0, -1, True, 2.5, "8"])
def test_a_cap_is_a_whole_number_above_0(most: Any) -> None:
    with pytest.raises(InputError) as caught:
        SamplingParams(max_tokens=most)
    assert caught.value.param == "max_tokens"


@pytest.mark.parametrize(
    ("asked", "budget", "cap"),
    [
        (None, Budget(tokens=40_000), 512),
        (1, Budget(tokens=40_000), 1),
        (512, Budget(tokens=40_000), 512),
        # A larger one is granted as far as a twentieth of the budget goes ...
        (1500, Budget(tokens=40_000), 1500),
        (4000, Budget(tokens=40_000), 2000),
        # ... and never takes the house's own away.
        (4000, Budget(tokens=3000), 512),
        (4000, Budget(seconds=5.0), 4000),
        (4000, Budget(usd=1.0), 512),
        (4000, Budget(usd=1.0, tokens=40_000), 2000),
    ],
)
def test_the_cap_of_the_answer(asked: int | None, budget: Budget, cap: int) -> None:
    most = budget.answer_cap(call().max_tokens)
    assert SamplingParams(asked).apply(call(), most).max_tokens == cap


def test_nothing_asked_leaves_the_call_and_its_key_as_they_were() -> None:
    request = call()
    assert SamplingParams().apply(request, None) is request
    assert not SamplingParams()


def test_two_clients_requests_have_two_keys() -> None:
    keys = {
        request_key(SamplingParams(params=params).apply(call(), None))
        for params in ({}, {"stop": "a"}, {"stop": "b"}, {"top_p": 1}, {"top_p": 0.5})
    }
    assert len(keys) == 5


def test_temperature_and_seed_are_those_of_the_call_for_models_that_read_no_more() -> None:
    sent = SamplingParams(params={"temperature": 1, "seed": 9}).apply(call(), None)
    assert (sent.temperature, sent.seed) == (1.0, 9)
    odd = SamplingParams(params={"temperature": "hot", "seed": True}).apply(call(), None)
    assert (odd.temperature, odd.seed, odd.client["seed"]) == (0.0, 1, True)


def test_a_variant_has_a_seed_of_its_own_and_everything_else_unchanged() -> None:
    sampling = SamplingParams(9, {"seed": 5, "top_p": 0.5})
    assert sampling.varied(2) == SamplingParams(9, {"seed": 7, "top_p": 0.5})
    assert SamplingParams(9, {"top_p": 0.5}).varied(2) == SamplingParams(9, {"top_p": 0.5})


TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {}}}},
}


@pytest.mark.parametrize(
    "params",
    [
        {"tools": [TOOL] * 3},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"ü" * 30: {}}}}},
        {"guided_json": {"a": ["b"] * 40}},
    ],
    ids=lambda params: next(iter(params)),
)
@pytest.mark.parametrize("family", ["gpt-4o", "unknown"])
def test_the_bound_counts_what_the_parameters_add_to_the_prompt(
    params: dict[str, object], family: str
) -> None:
    before = bound(call(), family)
    after = bound(SamplingParams(params=params).apply(call(), None), family)
    # Templates write a tool or a schema out as JSON, some indented, some with escapes.
    for ascii_ in (False, True):
        written = json.dumps(next(iter(params.values())), indent=4, ensure_ascii=ascii_)
        assert after.prompt - before.prompt > len(written.encode())
    assert after.completion == before.completion


def test_a_prediction_may_be_billed_beside_the_answer() -> None:
    params = {"prediction": {"type": "content", "content": "word " * 100}}
    before = bound(call(), "gpt-4o").completion
    after = bound(SamplingParams(params=params).apply(call(), None), "gpt-4o").completion
    assert after >= before + 500


def test_what_the_embedded_model_can_and_cannot_honour() -> None:
    model = EmbeddedModel()

    def wrong(**params: object) -> str | None:
        return unsupported(model, SamplingParams(params=params))

    for honoured in (
        {"temperature": 2, "seed": 3, "stop": ["a", "b"]},
        {"stop": "a", "temperature": 0, "user": "u", "top_p": 1.0},
        {"tools": [], "logprobs": False, "response_format": {"type": "text"}, "top_k": None},
    ):
        assert wrong(**honoured) is None
    for name, value in (
        ("temperature", 2.1), ("temperature", "1"), ("temperature", True), ("seed", -1),
        ("seed", 1.5), ("stop", [1]), ("stop", ""), ("stop", ["a"] * 5), ("top_p", 0.5),
        ("top_p", True), ("logprobs", True), ("tools", [TOOL]), ("x_vendor", 1),
        ("response_format", {"type": "json_object"}), ("tool_choice", "required"),
    ):  # fmt: skip
        assert wrong(user="u", **{name: value}) == name, (name, value)


async def test_the_embedded_model_says_so_itself_if_it_is_asked_all_the_same() -> None:
    request = SamplingParams(params={"top_k": 5}).apply(call(), None)
    with pytest.raises(InputError, match="top_k") as caught:
        await EmbeddedModel().complete(request)
    assert caught.value.param == "top_k"


def test_the_check_beforehand_names_model_parameter_and_value() -> None:
    with pytest.raises(InputError, match=r'embedded cannot honour stop = \["a", 1\]') as caught:
        checked(EmbeddedModel(), SamplingParams(params={"stop": ["a", 1]}))
    assert caught.value.param == "stop"
    anything = SamplingParams(3, {"x_vendor": 1})
    assert checked(FakeModel(lambda request: ""), anything) is anything


def test_a_rejected_cap_is_the_clients_only_if_the_client_set_one() -> None:
    for sampling, said, param in (
        (SamplingParams(9), "max_tokens is too large", "max_tokens"),
        (SamplingParams(9), "the context is too long", None),
        (SamplingParams(), "max_tokens is too large", None),
    ):
        error = ModelError(said, fault="rejected", billed=False)
        attribute_error(error, sampling)
        assert error.param == param
    late = ModelError("max_tokens", fault="timeout")
    attribute_error(late, SamplingParams(9))
    assert late.param is None


def test_a_query_carries_it() -> None:
    asked = SamplingParams(5, {"stop": "x"})
    assert Query.of(None, "what?", ("before",), asked).sampling is asked
    assert Query.of(None, "what?").sampling == SamplingParams()


def test_an_answer_is_bounded_as_long_as_it_will_be_when_it_is_scored() -> None:
    assert SamplingParams(9).stand_in(3) == "the the the "
    calls = SamplingParams(params={"tools": [TOOL]}).stand_in(60).encode()
    # Sixty tokens may be five calls of few words each.
    assert len(calls) > 5 * len(ToolCall("c", "look_up", '{"x": 1}').text)
