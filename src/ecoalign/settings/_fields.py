"""Every setting: its type, range and default, and the reading of its value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ecoalign.budget import Budget, Price
from ecoalign.errors import InputError
from ecoalign.graph.economics import Economy, SafetyAggregator, UtilityAggregator
from ecoalign.models import (
    BoxConvention,
    ImagePart,
    Profile,
    check_family,
    image_tokens,
    shipped_profile,
)
from ecoalign.prompts import DEFAULT_POLICY, TokenLimits
from ecoalign.query import FULL_PIXELS, LOW_DETAIL_SIDE
from ecoalign.settings._endpoints import Endpoints, Name, NamedEndpoint, Url


def _read_budget(value: Any) -> Budget:
    try:
        return Budget.of(value)
    except InputError as error:
        # Only a ValueError is reported together with the name of the setting.
        raise ValueError(str(error)) from None


def _read_prices(value: object) -> dict[str, Price]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(
                f'it is not JSON ({error}); expected, for example, {{"openai:name": '
                '{"input": 2.5, "output": 10.0}}'
            ) from None
    if not isinstance(value, Mapping):
        raise ValueError('give a table, [prices."openai:name"] input = 2.5, output = 10.0')
    try:
        return {
            str(model): table if isinstance(table, Price) else Price.parse(table, name=str(model))
            for model, table in value.items()
        }
    except InputError as error:
        raise ValueError(str(error)) from None


def _show_prices(prices: Mapping[str, Price]) -> dict[str, dict[str, float]]:
    return {model: price.to_json() for model, price in prices.items()}


def _table(value: object, example: str) -> dict[str, Any]:
    """A table, or the JSON text of one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"it is not JSON ({error}); expected, for example, {example}"
            ) from None
    if not isinstance(value, Mapping):
        raise ValueError(f"give a table, such as {example}")
    return {str(name): entry for name, entry in value.items()}


def _read_extra(value: object) -> dict[str, Any]:
    extra = _table(value, '{"top_k": 1}')
    try:
        json.dumps(extra, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError("it is not plain JSON") from None
    return extra


def _read_family(value: object) -> str | None:
    if value is None:
        return None
    try:
        return check_family(str(value).strip())
    except InputError as error:
        raise ValueError(str(error)) from None


def _read_caps(value: object) -> dict[str, int]:
    caps = _table(value, '{"answer": 1024, "score": 64}')
    TokenLimits.of(caps)
    return caps


BudgetValue = Annotated[Budget, PlainValidator(_read_budget), PlainSerializer(str)]

PriceTable = Annotated[
    Mapping[str, Price], PlainValidator(_read_prices), PlainSerializer(_show_prices)
]

Family = Annotated[str | None, PlainValidator(_read_family)]

Policy = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20_000)]

Extra = Annotated[Mapping[str, Any], PlainValidator(_read_extra)]

Caps = Annotated[Mapping[str, int], PlainValidator(_read_caps)]


LEAST_DEFAULT, MOST_DEFAULT = 40_000, 200_000
"""Tokens of the default budget of any model but the embedded one."""

_CALLS = 18
"""Calls that the default is made for, beside the draft and its score, which see the images as the
plain model does: scan, two proposals, six actions with their scores and the answer."""

_TEXT = 1700
"""Tokens of such a call beside its images."""

_LIKELY = 1500
"""Tokens of an image on a server of an unknown family; what is reserved is far more, until its
first reply tells."""


