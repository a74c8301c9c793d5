"""Settings: ranges, precedence, origins, presets, and messages that say what to do."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import TYPE_CHECKING

import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ecoalign.budget import Budget
from ecoalign.errors import InputError, SettingsError
from ecoalign.graph.economics import Economy, SafetyAggregator, UtilityAggregator
from ecoalign.models import Usage
from ecoalign.settings import PRESET_TEXTS, PRESETS, Settings, default_budget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and a user's configuration folder that is returned."""
    user, here = tmp_path / "user", tmp_path / "here"
    user.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(platformdirs, "user_config_path", lambda *_, **__: user)
    return user


# -- ranges ---------------------------------------------------------------------------------------

# name: values at the edges, values just beyond them or of the wrong kind
RANGES: dict[str, tuple[list[object], list[object]]] = {
    "model": (["embedded", "openai:gpt-4o", "llama3.2-vision:11b"], ["", "  ", 3, "x" * 401]),
    "evaluator": (["self", "openai:guard"], ["", None]),
    "base_url": (
        [None, "http://localhost:8000/v1", "https://example.org"],
        ["localhost:8000", "ftp://x", "http://", "http://u:p@h/", "http://h/?key=1", "http://[", 3],
    ),
    "endpoints": (
        [
            {},
            {"guard": {"model": "openai:llama-guard3"}},
            {"a.b": {"model": "m", "base_url": "http://h/v1", "key_env": "", "timeout": 5}},
            {"g": {"model": "m", "proxy": "http://p:1", "profile": {"scoring": "word"}}},
            '{"g": {"model": "ollama:llava", "profile": "none"}}',
        ],
        [
            [],
            "guard",
            {"guard": "openai:m"},
            {"guard": {}},
            {"guard": {"model": ""}},
            {"guard": {"model": "m", "url": "http://h"}},
            {"guard": {"model": "m", "base_url": "h/v1"}},
            {"guard": {"model": "m", "base_url": "http://user:pass@h/v1"}},
            {"guard": {"model": "m", "api_key": "sk-1"}},
            {"guard": {"model": "m", "key_env": "sk-secret-1"}},
            {"guard": {"model": "m", "proxy": "socks5://h:1"}},
            {"guard": {"model": "m", "proxy": "http://user:pass@h:1"}},
            {"guard": {"model": "m", "timeout": 0}},
            {"guard": {"model": "m", "profile": {"logprobs": 21}}},
            {"guard": {"model": "m", "profile": {"colour": 1}}},
            {"self": {"model": "m"}},
            {"openai": {"model": "m"}},
            {"a:b": {"model": "m"}},
        ],
    ),
    "budget": (
        [1, "8000", "$0.02", "5s", {"tokens": 8000, "usd": 0.5}, Budget(seconds=1.0)],
        [0, -1, "x", {}, {"tokens": 0}, {"token": 5}, Budget(), None, 0.5, ["8000"]],
    ),
    "prices": (
        [{}, {"m": {"input": 0, "output": 0}}, {"m": {"input": 2, "output": 1, "cached": 2}}],
        [{"m": {"input": 1}}, {"m": 1}, {"m": {"input": -1, "output": 1}}, [], "m"],
    ),
    "economy": (["ratio", "surplus", "no-cost", Economy.RATIO], ["Ratio", "", None]),
    "aggregator": (["min", "last", "mean", SafetyAggregator.MIN], ["max", 0]),
    "utility_aggregator": (["last", "sum", UtilityAggregator.SUM], ["mean", 0]),
    "horizon_unit": (["actions", "tokens", "fixed"], ["steps", None]),
    "look_ahead": ([0, 0.05, 1000], [-0.01, 1000.1, math.nan, math.inf]),
    "horizon_cap": ([0, 64], [-1, 65, 1.5]),
    "fixed_horizon": ([0, 64], [-1, 65, "many"]),
    "delta": ([1e-9, 1, "0.95"], [0, 1.01, -1, math.nan]),
    "lambda0": ([0, 1000], [-1e-9, 1001, math.nan]),
    "batch_margin": ([0, 0.5, 1], [-0.01, 1.01, math.nan]),
    "satisfice": ([True, False, "off"], ["perhaps", None]),
    "second_thought": ([True, False], ["perhaps", None]),
    "speculate": (["off", "likely", "all"], ["always", None]),
    "fidelity": (["forecast", "surrogate", "rollout"], ["dream", None]),
    "batch": ([1, 16, "4"], [0, 17, 1.5, True, None]),
    "candidates": ([1, 16], [0, 17]),
    "max_thoughts": ([1, 100_000], [0, 100_001]),
    "max_depth": ([1, 64], [0, 65]),
    "safety_threshold": ([0, 1], [-0.01, 1.01, math.nan]),
    "low_risk_threshold": ([0, 1], [-0.01, 1.01]),
    "strategy": ([True, False, "off"], [2, "perhaps", None]),
    "unsafe_root": (["refuse", "explore"], ["answer"]),
    "confirm": ([True, False], ["perhaps", None]),
    "unsafe_answers": ([1, 100_000, "3"], [0, 100_001, True, None]),
    "risk_floor": ([1e-9, 1], [0, 1.01]),
    "merge": ([True, False], ["perhaps"]),
    "merge_threshold": ([0, 1], [-0.01, 1.01]),
    "fuse": ([True, False], ["perhaps"]),
    "look": ([True, False], ["perhaps"]),
    "draft": ([True, False], ["perhaps"]),
    "verified_utility": ([0, 1, None], [-0.01, 1.01, math.nan]),
    "synthesis": (["needed", "always"], ["never"]),
    "view_pixels": ([32, 4096, None, "none"], [31, 4097]),
    "crop_pixels": ([32, 4096, None], [31, 4097]),
    "profile": (["auto", "none", "p.toml"], ["", None]),
    "dialect": (["full", "small", None], ["compact", ""]),
    "scoring": (["json", "word", "samples", None], ["logprobs"]),
    "image_family": (["qwen", None], [""]),
    "boxes": (["xyxy-1000", "yxyx-1000", "xyxy-pixels", None], ["yx"]),
    "schema_mode": (["json_schema", "json_object", "prompt", None], ["grammar"]),
    "detail": (["auto", "low", "high", None], ["medium"]),
    "thinking": ([0, 100_000, None], [-1, 100_001]),
    "reasoning_effort": (["low", None], [""]),
    "extra_body": ([{}, {"top_k": 1}, '{"top_k": 1}'], ["top_k", 3]),
    "caps": (
        [{}, {"answer": 1}, '{"score": 64}'],
        [{"answers": 1}, {"answer": 0}, "x", {"a": True}],
    ),
    "policy": (["No recipes."], [3]),
    "temperature": ([0, 2], [-0.1, 2.1, math.nan]),
    "seed": ([0, 2**31 - 1, None], [-1, 2**31, False]),
    "timeout": ([1e-3, 3600], [0, 3601, math.inf]),
    "retries": ([0, 10], [-1, 11]),
    "max_concurrency": ([1, 256], [0, 257]),
    "history": ([True, False, "1"], ["perhaps", None]),
}


