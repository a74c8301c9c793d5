from __future__ import annotations

from dataclasses import replace

import pytest
from full_samples import CAPTION, OTHER, PROPOSE, SCAN, STEP, VIEW, said, score_request

from ecoalign.errors import ModelError, SettingsError
from ecoalign.graph import ActionKind, Candidate, Forecast, Region
from ecoalign.models import ImagePart, Profile, TextPart
from ecoalign.prompts import TokenLimits
from ecoalign.prompts.dialect import dialect_of
from ecoalign.prompts.full import FullDialect
from ecoalign.prompts.requests import ExecuteRequest, PromptRequest, WriteRequest

FORECAST = (Forecast(1.0, 0.5, 100.0),)
WRITE = WriteRequest("What is the sum?", (VIEW,), (CAPTION, STEP))


def execute(kind: ActionKind, text: str = "the left sign") -> ExecuteRequest:
    region = Region(0.1, 0.2, 0.5, 1.0, image=1) if kind is ActionKind.LOOK else None
    action = Candidate(kind, text, FORECAST, region)
    partners = (OTHER,) if kind is ActionKind.FUSE else ()
    return ExecuteRequest(action, "What is the sum?", (VIEW,), (CAPTION, STEP), partners)


CROP = ImagePart(b"crop", "image/png", 32, 32, "high")
REQUESTS: list[PromptRequest] = [
    SCAN,
    PROPOSE,
    *(execute(kind) for kind in ActionKind),
    WRITE,
    score_request(),
]


def test_it_is_found_by_name() -> None:
    assert isinstance(dialect_of(Profile(dialect="full")), FullDialect)
    assert dialect_of(Profile(dialect="full")).name == "full"


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_rendering_is_pure(request_: PromptRequest) -> None:
    call = FullDialect().render(request_)
    assert call == FullDialect().render(request_)
    assert [message.role for message in call.messages] == ["system", "user"]
    assert call.messages[-1].images == getattr(request_, "views", ())
    assert call.temperature == 0


def test_stages_and_limits() -> None:
    limits = TokenLimits(11, 12, 13, 14, 15, 16, 17, 18)
    dialect = FullDialect(limits)
    caps = {kind: dialect.render(execute(kind)).max_tokens for kind in ActionKind}
    assert caps == {"think": 14, "look": 15, "fuse": 14, "answer": 16, "refuse": 17}
    found = {dialect.render(request).stage for request in REQUESTS}
    assert found == {"scan", "propose", "execute", "write", "score"}
    assert dialect.render(SCAN).max_tokens == 11
    assert dialect.render(WRITE).max_tokens == 16
    assert dialect.score_calls(score_request())[0].max_tokens == 18


def test_only_scoring_asks_for_log_probabilities_and_all_is_greedy() -> None:
    dialect = FullDialect(profile=Profile(logprobs=5))
    for request in REQUESTS:
        call = dialect.render(request)
        assert call.top_logprobs == (5 if call.stage == "score" else 0)
        assert call.temperature == 0.0
        assert (call.schema is None) == (call.stage in {"execute", "write"})


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_every_cap_leaves_room_to_think_once(request_: PromptRequest) -> None:
    thinking = FullDialect(TokenLimits(thinking=700)).render(request_).max_tokens
    assert thinking == FullDialect().render(request_).max_tokens + 700
    of_the_profile = FullDialect(profile=Profile(thinking=700)).render(request_).max_tokens
    assert of_the_profile == thinking


@pytest.mark.parametrize("field", ["scan", "propose", "forecast", "answer", "score"])
def test_limits_are_checked(field: str) -> None:
    with pytest.raises(SettingsError, match=field):
        replace(TokenLimits(), **{field: 0})


def check_strict(schema: object) -> int:
    """The rules of OpenAI's strict mode; returns how many objects were checked."""
    assert isinstance(schema, dict)
    assert set(schema) <= {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "maxItems",
        "maxLength",
    }
    if schema["type"] == "object":
        assert schema["additionalProperties"] is False
        assert sorted(schema["required"]) == sorted(schema["properties"])
        return 1 + sum(check_strict(inner) for inner in schema["properties"].values())
    if schema["type"] == "array":
        assert 1 <= schema["maxItems"] <= 8
        return check_strict(schema["items"])
    assert schema["type"] in {"string", "integer", "number"}
    assert schema["type"] != "string" or "enum" in schema or 1 <= schema["maxLength"] <= 600
    return 0


@pytest.mark.parametrize(("request_", "objects"), [(SCAN, 1), (PROPOSE, 2), (score_request(), 1)])
def test_schemas_are_strict_and_the_same_for_every_request(
    request_: PromptRequest, objects: int
) -> None:
    # A server compiles a schema once; one that changed with the request would cost every time.
    dialect = FullDialect()
    schema = dialect.render(request_).schema
    assert check_strict(schema) == objects
    assert dialect.render(replace(request_, question="Another?")).schema == schema


def test_images_are_numbered_from_one_each_before_its_picture() -> None:
    for request, count in ((SCAN, 1), (PROPOSE, 2)):
        parts = FullDialect().render(request).messages[-1].parts
        expected = [part for n in range(count) for part in (TextPart(f"Image {n + 1}:"), VIEW)]
        assert list(parts[: 2 * count]) == expected


@pytest.mark.parametrize("views", [(), (VIEW, VIEW)])
def test_a_look_says_what_it_shows_of_which_image(views: tuple[ImagePart, ...]) -> None:
    look = replace(execute(ActionKind.LOOK), views=views, crop=CROP)
    judged = replace(score_request(kind="look"), views=views, crop=CROP, region=look.action.region)
    for request in (look, judged):
        message = FullDialect().render(request).messages[-1]
        assert message.images == (*views, CROP)
        before = message.parts[message.parts.index(CROP) - 1]
        assert before == TextPart(
            "Close view of a part of Image 2 (10% to 50% of its width from the left, 20% to 100% "
            "of its height from the top):"
        )


def test_a_proposed_task_is_data_and_cannot_fill_our_templates() -> None:
    text = FullDialect().render(execute(ActionKind.LOOK, "{where} CANARY")).messages[-1].text
    fence = text.split("BEGIN ", 1)[1].split()[0]
    assert "{where} CANARY" in text[: text.rindex(f"END {fence}")]
    assert "CANARY" not in text[text.rindex(f"END {fence}") :]


def test_a_fusion_shows_its_partners() -> None:
    text = FullDialect().render(execute(ActionKind.FUSE)).messages[-1].text
    assert OTHER.text in text
    assert OTHER.text not in FullDialect().render(execute(ActionKind.THINK)).messages[-1].text


def test_the_text_of_a_step_is_stripped_and_must_be_there() -> None:
    dialect = FullDialect()
    for request in (execute(ActionKind.THINK), WRITE):
        assert dialect.parse_execute(request, said(" 19. \n")) == "19."
        with pytest.raises(ModelError) as caught:
            dialect.parse_execute(request, said(" "))
        assert caught.value.fault == "bad-response"
