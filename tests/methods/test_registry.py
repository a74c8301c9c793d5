from __future__ import annotations

from typing import Any

import pytest

from ecoalign.budget import Budget, Ledger
from ecoalign.errors import SettingsError
from ecoalign.graph.economics import Economy
from ecoalign.methods import METHODS, open_method
from ecoalign.methods._direct import DIRECT
from ecoalign.methods._ecoalign import EcoAlign
from ecoalign.methods._registry import with_preset
from ecoalign.models.fake import FakeModel
from ecoalign.query import Query
from ecoalign.settings import PRESETS, Settings

ASKED = {"base", "cot", "cod", "safety-prompt", "ecso", "vlm-guard", "best-of-n", "ecoalign"}


@pytest.fixture
def plain() -> Settings:
    return Settings.load(env={})


@pytest.mark.parametrize("name", METHODS)
def test_every_name_opens_a_method_of_that_name(name: str, plain: Settings) -> None:
    method = open_method(name, plain)
    assert method.name == name
    assert METHODS[name]
    assert "\n" not in METHODS[name]


def test_every_method_and_every_preset_is_there() -> None:
    assert ASKED | {f"ecoalign:{preset}" for preset in PRESETS} == set(METHODS)


def test_n_can_be_named(plain: Settings) -> None:
    assert open_method("best-of-16", plain).name == "best-of-16"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("bases", "'base'"), ("eco", "method"), ("", "method"), ("base:paper", "method")],
)
def test_an_unknown_name_gets_a_hint(name: str, hint: str, plain: Settings) -> None:
    with pytest.raises(SettingsError, match=hint):
        open_method(name, plain)


@pytest.mark.parametrize("name", ["ecoalign:", "ecoalign:papers"])
def test_an_unknown_preset_gets_a_hint(name: str, plain: Settings) -> None:
    with pytest.raises(SettingsError, match="paper"):
        open_method(name, plain)


def settings_of(name: str, settings: Settings) -> Settings:
    method = open_method(name, settings)
    assert isinstance(method, EcoAlign)
    return method.settings


def test_the_bare_name_takes_the_settings_as_they_are() -> None:
    paper = Settings.load("paper", env={}, delta=0.5)
    assert settings_of("ecoalign", paper) is paper


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_what_it_would_be_if_it_had_been_read(preset: str) -> None:
    """Under another preset's values, but over what was set one by one."""
    own: dict[str, Any] = {"max_thoughts": 7, "budget": Budget(tokens=4321), "economy": "no-cost"}
    given = Settings.load("fixed-horizon", env={"ECOALIGN_DELTA": "0.5"}, **own)
    wanted = Settings.load(preset, env={"ECOALIGN_DELTA": "0.5"}, **own)
    changed = settings_of(f"ecoalign:{preset}", given)
    assert changed == wanted
    assert changed.preset == preset
    assert changed.economy is Economy.NO_COST
    assert settings_of(f"ecoalign:{preset}", Settings.load(env={})) == Settings.load(preset, env={})


def test_a_preset_that_does_not_go_with_the_settings_says_so() -> None:
    with pytest.raises(SettingsError, match="horizon_unit"):
        with_preset(Settings.load(env={}, budget="5s"), "paper")


class Watched(FakeModel):
    """Counts how often it is closed."""

    closed = 0

    async def aclose(self) -> None:
        self.closed += 1


async def test_closing_a_method_leaves_the_model_alone(plain: Settings) -> None:
    model = Watched(lambda request: "A dog.")
    for name in METHODS:
        method = open_method(name, plain)
        if name in DIRECT:
            ledger = Ledger(Budget(tokens=40_000), lambda model, usage: None)
            answer = await method.answer(Query.of(None, "What is it?"), model, ledger)
            assert answer.answer == "A dog."
        await method.aclose()
        await method.aclose()
    assert model.closed == 0