def test_every_setting_has_its_range_tested_and_described() -> None:
    rows = Settings().explain()
    assert [row.name for row in rows] == list(RANGES)
    for row in rows:
        assert row.range
        assert row.description
        assert row.origin == "default"


@pytest.mark.parametrize("name", RANGES)
def test_the_edges_of_a_range_are_in_it(name: str) -> None:
    for value in RANGES[name][0]:
        assert Settings(**{name: value}).origin(name) == "keyword"


@pytest.mark.parametrize("name", RANGES)
def test_what_is_beyond_is_refused_by_name_with_the_range(name: str) -> None:
    fits = next(row.range for row in Settings().explain() if row.name == name)
    for value in RANGES[name][1]:
        with pytest.raises(SettingsError) as refused:
            Settings(**{name: value})
        assert f"setting {name} (from keyword)" in str(refused.value)
        # A text that is no budget is told with how one is written.
        text = name == "budget" and isinstance(value, str)
        assert ("8000,$0.02,5s" if text else fits) in str(refused.value)
        # The cause would show the values of all other settings.
        assert refused.value.__cause__ is None
        assert refused.value.__suppress_context__


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SettingsError, match=r"delta .* is 0;(.|\n)*batch .* is 99;") as refused:
        Settings(delta=0, batch=99, merge=False)
    assert "merge" not in str(refused.value)
    assert isinstance(refused.value, InputError)
    assert refused.value.exit_code == 2


