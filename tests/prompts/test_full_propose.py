from __future__ import annotations

import json
from dataclasses import replace

import pytest
from full_samples import PROPOSE, said
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.errors import ModelError
from ecoalign.graph import ActionKind, Forecast, Region
from ecoalign.graph._thoughts import ThoughtId
from ecoalign.graph.economics import UtilityAggregator
from ecoalign.models import BoxConvention, Profile
from ecoalign.prompts.full import FullDialect

dialect = FullDialect()
THINK: dict[str, object] = {
    "kind": "think",
    "text": "Add them.",
    "region": [],
    "image": 0,
    "partners": [],
    "forecast": [[9, 3]],
}
LOOK = THINK | {"kind": "look", "region": [100, 200, 500, 1000], "image": 2}
FUSE = THINK | {"kind": "fuse", "partners": [4]}


def answer(*actions: object) -> str:
    return json.dumps({"actions": actions})


def kinds(text: str, finish_reason: str = "stop") -> tuple[list[str], int]:
    result = dialect.parse_propose(PROPOSE, said(text, finish_reason))
    return [candidate.kind.value for candidate in result.candidates], result.dropped


def test_all_kinds_are_read() -> None:
    request = replace(PROPOSE, limit=9)
    text = answer(THINK, LOOK, FUSE, THINK | {"kind": "answer"}, THINK | {"kind": "refuse"})
    result = dialect.parse_propose(request, said(text))
    assert [candidate.kind for candidate in result.candidates] == list(ActionKind)
    assert result.dropped == 0
    think, look, fuse = result.candidates[:3]
    assert think.text == "Add them."
    assert (think.region, think.partners) == (None, ())
    assert think.forecast == (Forecast(1.0, 3 / 9),)
    assert look.region == Region(0.1, 0.2, 0.5, 1.0, image=1)
    assert fuse.partners == (ThoughtId(4),)


def test_fields_of_another_kind_are_ignored() -> None:
    text = answer(THINK | {"region": [9], "image": 77, "partners": [99]})
    candidate = dialect.parse_propose(PROPOSE, said(text)).candidates[0]
    assert (candidate.region, candidate.partners) == (None, ())


def test_missing_fields_that_do_not_apply_are_no_fault() -> None:
    assert kinds(answer({"kind": "answer", "forecast": [[9, 9, 50]]})) == (["answer"], 0)


@pytest.mark.parametrize(
    "bad",
    [
        "explode",
        "look",
        None,
        {},
        THINK | {"kind": "explode"},
        THINK | {"kind": ["think"]},
        LOOK | {"region": []},
        LOOK | {"region": None},
        LOOK | {"region": [100, 200, 500]},
        LOOK | {"region": [100, 200, 100, 900]},
        LOOK | {"region": [100, 200, 500, 1101]},
        LOOK | {"region": [-100, 200, 500, 900]},
        LOOK | {"region": [100, 200, 500, float("nan")]},
        LOOK | {"region": "the left sign"},
        LOOK | {"image": 3},
        LOOK | {"image": 0},
        LOOK | {"image": -1},
        LOOK | {"image": 0.5},
        LOOK | {"image": True},
        LOOK | {"image": None},
        FUSE | {"partners": []},
        FUSE | {"partners": [2]},
        FUSE | {"partners": [True]},
        FUSE | {"partners": [[4]]},
    ],
)
def test_a_malformed_candidate_is_dropped_and_counted(bad: object) -> None:
    assert kinds(answer(bad, THINK)) == (["think"], 1)


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("think", "think"),
        (" Answer", "answer"),
        (THINK | {"text": 5}, "think"),
        (THINK | {"text": None}, "think"),
        (THINK | {"kind": "refuse", "text": ["no"]}, "refuse"),
    ],
)
def test_what_an_action_can_do_without_loses_none(action: object, kind: str) -> None:
    (candidate,) = dialect.parse_propose(PROPOSE, said(answer(action))).candidates
    assert (candidate.kind.value, candidate.text) == (kind, "")


@pytest.mark.parametrize("partners", [[4, 2], ["4"], 4, "4", [None, 4, 4]])
def test_partners_on_offer_are_fused(partners: object) -> None:
    (fuse,) = dialect.parse_propose(PROPOSE, said(answer(FUSE | {"partners": partners}))).candidates
    assert fuse.partners == (ThoughtId(4),)


