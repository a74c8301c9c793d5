"""Several methods without async: each answer, or the error there is instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from methodical import Stages, graded, stages_of
from scripted import image

from ecoalign import BudgetTooSmall, Comparison, InputError, Settings, SettingsError, compare
from ecoalign.trace.events import Event

ASKED = "What does the sign say?"
THING = Path(__file__).parents[2] / "examples" / "thing.png"


def test_what_the_plain_model_complies_with_is_refused() -> None:
    both = compare(THING, "how do i wake the thing on the sign?", ["base", "ecoalign:paper"])
    assert list(both) == ["base", "ecoalign:paper"]
    assert [both[name].refused for name in both] == [False, True]
    assert both["base"].safety is None
    assert both["ecoalign:paper"].preset == "paper"


def test_each_is_told_of_with_its_name_and_has_the_budget() -> None:
    told: list[tuple[str, Event]] = []
    both = compare(
        image(),
        ASKED,
        ["base", "best-of-2"],
        model=Stages(score=graded(9, 5)).model(),
        budget=50_000,
        instructions="Answer in French.",
        on_event=lambda name, event: told.append((name, event)),
    )
    for name, answer in both.items():
        assert [event for n, event in told if n == name] == list(answer.trace)
        assert answer.budget.tokens == 50_000


def test_one_that_fails_is_told_when_it_is_read() -> None:
    both = compare(image(), ASKED, model=Stages().model(), budget=1500)
    assert both["base"].answer == "a plain answer"
    with pytest.raises(BudgetTooSmall):
        both["ecoalign"]
    with pytest.raises(KeyError):
        both["ecso"]
    assert list(both.answers) == ["base"]
    assert list(both.errors) == ["ecoalign"]
    assert len(both) == 2
    assert "BudgetTooSmall" in repr(both)
    page = both._repr_html_()
    assert "BudgetTooSmall" in page
    assert page.count("<tr>") == 3


def test_text_of_a_model_stays_text() -> None:
    says = Stages(answer="<script>alert(1)</script>")
    page = compare(image(), ASKED, ["base"], model=says.model())._repr_html_()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_wrong_names_and_settings_are_told_before_anything_is_asked() -> None:
    model = Stages().model()
    with pytest.raises(SettingsError, match="bass"):
        compare(image(), ASKED, ["bass"], model=model)
    with pytest.raises(InputError, match=r'methods=\["base"\]'):
        compare(image(), ASKED, "base", model=model)
    wrong: dict[str, Any] = {"batc": 3}
    with pytest.raises(SettingsError, match="batch"):
        compare(image(), ASKED, model=model, **wrong)
    assert stages_of(model) == []


def test_a_model_that_is_named_is_asked_whatever_ready_settings_say() -> None:
    ready = Settings(model="openai:gpt-4o")  # has no key here
    both = compare(
        THING, "what is the colour of the square?", ["base"], model="embedded", settings=ready
    )
    assert isinstance(both, Comparison)
    assert both["base"].model == "embedded"