def test_a_horizon_in_tokens_needs_a_budget_in_tokens() -> None:
    with pytest.raises(SettingsError, match="8000,5s"):
        Settings.load("paper", env={}, budget="5s")
    assert Settings.load("paper", env={}, budget="8000,5s").budget == Budget(8000, None, 5.0)
    assert Settings.load(env={}, budget="5s").horizon_unit == "actions"


def test_the_default_budget_fits_the_model() -> None:
    assert Settings().budget == Budget(tokens=8000)
    served = Settings.load(env={}, model="openai:gpt-4o")
    assert served.budget == default_budget("openai:gpt-4o")
    assert served.origin("budget") == "default"
    assert Settings(model="embedded").budget == Budget(tokens=8000)
    # Given, it is what was given; a change of the model takes the default along.
    assert Settings.load(env={}, model="openai:gpt-4o", budget="500").budget == Budget(tokens=500)
    assert Settings().replace(model="openai:gpt-4o").budget == default_budget("openai:gpt-4o")
    assert served.replace(model="embedded").budget == Budget(tokens=8000)
    assert Settings.from_json(served.to_json()) == served


def test_settings_cannot_be_changed_behind_the_back() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.batch = 2
    with pytest.raises(SettingsError):
        settings.replace(batch=99)
    with pytest.raises(SettingsError):
        settings.model_copy(update={"batch": 99})
    assert settings.model_copy(update={"batch": 9}).batch == 9


# -- unknown names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [("bacth", "batch"), ("lookahead", "look_ahead"), ("max-depth", "max_depth"), ("qqq", "")],
)
def test_an_unknown_setting_is_refused_with_the_nearest(name: str, near: str, home: Path) -> None:
    with pytest.raises(SettingsError, match=f"unknown setting '{name}'.*did you mean '{near}"):
        Settings(**{name: 1})
    (home / "ecoalign.toml").write_text(f"{name} = 1")
    with pytest.raises(SettingsError, match=f"user.*ecoalign.toml.*did you mean '{near}"):
        Settings.load(env={})


def test_an_unknown_variable_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"'ECOALIGN_BUTCH'.*'ECOALIGN_BATCH'"):
        Settings.load(env={"ECOALIGN_BUTCH": "3"})
    with pytest.raises(SettingsError, match=r"'ECOALIGN_batch'.*'ECOALIGN_BATCH'"):
        Settings.load(env={"ECOALIGN_batch": "3"})
    assert Settings.load(env={"ECOALIGN": "x", "PATH": "y", "ecoalign_batch": "z"}) == Settings()


def test_an_unknown_preset_is_refused_with_the_nearest(home: Path) -> None:
    (home / "ecoalign.toml").write_text('preset = "papr"')
    loads: list[Callable[[], Settings]] = [
        lambda: Settings.load("papr", env={}),
        lambda: Settings.load(env={"ECOALIGN_PRESET": "papr"}),
        lambda: Settings.load(env={}),
        lambda: Settings.from_json({"preset": "papr"}),
    ]
    for load in loads:
        with pytest.raises(SettingsError, match=r"unknown preset 'papr'.*'paper'.*myopic"):
            load()
    (home / "ecoalign.toml").write_text("preset = 3")
    with pytest.raises(SettingsError, match="unknown preset '3'"):
        Settings.load(env={})


@pytest.mark.parametrize("name", ["api_key", "openai_api_key", "client_secret", "password"])
def test_a_key_is_no_setting_and_is_never_shown(name: str, home: Path) -> None:
    secret = "sk-" + "1234" * 4
    with pytest.raises(SettingsError, match="OPENAI_API_KEY") as first:
        Settings(**{name: secret})
    with pytest.raises(SettingsError, match="OPENAI_API_KEY") as second:
        Settings.load(env={f"ECOALIGN_{name.upper()}": secret})
    (home / "ecoalign.toml").write_text(f'{name} = "{secret}"')
    with pytest.raises(SettingsError, match="OPENAI_API_KEY") as third:
        Settings.load(env={})
    for error in (first, second, third):
        assert secret not in str(error.value)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings(base_url="https://me:hunter2@example.org/v1")
    assert "hunter2" not in str(refused.value)