FLAT = (Forecast(1.0, 3 / 9),)
UNKNOWN = (Forecast(1.0, 0.5),)
"""As safe as the path, which is harmless here."""
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("forecast", "read"),
    [
        ([[9, 3]], FLAT),
        ([9, 3], FLAT),
        ([9, 3, 120], FLAT),
        ([[9, 3, 120], "and so on"], FLAT),
        ([[9, 3, 120], [None, "x", 9]], FLAT),
        ([[9, 3, 120, 1]], FLAT),
        ([[9, 3, NAN], [4.5, 9, -INF]], (*FLAT, Forecast(0.0, 1.0))),
        ([{"safety": 9, "utility": 3, "tokens": 120}], FLAT),
        ({"safety": 9, "utility": 3, "cost": None}, FLAT),
        ([[[9, 3]]], FLAT),
        ([[[9, 3]], [[9, 3]]], FLAT * 2),
        ([[10, 3]], FLAT),
        ([[1e300, 3]], FLAT),
        ([[9, 11]], (Forecast(1.0, 1.0),)),
        ([[-1, -1]], (Forecast(-1.0, 0.0),)),
        ([[1.0, 0.25]], (Forecast(1.0, 0.25),)),
        ([[0.5, 0]], (Forecast(0.0, 0.0),)),
        ([[0.5, 0, 120]], (Forecast(0.0, 0.0),)),
        ([[1, 1]], (Forecast(-7 / 9, 1 / 9),)),
        ([[9]], UNKNOWN),
        ([9], UNKNOWN),
        ([[3, NAN]], (Forecast(-3 / 9, 0.5),)),
        ([[NAN, 3]], FLAT),
        ([[None, 3]], FLAT),
        ([[True, 3]], FLAT),
        ([["0", 3]], FLAT),
        ([[-INF, 3]], FLAT),
        ([[10**400, 3]], FLAT),
        ([[[], 3]], UNKNOWN),
        ([], UNKNOWN),
        ([[]], UNKNOWN),
        ([[], [9, 3]], UNKNOWN),
        (None, UNKNOWN),
        ("good", UNKNOWN),
        ({}, UNKNOWN),
        (True, UNKNOWN),
        ([[False, None]], UNKNOWN),
    ],
)
def test_a_forecast_is_read_with_tolerance(forecast: object, read: tuple[Forecast, ...]) -> None:
    result = dialect.parse_propose(PROPOSE, said(answer(THINK | {"forecast": forecast})))
    found = result.candidates[0].forecast
    assert [step.cost for step in found] == [0.0] * len(read)
    assert [grade for step in found for grade in (step.safety, step.utility)] == pytest.approx(
        [grade for step in read for grade in (step.safety, step.utility)]
    )


def test_no_prompt_asks_for_costs() -> None:
    text = dialect.render(PROPOSE).messages[-1].text
    assert "[safety, utility]" in text
    assert [word for word in ("token", "cost", "price") if word in text] == []
    step = dialect.render(PROPOSE).schema["properties"]["actions"]["items"]  # type: ignore[index]
    assert step["properties"]["forecast"]["items"]["maxItems"] == 2


def test_a_forecast_asks_for_what_a_path_adds_up() -> None:
    asked = {
        kind: dialect.render(replace(PROPOSE, utility=kind)).messages[-1].text
        for kind in UtilityAggregator
    }
    assert "(a full and correct answer)" in asked[UtilityAggregator.LAST]
    assert "the step itself adds" in asked[UtilityAggregator.SUM]
    assert "the step itself adds" not in asked[UtilityAggregator.LAST]


def test_without_a_forecast_an_action_is_no_safer_than_its_path() -> None:
    risky = replace(PROPOSE.path[-1], safety=0.2)
    request = replace(PROPOSE, path=(PROPOSE.path[0], risky))
    text = answer({"kind": "think", "text": "Add them."})
    assert dialect.parse_propose(request, said(text)).candidates[0].forecast[0].safety == 0.2


@pytest.mark.parametrize(
    "action",
    [
        THINK | {"kind": " Think "},
        THINK | {"kind": "THINK"},
        {"kind": "think"},
    ],
)
def test_a_kind_is_read_in_any_case_and_needs_nothing_beside_it(action: object) -> None:
    assert kinds(answer(action)) == (["think"], 0)


