"""The experiments by name: each a list of variants, methods under some settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ecoalign.errors import InputError
from ecoalign.settings import PRESETS

if TYPE_CHECKING:
    from ecoalign.bench.suites._base import Suite
    from ecoalign.methods._base import Method

__all__ = ["EXPERIMENTS", "Experiment", "Figure", "Variant", "experiment_named"]

BASE, ECOALIGN, COT = "base", "ecoalign", "cot"

Figure = Literal["frontier", "stages", "bars", "budget", "curve", "latency", "groups"]


@dataclass(frozen=True, slots=True)
class Variant:
    """A method under some settings.

    Attributes:
        name: unique in its experiment.
        method: the method's name.
        settings: what differs from the settings in force, by name.
        budget: as on the command line; None for the budget in force.
        axis, at: where it is on the axis of a curve ("look_ahead", 0.25); "" and 0 if on none.
        family: what it is to be shown with.
    """

    name: str
    method: str
    settings: Mapping[str, object] = field(default_factory=dict)
    budget: str | None = None
    axis: str = ""
    at: float = 0.0
    family: str = ""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A question to be answered by measurement.

    Attributes:
        name: as on the command line.
        question: what it is to show, in one line.
        variants: made from the names of all methods, the dialect of the model ("compact" is the
            embedded model's) and the budgets asked for, if any.
        reference: the variant that the others are compared with.
        figures: what the report draws.
        concurrency: samples at once where nothing else is asked for.
        suite: its own suite, where it needs no other.
        method: makes its own methods, where the usual ones are not meant.
    """

    name: str
    question: str
    variants: Callable[[Sequence[str], str, Sequence[str]], list[Variant]] = field(compare=False)
    reference: str
    figures: tuple[Figure, ...]
    concurrency: int | None = None
    suite: Callable[[], Suite] | None = field(default=None, compare=False)
    method: Callable[[Variant], Method] | None = field(default=None, compare=False)


_BASE = Variant(BASE, BASE, family="reference")


def _main(methods: Sequence[str], dialect: str, budgets: Sequence[str]) -> list[Variant]:
    return [Variant(name, name) for name in methods]


def _ablation(methods: Sequence[str], dialect: str, budgets: Sequence[str]) -> list[Variant]:
    def one(name: str, family: str, **settings: object) -> Variant:
        return Variant(name, ECOALIGN, settings, family=family)

    return [
        _BASE,
        one(ECOALIGN, "reference"),
        one("horizon: myopic", "horizon", **PRESETS["myopic"]),
        one("horizon: fixed", "horizon", **PRESETS["fixed-horizon"]),
        one("safety: last", "safety", **PRESETS["last-safety"]),
        one("safety: mean", "safety", **PRESETS["mean-safety"]),
        one("no cost term", "cost", **PRESETS["no-cost"]),
        one("economy: ratio", "economy", economy="ratio"),
        one("economy: the paper's", "economy", **PRESETS["paper"]),
        one("no merging", "actions", merge=False),
        one("no fusing", "actions", fuse=False),
        one("no looking", "actions", look=False),
        one("no draft", "actions", draft=False),
        one("strategy node", "strategy", strategy=True),
    ]


_COMPACT_BUDGETS = ("300", "450", "600", "900", "1400", "2400", "4800")

_FULL_BUDGETS = ("2000", "4000", "8000", "16000", "32000", "64000")


def _budget(methods: Sequence[str], dialect: str, budgets: Sequence[str]) -> list[Variant]:
    steps = budgets or (_COMPACT_BUDGETS if dialect == "compact" else _FULL_BUDGETS)
    return [
        _BASE,
        *(
            Variant(f"budget {text}", ECOALIGN, budget=text, axis="budget", at=float(number))
            for number, text in enumerate(steps)
        ),
    ]


def _horizon(methods: Sequence[str], dialect: str, budgets: Sequence[str]) -> list[Variant]:
    def step(axis: str, letter: str, value: float) -> Variant:
        return Variant(f"{letter} = {value:g}", ECOALIGN, {axis: value}, axis=axis, at=value)

    return [
        _BASE,
        Variant(ECOALIGN, ECOALIGN, family="reference"),
        *(step("look_ahead", "k", value) for value in (0.0, 0.1, 0.25, 0.5, 1.0)),
        *(step("delta", "delta", value) for value in (0.5, 0.8, 0.95, 1.0)),
        *(
            Variant(
                f"horizon {steps}",
                ECOALIGN,
                fixed_horizon(steps),
                axis="fixed_horizon",
                at=float(steps),
            )
            for steps in (0, 1, 2, 4, 8)
        ),
    ]