# -- precedence and origins -----------------------------------------------------------------------


def test_each_place_overrides_the_one_before(home: Path, tmp_path: Path) -> None:
    def cap(env: dict[str, str], keyword: int | None = None) -> tuple[int, str]:
        settings = Settings.load("paper", env=env, horizon_cap=keyword)
        return settings.horizon_cap, settings.origin("horizon_cap")

    assert Settings.load(env={}).origin("horizon_cap") == "default"
    assert cap({}) == (8, "preset paper")
    (home / "ecoalign.toml").write_text("horizon_cap = 10")
    assert cap({}) == (10, str(home / "ecoalign.toml"))
    (tmp_path / "here" / "ecoalign.toml").write_text("horizon_cap = 11")
    assert cap({}) == (11, "ecoalign.toml")
    env = {"ECOALIGN_HORIZON_CAP": " 12 "}
    assert cap(env) == (12, "environment ECOALIGN_HORIZON_CAP")
    assert cap(env, 13) == (13, "keyword")


def test_files_are_layered_and_a_named_file_stands_alone(home: Path, tmp_path: Path) -> None:
    (home / "ecoalign.toml").write_text("batch = 2\nretries = 5")
    (tmp_path / "here" / "ecoalign.toml").write_text("batch = 3")
    both = Settings.load(env={})
    assert (both.batch, both.retries) == (3, 5)
    named = tmp_path / "named.toml"
    named.write_text("candidates = 7")
    for alone in (
        Settings.load(file=named, env={}),
        Settings.load(env={"ECOALIGN_CONFIG": str(named)}),
    ):
        assert (alone.batch, alone.retries, alone.candidates) == (4, 2, 7)
        assert alone.origin("candidates") == str(named)


def test_the_preset_may_come_from_anywhere(home: Path) -> None:
    (home / "ecoalign.toml").write_text('preset = "myopic"')
    assert Settings.load(env={}).preset == "myopic"
    env = {"ECOALIGN_PRESET": "no-cost"}
    assert Settings.load(env=env).preset == "no-cost"
    assert Settings.load("paper", env=env).preset == "paper"
    assert Settings.load("paper", env=env).economy == "ratio"
    assert Settings().preset == "default"


def test_the_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOALIGN_MODEL", "openai:gpt-4o")
    assert Settings.load().model == "openai:gpt-4o"
    assert Settings.load(env={}).model == "embedded"


@pytest.mark.parametrize("place", ["environment", "keyword", "file"])
def test_text_means_the_same_wherever_it_is_written(place: str, tmp_path: Path) -> None:
    texts = {"seed": " none ", "batch": " 2", "merge": "false", "economy": "ratio ", "budget": "5s"}
    if place == "environment":
        chosen = Settings.load(
            env={f"ECOALIGN_{name.upper()}": text for name, text in texts.items()}
        )
    elif place == "keyword":
        chosen = Settings(**texts)
    else:
        file = tmp_path / "mine.toml"
        lines = [f"{name} = {json.dumps(text)}" for name, text in texts.items()]
        file.write_text("\n".join(lines), encoding="utf-8")
        chosen = Settings.load(file=file, env={})
    assert (chosen.seed, chosen.batch, chosen.merge) == (None, 2, False)
    assert (chosen.economy, chosen.budget) == (Economy.RATIO, Budget(seconds=5.0))


def test_the_environment_speaks_in_text() -> None:
    settings = Settings.load(
        env={
            "ECOALIGN_MERGE": "false",
            "ECOALIGN_DELTA": "0.5",
            "ECOALIGN_SEED": "None",
            "ECOALIGN_BUDGET": "$0.02,5s",
            "ECOALIGN_PRICES": '{"m": {"input": 1, "output": 2}}',
            "ECOALIGN_BATCH": "",
        }
    )
    assert (settings.merge, settings.delta, settings.seed) == (False, 0.5, None)
    assert settings.budget == Budget(usd=0.02, seconds=5.0)
    assert settings.price_book()("m", Usage(10**6, 10**6)) == 3
    assert settings.batch == 4
    with pytest.raises(SettingsError, match=r"from environment ECOALIGN_PRICES.*it is not JSON"):
        Settings.load(env={"ECOALIGN_PRICES": "{"})
    with pytest.raises(SettingsError, match=r"environment ECOALIGN_BATCH.*is '99'"):
        Settings.load(env={"ECOALIGN_BATCH": "99"})