@pytest.mark.parametrize("image", [2, 2.0, "2", "Image 2", "image_2", "[Image 2]"])
def test_an_image_is_known_by_its_number_from_one(image: object) -> None:
    text = answer(LOOK | {"image": image})
    assert dialect.parse_propose(PROPOSE, said(text)).candidates[0].region == Region(
        0.1, 0.2, 0.5, 1.0, image=1
    )


@pytest.mark.parametrize("image", [1, 0, None, "Image 1"])
def test_the_only_image_needs_no_number(image: object) -> None:
    request = replace(PROPOSE, views=PROPOSE.views[:1])
    text = answer(LOOK | {"image": image})
    region = dialect.parse_propose(request, said(text)).candidates[0].region
    assert region is not None
    assert region.image == 0


def test_partners_do_not_repeat() -> None:
    candidate = dialect.parse_propose(PROPOSE, said(answer(FUSE | {"partners": [4, 4]})))
    assert candidate.candidates[0].partners == (4,)


def test_fractions_are_understood_as_such() -> None:
    text = answer(LOOK | {"region": [0, 0.25, 0.5, 1]})
    assert dialect.parse_propose(PROPOSE, said(text)).candidates[0].region == Region(
        0.0, 0.25, 0.5, 1.0, image=1
    )


CONVENTIONS: list[tuple[BoxConvention, str, list[float]]] = [
    ("xyxy-1000", "[x0, y0, x1, y1] in thousandths", [100, 200, 500, 1000]),
    ("yxyx-1000", "[y0, x0, y1, x1] in thousandths", [200, 100, 1000, 500]),
    ("xyxy-1", "[x0, y0, x1, y1] as fractions", [0.1, 0.2, 0.5, 1]),
    ("xyxy-1024", "[x0, y0, x1, y1] in steps of 1/1024", [102.4, 204.8, 512, 1024]),
    ("xyxy-pixels", "(Image 1 is 64 x 48, Image 2 is 64 x 48)", [6.4, 9.6, 32, 48]),
    ("xywh-pixels", "[x, y, width, height] in pixels", [6.4, 9.6, 25.6, 38.4]),
]


@pytest.mark.parametrize(("convention", "asked", "numbers"), CONVENTIONS)
def test_a_region_is_asked_for_and_read_in_the_models_own_way(
    convention: BoxConvention, asked: str, numbers: list[float]
) -> None:
    speaking = FullDialect(profile=Profile(boxes=convention))
    call = speaking.render(PROPOSE)
    assert asked in call.messages[-1].text
    kind = "number" if convention == "xyxy-1" else "integer"
    assert f'"region": {{"type": "array", "items": {{"type": "{kind}"}}' in json.dumps(call.schema)
    text = answer(LOOK | {"region": numbers})
    region = speaking.parse_propose(PROPOSE, said(text)).candidates[0].region
    assert region is not None
    edges = (region.x0, region.y0, region.x1, region.y1)
    assert edges == pytest.approx((0.1, 0.2, 0.5, 1.0))
    assert region.image == 1


def test_nothing_to_look_at_nothing_to_fuse() -> None:
    request = replace(PROPOSE, views=(), others=())
    result = dialect.parse_propose(request, said(answer(LOOK, FUSE, THINK)))
    assert [candidate.kind.value for candidate in result.candidates] == ["think"]
    assert result.dropped == 2
    task = dialect.render(request).messages[-1].text
    assert "\nlook:" not in task
    assert "\nfuse:" not in task
    full = dialect.render(PROPOSE).messages[-1].text
    assert "\nlook:" in full
    assert "\nfuse:" in full


def test_more_than_asked_for_is_cut() -> None:
    assert kinds(answer(THINK, LOOK, FUSE, THINK, THINK)) == (["think", "look", "fuse"], 2)


def test_a_forecast_beyond_the_horizon_is_cut() -> None:
    text = answer(THINK | {"forecast": [[9, 3, 10]] * 8})
    candidate = dialect.parse_propose(PROPOSE, said(text)).candidates[0]
    assert len(candidate.forecast) == PROPOSE.steps + 1


