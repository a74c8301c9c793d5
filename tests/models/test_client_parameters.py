"""What a client's parameters may cost, and what of that is reserved."""

from __future__ import annotations

import pytest

from ecoalign.errors import InputError
from ecoalign.models import ChatRequest, Message, SamplingParams, TextPart, Thinking, bound
from ecoalign.models.fake import FakeModel

CALL = ChatRequest((Message("user", (TextPart("hello"),)),), 100, "answer")


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({}, None),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 9}},
            ("thinking.budget_tokens", 9, False),
        ),
        ({"reasoning": {"max_tokens": 9}}, ("reasoning.max_tokens", 9, False)),
        ({"thinking_token_budget": 9}, ("thinking_token_budget", 9, False)),
        ({"thinking_budget": 9}, ("thinking_budget", 9, True)),
        ({"thinking_budget": "9"}, ("thinking_budget", 9, True)),
        ({"thinking_budget": 0}, None),
        ({"max_tokens": 9}, None),
        # Of several the largest, and the dearer reading of how they count.
        ({"thinking_budget": 5, "thinking_token_budget": 9}, ("thinking_token_budget", 9, True)),
        (
            {"extra_body": {"google": {"thinking_config": {"thinking_budget": 9}}}},
            ("thinking_config.thinking_budget", 9, True),
        ),
        # A client's own names are no server's.
        ({"tools": [{"function": {"parameters": {"budget_tokens": 9}}}]}, None),
        ({"logit_bias": {"thinking_budget": -9}}, None),
    ],
    ids=str,
)
def test_budgets_of_thoughts(
    params: dict[str, object], found: tuple[str, int, bool] | None
) -> None:
    read = Thinking.of(params)
    assert (None if read is None else (read.param, read.tokens, read.beside)) == found


def test_a_budget_without_a_bound_is_none() -> None:
    for params in ({"thinking_budget": -1}, {"thinking_budget": -1, "thinking_token_budget": 5}):
        with pytest.raises(InputError, match="thinking_budget is -1") as caught:
            Thinking.of(params)
        assert caught.value.param == "thinking_budget"


@pytest.mark.parametrize(
    ("params", "cap", "most", "sent", "reserved"),
    [
        ({"thinking_budget": 30}, 80, None, 50, 80),
        ({"thinking_budget": 30}, None, None, 70, 100),
        ({"thinking_budget": 30}, 80, 60, 30, 60),
        ({"thinking": {"budget_tokens": 30}}, 80, None, 80, 80),
        ({"top_p": 1.0}, 80, 60, 60, 60),
    ],
    ids=str,
)
def test_thoughts_and_answer_are_reserved_together(
    params: dict[str, object], cap: int | None, most: int | None, sent: int, reserved: int
) -> None:
    call = SamplingParams(cap, params).apply(CALL, most)
    assert call.max_tokens == sent
    assert bound(call, "gpt-4o").completion == reserved
    assert FakeModel(lambda request: "x").bound(call).completion == reserved


@pytest.mark.parametrize("most", [None, 30])
def test_thoughts_that_leave_no_room_are_refused(most: int | None) -> None:
    sampling = SamplingParams(30 if most is None else 80, {"thinking_budget": 30})
    with pytest.raises(InputError, match="30 tokens") as caught:
        sampling.apply(CALL, most)
    assert caught.value.param == "thinking_budget"
    # Whoever says what they cost may have them.
    free = SamplingParams(30, {"thinking_budget": 30}, {"thinking_budget": 40}).apply(CALL, None)
    assert (free.max_tokens, bound(free, "gpt-4o").completion) == (30, 70)


@pytest.mark.parametrize(
    "params",
    [
        {"n_predict": 9},
        {"N_Predict": 9},
        {"min_tokens": 9},
        {"best_of": 2},
        {"web_search_options": {}},
        {"options": {"num_predict": 9}},
        {"extra_body": {"google": {"cached_content": "x"}}},
        {"documents": ["x"]},
    ],
    ids=str,
)
def test_what_a_call_may_cost_more_by_is_refused(params: dict[str, object]) -> None:
    (name,) = params
    with pytest.raises(InputError, match="cannot be passed on") as caught:
        SamplingParams(None, params)
    assert caught.value.param == name


def test_what_is_counted_or_scored_passes() -> None:
    params = {"tools": [], "prediction": {"content": "x"}, "service_tier": "flex", "min_p": 0.1}
    sampling = SamplingParams(5, params, {"min_p": 3})
    assert SamplingParams.from_json(sampling.to_json()) == sampling
    assert SamplingParams.from_json({}) == SamplingParams()
    with pytest.raises(InputError):
        SamplingParams.from_json({"extra": 5})