def test_a_file_may_hold_tables(home: Path) -> None:
    (home / "ecoalign.toml").write_text(
        'model = "openai:q"\nbudget = {tokens = 500, usd = 0.1}\n'
        '[prices."openai:q"]\ninput = 1.0\noutput = 2\n'
    )
    settings = Settings.load(env={})
    assert settings.budget == Budget(tokens=500, usd=0.1)
    assert settings.price_book()(settings.model, Usage(0, 10**6)) == 2


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    for content, what in ((b"= 3", "is not TOML"), (b"model = '\xff'", "cannot be read")):
        bad.write_bytes(content)
        with pytest.raises(SettingsError, match=f"bad.toml {what}"):
            Settings.load(file=bad, env={})
    for missing in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(SettingsError, match="cannot be read"):
            Settings.load(file=missing, env={})


def test_none_as_a_keyword_is_not_given() -> None:
    env = {"ECOALIGN_BATCH": "2"}
    assert Settings.load(env=env, batch=None, seed=None) == Settings(batch=2)


def test_there_is_no_origin_of_what_does_not_exist() -> None:
    with pytest.raises(SettingsError, match="batch"):
        Settings().origin("bacth")


def test_a_change_keeps_the_origins_of_the_rest() -> None:
    settings = Settings.load("paper", env={"ECOALIGN_BATCH": "2"}).replace(retries=0)
    assert settings.preset == "paper"
    assert settings.origin("economy") == "preset paper"
    assert settings.origin("batch") == "environment ECOALIGN_BATCH"
    assert settings.origin("retries") == "keyword"
    assert settings.origin("delta") == "preset paper"
    assert settings.origin("timeout") == "default"


def test_the_rows_show_values_as_they_are_written() -> None:
    settings = Settings(
        budget="8000,$0.02", seed=None, merge=False, prices={"b": _one(), "a": _one()}
    )
    rows = {row.name: row for row in settings.explain()}
    assert rows["budget"].value == "8000,$0.02"
    assert rows["seed"].value == "none"
    assert rows["merge"].value == "false"
    assert rows["prices"].value == "a, b"
    assert rows["economy"].value == "surplus"
    assert rows["economy"].range == "ratio | surplus | no-cost"
    assert rows["delta"].range == "above 0, at most 1"
    assert rows["batch"].range == "whole number, at least 1, at most 16"
    assert rows["batch"].origin == "default"
    assert rows["merge"].origin == "keyword"


def _one() -> dict[str, float]:
    return {"input": 1.0, "output": 1.0}


# -- presets --------------------------------------------------------------------------------------


def _differences(preset: str, base: str = "default") -> dict[str, object]:
    one, other = (Settings.load(name, env={}).to_json() for name in (base, preset))
    return {name: other[name] for name in one if one[name] != other[name] and name != "preset"}


ABLATIONS: dict[str, dict[str, object]] = {
    "myopic": {"horizon_unit": "fixed", "fixed_horizon": 0},
    "fixed-horizon": {"horizon_unit": "fixed"},
    "last-safety": {"aggregator": "last"},
    "mean-safety": {"aggregator": "mean"},
    "no-cost": {"economy": "no-cost"},
}


def test_every_ablation_is_there_twice_and_nothing_else() -> None:
    assert list(PRESETS) == [
        *("default", "paper"),
        *ABLATIONS,
        *(f"paper-{name}" for name in ABLATIONS),
    ]
    assert _differences("default") == {}
    assert Settings.load("default", env={}) == Settings()


@pytest.mark.parametrize("base", ["default", "paper"])
@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_one_thing_and_says_which(name: str, base: str) -> None:
    preset = name if base == "default" else f"paper-{name}"
    expected = dict(ABLATIONS[name])
    if preset == "paper-fixed-horizon":
        expected["fixed_horizon"] = 8
    assert _differences(preset, base) == expected
    assert PRESET_TEXTS[preset].startswith(f"{base}, but ")