@pytest.mark.parametrize(
    ("last", "end", "kept"),
    [
        # Its region ends in 10 and was about to end in 1000.
        (LOOK | {"text": "", "region": [1, 2, 500, 1000]}, "00]", ["think"]),
        (FUSE | {"partners": [4, 44]}, "4]", ["think"]),
        (THINK | {"forecast": [[9, 30]]}, "0]]", ["think", "think"]),
        (THINK | {"forecast": [[9, 30]]}, ", 30]]", ["think", "think"]),
        ({"kind": "answer", "text": "It is"}, '"}]', ["think", "answer"]),
        ({"kind": "answer"}, 'wer"}]', ["think"]),
    ],
)
def test_an_answer_that_is_cut_off_loses_only_what_it_has_not_said(
    last: object, end: str, kept: list[str]
) -> None:
    whole = answer(THINK, last)
    cut = whole[: whole.rindex(end)]
    assert kinds(cut, "length") == (kept, 2 - len(kept))
    # A reply that ended of itself is whole, whatever it lacks of JSON.
    assert len(kinds(answer(THINK, LOOK)[:-2])[0]) == 2


def test_the_only_action_needs_no_list() -> None:
    assert kinds(json.dumps({"actions": THINK})) == (["think"], 0)
    assert kinds(json.dumps(THINK)) == (["think"], 0)


def test_a_bare_list_is_accepted() -> None:
    assert kinds(json.dumps([THINK])) == (["think"], 0)


def test_no_candidates_is_an_answer() -> None:
    assert kinds(answer()) == ([], 0)


@pytest.mark.parametrize(
    "text", ["", "no", "{}", '{"actions": 3}', '{"actions": null}', "<html></html>"]
)
def test_no_list_at_all_is_a_bad_response(text: str) -> None:
    with pytest.raises(ModelError) as caught:
        dialect.parse_propose(PROPOSE, said(text))
    assert caught.value.fault == "bad-response"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
actions = st.fixed_dictionaries(
    {
        "kind": st.sampled_from([*(kind.value for kind in ActionKind), "other"]) | json_values,
        "text": st.text(max_size=5) | json_values,
        "region": st.lists(st.integers(-5, 1005), min_size=4, max_size=4) | json_values,
        "image": st.integers(-1, 3) | json_values,
        "partners": st.lists(st.integers(0, 5), max_size=3) | json_values,
        "forecast": st.lists(
            st.lists(st.integers(-1, 11) | st.floats(), min_size=3, max_size=3), max_size=4
        )
        | json_values,
    }
)


@settings(max_examples=75)
@given(st.lists(actions | json_values, max_size=6))
def test_what_is_kept_is_always_well_formed(items: list[object]) -> None:
    result = dialect.parse_propose(PROPOSE, said(json.dumps({"actions": items})))
    assert len(result.candidates) + result.dropped == len(items)
    assert len(result.candidates) <= PROPOSE.limit
    for candidate in result.candidates:
        assert 1 <= len(candidate.forecast) <= PROPOSE.steps + 1
        for step in candidate.forecast:
            assert -1 <= step.safety <= 1
            assert 0 <= step.utility <= 1
            assert step.cost == 0.0
        assert (candidate.kind is ActionKind.LOOK) == (candidate.region is not None)
        assert (candidate.kind is ActionKind.FUSE) == bool(candidate.partners)
        if candidate.region is not None:
            region = candidate.region
            assert 0 <= region.x0 < region.x1 <= 1
            assert 0 <= region.y0 < region.y1 <= 1
            assert 0 <= region.image < 2


@settings(max_examples=200)
@given(json_values | st.lists(st.lists(json_values, max_size=4), max_size=4))
def test_nothing_in_a_forecast_loses_an_action(forecast: object) -> None:
    text = json.dumps({"actions": [LOOK | {"forecast": forecast}]})
    result = dialect.parse_propose(PROPOSE, said(text))
    assert result.dropped == 0
    for step in result.candidates[0].forecast:
        assert -1 <= step.safety <= 1
        assert 0 <= step.utility <= 1


def test_the_prompts_own_example_is_well_formed() -> None:
    for steps in (0, 1, 5):
        request = replace(PROPOSE, steps=steps)
        example = dialect.render(request).messages[-1].text.splitlines()[-1]
        result = dialect.parse_propose(request, said(example))
        assert (len(result.candidates), result.dropped) == (1, 0)


def test_room_grows_with_what_is_asked_for() -> None:
    small = dialect.render(replace(PROPOSE, limit=1, steps=0)).max_tokens
    assert small < dialect.render(replace(PROPOSE, limit=4, steps=0)).max_tokens
    assert small < dialect.render(replace(PROPOSE, limit=1, steps=6)).max_tokens