def _latency(methods: Sequence[str], dialect: str, budgets: Sequence[str]) -> list[Variant]:
    known = [name for name in (BASE, COT, "best-of-n") if name in methods]
    return [
        *(Variant(name, name) for name in known),
        *(
            Variant(f"{ECOALIGN}, batch {n}", ECOALIGN, {"batch": n, "max_concurrency": n})
            for n in (1, 2, 4, 8)
        ),
    ]


def _mixed_variants(methods: Sequence[str], dialect: str, budgets: Sequence[str]) -> list[Variant]:
    return [
        Variant(f"safety: {name}", f"tracker-{name}", {"aggregator": name})
        for name in ("min", "last", "mean")
    ]


def _mixed_suite() -> Suite:
    from ecoalign.bench.suites.mixed_safety import MixedSuite

    return MixedSuite()


def _mixed_method(variant: Variant) -> Method:
    from ecoalign.bench.suites.mixed_safety import Tracker

    return Tracker(str(variant.settings["aggregator"]))


def _deep_variants(methods: Sequence[str], dialect: str, budgets: Sequence[str]) -> list[Variant]:
    horizons: list[tuple[str, dict[str, object]]] = [
        ("dynamic", {}),
        *(
            (f"fixed {steps}" if steps else "myopic", fixed_horizon(steps))
            for steps in (0, 1, 2, 4)
        ),
    ]
    return [
        Variant(
            f"{name}, {text} tokens", ECOALIGN, settings, budget=text, axis=name, at=float(number)
        )
        for number, text in enumerate(budgets or ("900", "1200", "1800", "8000"))
        for name, settings in horizons
    ]


def fixed_horizon(steps: int) -> dict[str, object]:
    """The settings of a horizon that does not shrink with the budget."""
    return {"horizon_unit": "fixed", "fixed_horizon": steps}


def _deep_suite() -> Suite:
    from ecoalign.bench.suites.deep_insight import DeepSuite

    return DeepSuite()


def _deep_method(variant: Variant) -> Method:
    from ecoalign.bench.suites.deep_insight import Digger

    return Digger(variant)


EXPERIMENTS: Mapping[str, Experiment] = {
    one.name: one
    for one in (
        Experiment(
            "main",
            "every method on the same samples: safety, utility, over-refusal and cost",
            _main,
            reference=ECOALIGN,
            figures=("frontier", "stages", "bars", "groups"),
        ),
        Experiment(
            "ablation",
            "what each part is worth: horizon, weakest link, cost term, actions, economy",
            _ablation,
            reference=ECOALIGN,
            figures=("bars", "stages", "frontier"),
        ),
        Experiment(
            "budget",
            "utility and safety against the budget; where it is exhausted and by which stage",
            _budget,
            reference=BASE,
            figures=("budget", "stages"),
        ),
        Experiment(
            "horizon",
            "look-ahead factor k, time value delta and a fixed horizon, on the suite",
            _horizon,
            reference=ECOALIGN,
            figures=("curve", "stages"),
        ),
        Experiment(
            "deep-insight",
            "the decisive insight lies deep and late: which horizon finds it, by the budget",
            _deep_variants,
            reference="dynamic, 8000 tokens",
            figures=("bars", "groups"),
            suite=_deep_suite,
            method=_deep_method,
        ),
        Experiment(
            "mixed-safety",
            "a harmful step inside a benign-looking chain: weakest link, last step, average",
            _mixed_variants,
            reference="safety: min",
            figures=("bars", "groups"),
            suite=_mixed_suite,
            method=_mixed_method,
        ),
        Experiment(
            "latency",
            "wall-clock against the number of calls and against the critical path",
            _latency,
            reference=BASE,
            figures=("latency", "stages"),
            concurrency=1,
        ),
    )
}


def experiment_named(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        InputError: there is none; the message names those there are.
    """
    try:
        return EXPERIMENTS[name]
    except KeyError:
        raise InputError(
            f"unknown experiment {name!r}; there are: {', '.join(EXPERIMENTS)}"
        ) from None