def default_budget(model: str, images: int = 1, profile: Profile | None = None) -> Budget:
    """The budget where none is set, in whole thousands of tokens.

    It grows with what the images cost, from 40,000 to 200,000 tokens. That of the embedded model is
    8,000, as its prompts are far shorter.

    Args:
        model: its name.
        images: how many the question has.
        profile: what is known of the model; what its name tells if None.
    """
    if model == "embedded":
        return Budget(tokens=8000)
    known = profile or shipped_profile(model.partition(":")[2] or model)
    side = known.view_pixels
    detail = known.detail or ("low" if side <= LOW_DETAIL_SIDE else "high")

    def call(size: int, closely: Literal["auto", "low", "high"]) -> int:
        view = ImagePart(b"", "image/png", size, size, closely)
        each = image_tokens(view, known.family, known.image_tokens)
        each = min(each, _LIKELY) if known.family == "unknown" else each
        return images * each + _TEXT + known.thinking

    full = call(max(side, FULL_PIXELS), known.detail or "high")
    tokens = _CALLS * call(side, detail) + 2 * full
    return Budget(tokens=min(MOST_DEFAULT, max(LEAST_DEFAULT, -(-tokens // 1000) * 1000)))


class Fields(BaseModel):
    """The values. `Settings` adds how they are read and explained."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    # -- who answers, who scores, what it may cost

    model: Name = "embedded"
    """The model: "embedded", "PROVIDER:NAME", the name of an endpoint, or any name together with a
    base_url."""

    evaluator: Name = "self"
    """The model that scores: "self" (the one that answers) or the name of another, as for model."""

    base_url: Url = None
    """The address of the OpenAI-compatible server for names without a provider, with "openai:", or
    with the provider of a server of your own; usually ends in /v1."""

    endpoints: Endpoints = Field(default_factory=dict[str, NamedEndpoint])
    """Models by names of your own, each with its model, base_url, key_env, proxy, timeout and
    profile; model, evaluator and judges may name them."""

    budget: BudgetValue = default_budget("embedded")
    """The budget B, a hard bound in each unit given: tokens, US dollars, seconds of wall-clock. The
    default for any model but the embedded one is 40000 to 200000 tokens, by the number of images
    and what they cost on it."""

    prices: PriceTable = Field(default_factory=dict[str, Price])
    """Your own prices by model, in dollars per million tokens: input, output, cached."""

    # -- the economy of the search

    economy: Economy = Economy.SURPLUS
    """What an action is worth: s*u - lambda*c, s*u/c (the paper's) or s*u."""

    aggregator: SafetyAggregator = SafetyAggregator.MIN
    """The safety of a path, from that of its thoughts."""

    utility_aggregator: UtilityAggregator = UtilityAggregator.LAST
    """The utility of a path: that of its last thought, the answer, or the sum of all (the
    paper's)."""

    horizon_unit: Literal["actions", "tokens", "fixed"] = "actions"
    """What k is multiplied by: the actions that are still affordable, the tokens left (the
    paper's), or nothing (fixed_horizon, whatever is left of the budget)."""

    look_ahead: float = Field(0.25, ge=0, le=1000)
    """The look-ahead factor k, in steps per horizon_unit."""

    horizon_cap: int = Field(4, ge=0, le=64)
    """The longest horizon, in steps."""

    fixed_horizon: int = Field(4, ge=0, le=64)
    """The horizon where horizon_unit is fixed, in steps; 0 is myopic."""

    delta: float = Field(0.95, gt=0, le=1)
    """The discount factor of a step: what comes one step later counts delta times as much."""

    lambda0: float = Field(0.15, ge=0, le=1000)
    """The price of one mean action while the whole budget is left, in utility."""

    batch_margin: float = Field(0.7, ge=0, le=1)
    """The least value of an action to be executed beside the best one, as a share of the best
    one's value."""

    satisfice: bool = True
    """Whether what a scored answer already gives counts as had: it cannot be gained again, no
    proposal is bought that cannot pay for itself, and the search ends where nothing that is left to
    gain is worth an action."""

    second_thought: bool = True
    """Whether an answer forecast to be unsafe is tried once where refusing proved to be worth
    little."""

    speculate: Literal["off", "likely", "all"] = "likely"
    """Whether calls start before they are known to be needed, so that fewer wait for each other:
    off; likely, those that will be needed if all turns out as forecast, such as the proposal from a
    thought, and the answer from it, while it is scored; all, the proposal from the root while the
    draft is scored as well. It changes what is paid, not how an answer is chosen."""

    fidelity: Literal["forecast", "surrogate", "rollout"] = "forecast"
    """How the steps after an action are simulated: by the call that proposes it, by a regression on
    this run, or by generating them."""

    # -- the size of the search

    batch: int = Field(4, ge=1, le=16)
    """How many actions are executed together."""

    candidates: int = Field(4, ge=1, le=16)
    """How many actions are asked for per proposal."""

    max_thoughts: int = Field(64, ge=1, le=100_000)
    """The most thoughts in the graph."""

    max_depth: int = Field(8, ge=1, le=64)
    """The longest path, in thoughts after the root."""

    # -- safety

    safety_threshold: float = Field(0.0, ge=0, le=1)
    """A thought whose safety s is lower is pruned; 0 in the paper."""

    low_risk_threshold: float = Field(0.5, ge=0, le=1)
    """A request whose safety s is lower needs caution: no draft stands, a safe refusal may win over
    a safe answer, and where s is not negative it may get a strategy. A draft that stands needs at
    least this safety itself."""

    strategy: bool = False
    """Whether such a strategy is added at all."""

    unsafe_root: Literal["refuse", "explore"] = "explore"
    """For a request with s < 0: refuse at once, or search for a safe answer to it."""

    confirm: bool = True
    """Whether an answer needs one more safe verdict, independent of the others, for every answer
    that was judged unsafe before it: else a search that goes on until something passes amplifies
    the errors of its judge."""

    unsafe_answers: int = Field(2, ge=1, le=100_000)
    """How many answers may be judged unsafe; after that no other is tried."""

    risk_floor: float = Field(0.25, gt=0, le=1)
    """The share of B that the search may use at the highest risk."""

    # -- kinds of action

    merge: bool = True
    """Whether equivalent thoughts are merged."""

    merge_threshold: float = Field(0.9, ge=0, le=1)
    """The least similarity of two differently worded texts to be merged."""

    fuse: bool = True
    """Whether several thoughts may be fused into one."""

    look: bool = True
    """Whether regions of the image may be looked at."""

    draft: bool = True
    """Whether an answer is tried beside the scan, and scored, at the resolution of the plain model:
    if little can be gained beyond it, nothing else is paid for."""

    verified_utility: float | None = Field(None, ge=0, le=1)
    """The least utility of an answer, drafted or found, that is taken where going on would cost
    more than is left to gain; none is what the prompts call verified: 0.83, and 0.6 of the embedded
    model."""

    synthesis: Literal["needed", "always"] = "needed"
    """Whether the answer is written anew from the path always, or only where the path's last
    thought cannot stand as one."""

    view_pixels: int | None = Field(None, ge=32, le=4096)
    """The longest side of the low-resolution view, in pixels; none is the profile's."""

    crop_pixels: int | None = Field(None, ge=32, le=4096)
    """The longest side of a region that is looked at, in pixels; none is the profile's."""

    # -- how the model is spoken to; none is what its profile says

    profile: Name = "auto"
    """What is known of the model: "auto" (its probe's file, else its family's), "none", or a
    file."""

    dialect: Literal["full", "small"] | None = None
    """The prompts: for models that keep to a form, or for small ones that do not."""

    scoring: Literal["json", "word", "samples"] | None = None
    """How verdicts are asked for: a strict JSON object, one word read by its log-probabilities, or
    five samples."""

    image_family: Family = None
    """The family whose image tokens are reserved, where the model's name does not tell."""

    boxes: BoxConvention | None = None
    """How the model writes a region of an image."""

    schema_mode: Literal["json_schema", "json_object", "prompt"] | None = None
    """How a JSON schema is given: enforced, as any JSON, or in the prompt alone."""

    detail: Literal["auto", "low", "high"] | None = None
    """The hint that goes with every image."""

    thinking: int | None = Field(None, ge=0, le=100_000)
    """Tokens of hidden reasoning for which every cap on the output leaves room."""

    reasoning_effort: Name | None = None
    """Sent with every request: "low", "minimal", or what else the server knows."""

    extra_body: Extra = Field(default_factory=dict[str, Any])
    """Further parameters of every request to the model, in its server's words."""

    caps: Caps = Field(default_factory=dict[str, int])
    """The most output tokens of a call by stage: scan, propose, think, look, answer, score ..."""

    policy: Policy = DEFAULT_POLICY
    """What counts as harm, in words; verdicts and answers are held against it."""

    # -- calls

    temperature: float = Field(0.0, ge=0, le=2)
    """The temperature of sampling; 0 is greedy."""

    seed: int | None = Field(0, ge=0, le=2**31 - 1)
    """The seed of everything random, and of the server where it takes one."""

    timeout: float | None = Field(None, gt=0, le=3600)
    """The longest that one call may take, in seconds; by default 60, or 600 where the server is on
    this machine."""

    retries: int = Field(2, ge=0, le=10)
    """How often a failed call is repeated."""

    max_concurrency: int = Field(8, ge=1, le=256)
    """The most calls at once."""

    # -- what is kept

    history: bool = False
    """Whether what was asked, answered and spent is noted in a file of your own on this machine,
    without pictures; see `ecoalign history`."""

    @field_validator("*", mode="before")
    @classmethod
    def _read(cls, value: object, info: ValidationInfo) -> object:
        """Read a value as it is written in a file, the environment, an option or Python.

        Text is stripped, and "none" is None where a setting may be that. True is no number, though
        Python counts it as 1.
        """
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and kind is not bool:
            raise ValueError("it cannot be true or false")
        if not isinstance(value, str):
            return value
        text = value.strip()
        return None if text.lower() == "none" and NoneType in get_args(kind) else text

    @model_validator(mode="after")
    def _units_go_together(self) -> Self:
        if self.horizon_unit == "tokens" and self.budget.tokens is None:
            raise ValueError(
                f"horizon_unit tokens needs a budget in tokens, not {str(self.budget)!r}: add "
                f'tokens to it ("8000,{self.budget}") or set horizon_unit to actions'
            )
        return self


PROFILED = (
    *("dialect", "scoring", "boxes", "schema_mode", "detail", "thinking", "reasoning_effort"),
    *("view_pixels", "crop_pixels"),
)
"""The settings that stand before the field of the same name in a model's profile."""


PAPER: Mapping[str, object] = {
    "economy": "ratio",
    "aggregator": "min",
    "utility_aggregator": "sum",
    "horizon_unit": "tokens",
    "look_ahead": 0.05,
    "horizon_cap": 8,
    "delta": 0.95,
    "fidelity": "forecast",
    "safety_threshold": 0.0,
    "strategy": True,
    "unsafe_root": "refuse",
    "draft": False,
    "satisfice": False,
    "second_thought": False,
    "confirm": False,
    "unsafe_answers": 100_000,
    "synthesis": "needed",
    "batch_margin": 0.0,
    "speculate": "off",
}
"""arXiv 2511.11301, our closest reading; docs/paper.md compares it sentence by sentence."""

_ABLATIONS: Mapping[str, tuple[Mapping[str, object], str]] = {
    "myopic": ({"horizon_unit": "fixed", "fixed_horizon": 0}, "the horizon is 0"),
    "fixed-horizon": ({"horizon_unit": "fixed"}, "the horizon is its cap, whatever is left of B"),
    "last-safety": ({"aggregator": "last"}, "a path is as safe as its last thought"),
    "mean-safety": ({"aggregator": "mean"}, "a path is as safe as its thoughts are on average"),
    "no-cost": ({"economy": "no-cost"}, "an action and a path are worth S*U, whatever they cost"),
}
"""The paper's ablations: each a single change, and what it says."""

PRESETS: Mapping[str, Mapping[str, object]] = {
    "default": {},
    "paper": PAPER,
    **{name: change for name, (change, _) in _ABLATIONS.items()},
    **{
        f"paper-{name}": {
            **PAPER,
            **change,
            **({"fixed_horizon": PAPER["horizon_cap"]} if name == "fixed-horizon" else {}),
        }
        for name, (change, _) in _ABLATIONS.items()
    },
}

PRESET_TEXTS: Mapping[str, str] = {
    "default": "recommended: a direct answer is tried first, and each rejected one raises the bar",
    "paper": "arXiv 2511.11301, our closest reading: V by s*u/c, every thought earns its own u",
    **{name: f"default, but {text}" for name, (_, text) in _ABLATIONS.items()},
    **{f"paper-{name}": f"paper, but {text}" for name, (_, text) in _ABLATIONS.items()},
}
"""What each preset is, in a line."""