@pytest.mark.parametrize("base", ["default", "paper"])
def test_a_fixed_horizon_is_the_cap_of_the_one_that_shrinks(base: str) -> None:
    """Else two things would change: how far ahead is looked, and that it never shrinks."""
    fixed = Settings.load("fixed-horizon" if base == "default" else "paper-fixed-horizon", env={})
    assert fixed.fixed_horizon == Settings.load(base, env={}).horizon_cap


def test_the_paper_is_as_the_paper_says_in_every_field() -> None:
    """Nothing of the preset can change, not even with a default, without a change here."""
    assert Settings.load("paper", env={}).to_json() == {
        # What the paper says (section numbers of arXiv 2511.11301 are in docs/paper.md).
        "preset": "paper",
        "economy": "ratio",
        "aggregator": "min",
        "utility_aggregator": "sum",
        "horizon_unit": "tokens",
        "look_ahead": 0.05,
        "delta": 0.95,
        "safety_threshold": 0.0,
        "strategy": True,
        "unsafe_root": "refuse",
        "fuse": True,
        "merge": True,
        "look": True,
        "batch_margin": 0.0,
        # What it does not know.
        "draft": False,
        "satisfice": False,
        "second_thought": False,
        "confirm": False,
        "unsafe_answers": 100_000,
        "speculate": "off",
        # What it leaves open, or where we differ.
        "fidelity": "forecast",
        "horizon_cap": 8,
        "synthesis": "needed",
        "batch": 4,
        "candidates": 4,
        "max_thoughts": 64,
        "max_depth": 8,
        "low_risk_threshold": 0.5,
        "risk_floor": 0.25,
        "merge_threshold": 0.9,
        # What has no effect in it: prices of tokens, the draft's bar, another kind of horizon.
        "lambda0": 0.15,
        "verified_utility": None,
        "fixed_horizon": 4,
        # How a model is spoken to and called, as by default.
        **{name: Settings().to_json()[name] for name in SPOKEN},
    }


SPOKEN = (
    *("model", "evaluator", "base_url", "endpoints", "budget", "prices", "view_pixels"),
    *("crop_pixels", "profile", "dialect", "scoring", "image_family", "boxes", "schema_mode"),
    *("detail", "thinking", "reasoning_effort", "extra_body", "caps", "policy", "temperature"),
    *("seed", "timeout", "retries", "max_concurrency", "history"),
)


def test_a_value_of_a_preset_that_is_the_default_still_comes_from_it() -> None:
    paper = Settings.load("paper", env={})
    assert paper.delta == Settings().delta
    assert paper.origin("delta") == "preset paper"


# -- saving ---------------------------------------------------------------------------------------

saved = st.fixed_dictionaries(
    {},
    optional={
        "budget": st.sampled_from(["8000", "8000,$0.02,5s"]),
        "seed": st.none() | st.integers(0, 2**31 - 1),
        "delta": st.floats(0.01, 1),
        "economy": st.sampled_from(Economy),
        "merge": st.booleans(),
        "base_url": st.none() | st.just("http://localhost:1/v1"),
        "prices": st.dictionaries(st.sampled_from("ab"), st.just({"input": 0.1, "output": 3})),
    },
)


@given(st.sampled_from(sorted(PRESETS)), saved)
def test_settings_survive_being_saved(preset: str, values: dict[str, object]) -> None:
    settings = Settings.load(preset, env={}).replace(**values)
    text = json.dumps(settings.to_json())
    again = Settings.from_json(json.loads(text))
    assert again == settings
    assert hash(again) == hash(settings)
    assert again.preset == preset
    assert again.origin("batch") == "trace"
    for twin in (pickle.loads(pickle.dumps(settings)), copy.deepcopy(settings)):  # noqa: S301
        assert twin == settings
        assert twin.explain() == settings.explain()


def test_settings_are_equal_by_value() -> None:
    assert Settings(batch=2) == Settings.load(env={"ECOALIGN_BATCH": "2"})
    assert Settings(batch=2) != Settings()
    assert Settings() != "default"


def test_the_room_to_think_is_no_cap_of_a_stage() -> None:
    with pytest.raises(SettingsError, match="thinking is no stage but a setting of its own"):
        Settings(caps={"thinking": 5})
    with pytest.raises(SettingsError) as caught:
        Settings(caps={"anwser": 5})
    assert "thinking" not in str(caught.value)
