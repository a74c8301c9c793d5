"""The settings as keywords, typed, so that a type checker finds a slip before a run does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, TypedDict

from ecoalign.budget import Price
from ecoalign.graph.economics import Economy, SafetyAggregator, UtilityAggregator
from ecoalign.models import BoxConvention
from ecoalign.settings._endpoints import NamedEndpoint

Preset: TypeAlias = Literal[
    "default",
    "paper",
    "myopic",
    "fixed-horizon",
    "last-safety",
    "mean-safety",
    "no-cost",
    "paper-myopic",
    "paper-fixed-horizon",
    "paper-last-safety",
    "paper-mean-safety",
    "paper-no-cost",
]
"""The names of `PRESETS`."""


class Options(TypedDict, total=False):
    """Settings by name, and the preset that they start from; see `Settings` for what each does.

    Not `model`, `evaluator` and `budget`: what takes these options takes them as parameters of
    their own. Nor `history`, which is the command line's.
    """

    preset: Preset

    base_url: str | None
    endpoints: Mapping[str, NamedEndpoint | Mapping[str, Any]]
    prices: Mapping[str, Price | Mapping[str, Any]]

    economy: Economy | Literal["surplus", "ratio", "no-cost"]
    aggregator: SafetyAggregator | Literal["min", "last", "mean"]
    utility_aggregator: UtilityAggregator | Literal["sum", "last"]
    horizon_unit: Literal["actions", "tokens", "fixed"]
    look_ahead: float
    horizon_cap: int
    fixed_horizon: int
    delta: float
    lambda0: float
    batch_margin: float
    satisfice: bool
    second_thought: bool
    speculate: Literal["off", "likely", "all"]
    fidelity: Literal["forecast", "surrogate", "rollout"]

    batch: int
    candidates: int
    max_thoughts: int
    max_depth: int

    safety_threshold: float
    low_risk_threshold: float
    strategy: bool
    unsafe_root: Literal["refuse", "explore"]
    confirm: bool
    unsafe_answers: int
    risk_floor: float

    merge: bool
    merge_threshold: float
    fuse: bool
    look: bool
    draft: bool
    verified_utility: float | None
    synthesis: Literal["needed", "always"]
    view_pixels: int | None
    crop_pixels: int | None

    profile: str
    dialect: Literal["full", "small"] | None
    scoring: Literal["json", "word", "samples"] | None
    image_family: str | None
    boxes: BoxConvention | None
    schema_mode: Literal["json_schema", "json_object", "prompt"] | None
    detail: Literal["auto", "low", "high"] | None
    thinking: int | None
    reasoning_effort: str | None
    extra_body: Mapping[str, Any]
    caps: Mapping[str, int]
    policy: str

    temperature: float
    seed: int | None
    timeout: float | None
    retries: int
    max_concurrency: int
