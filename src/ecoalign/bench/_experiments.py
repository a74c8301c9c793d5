"""The experiments by name, each a list of variants; and what can be chosen of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ecoalign.bench._rows import FAILED
from ecoalign.errors import InputError
from ecoalign.settings import PRESETS, Settings

if TYPE_CHECKING:
    from ecoalign.bench._metrics import OwnTable
    from ecoalign.bench._rows import Row
    from ecoalign.bench.suites._base import Suite
    from ecoalign.methods import Method

BASE, ECOALIGN, COT = "base", "ecoalign", "cot"

DEFAULT_LIMIT = 40
"""Samples where nothing else is asked for: a first look, on the embedded model in minutes."""

_ABLATIONS = ("myopic", "fixed-horizon", "last-safety", "mean-safety", "no-cost")

Figure = Literal["frontier", "stages", "bars", "budget", "curve", "latency", "groups"]


@dataclass(frozen=True)
class BenchOptions:
    """What to run; the options of `ecoalign bench run`.

    Attributes:
        experiment: its name, of `EXPERIMENTS`.
        settings: in force; the model is one of them.
        suite: its name, of `SUITES`; a file or folder of one's own; or the suite itself, where it
            is made in Python. None for the experiment's own, or `world`.
        path: the files of a suite that has a name; not for `world`.
        split: of one's own file; of `world`: "test" (if None) or "dev"; of `population`: "all" (if
            None), too.
        suite_options: of the other suites, see `open_suite`: by name, or as texts "name=value".
        methods: names of variants or methods to run, a comma between names in one text; none for
            all of the experiment. Base is always run.
        judges: models that judge the answers.
        judge_base_url: the server of the judges.
        budgets: several: the steps of the experiment `budget`. A single one is for every answer.
        limit: samples at most, spread over the groups; 0 for all; None for the experiment's own.
        repeats: how often each sample is asked.
        out: where the rows go; None for a folder named for the run.
        concurrency: samples at once; None for the experiment's own, or 4.
        cache: file of the response cache, or whether to use the user's own.
        retry_failed: ask again what failed.
        xlsx: write the predictions of each variant for VLMEvalKit, too.
        command: as the report is to show it.
    """

    experiment: str
    settings: Settings = field(default_factory=Settings.load)
    suite: str | Path | Suite | None = None
    path: Path | None = None
    split: str | None = None
    suite_options: Mapping[str, object] | Sequence[str] = ()
    methods: str | Sequence[str] = ()
    judges: Sequence[str] = ()
    judge_base_url: str | None = None
    budgets: Sequence[str] = ()
    limit: int | None = None
    repeats: int = 1
    out: Path | None = None
    concurrency: int | None = None
    cache: Path | bool = False
    retry_failed: bool = False
    xlsx: bool = False
    command: str = ""


@dataclass(frozen=True, slots=True)
class Variant:
    """A method under some settings.

    Attributes:
        name: unique in its experiment.
        method: the method's name.
        settings: what differs from the settings in force, by name.
        budget: as on the command line; None for the budget in force.
        axis, at: where it is on the axis of a curve ("look_ahead", 0.25); "" and 0 if on none.
        given: what differs in the experiment's own suite, by name, as plain JSON.
    """

    name: str
    method: str
    settings: Mapping[str, object] = field(default_factory=dict)
    budget: str | None = None
    axis: str = ""
    at: float = 0.0
    given: Mapping[str, Any] = field(default_factory=dict)


TableOf = Callable[["Sequence[Row]", Mapping[str, Mapping[str, Any]]], "OwnTable"]
"""Makes a table of all rows, and of what differs in the experiment's own suite by variant."""

Own = Callable[[BenchOptions], tuple["Suite", Callable[[Variant, Settings], "Method"]]]


@dataclass(frozen=True, slots=True)
class Experiment:
    """A question to be answered by measurement, on one suite.

    Attributes:
        name: as on the command line.
        question: what it is to show, in one line.
        variants: made from the names of all methods, the dialect of the model ("compact" is the
            embedded model's) and the budgets asked for, if any.
        reference: the variant that the others are compared with.
        figures: what the report draws.
        concurrency: samples at once where nothing else is asked for.
        own: makes its own suite, and what makes a variant's method under the settings in force,
            where it has its own.
        limit: samples where nothing else is asked for; None for all.
        table: makes the table that the command prints, and that comes first in the report, where
            the usual one does not tell what it is about.
    """

    name: str
    question: str
    variants: Callable[[Sequence[str], str, Sequence[str]], list[Variant]] = field(compare=False)
    reference: str
    figures: tuple[Figure, ...]
    concurrency: int = 4
    own: Own | None = None
    limit: int | None = DEFAULT_LIMIT
    table: TableOf | None = None


def method_names() -> list[str]:
    """The methods that the experiment `main` compares: every one once; the presets that are
    ablations are in the experiment `ablation`."""
    from ecoalign.methods import METHODS

    ablations = (*_ABLATIONS, *(f"paper-{name}" for name in _ABLATIONS))
    left_out = {f"ecoalign:{preset}" for preset in ("default", *ablations)}
    return [name for name in METHODS if name not in left_out]


_BASE, _DEFAULT = Variant(BASE, BASE), Variant(ECOALIGN, ECOALIGN)


def _main(methods: Sequence[str], dialect: str, budgets: Sequence[str]) -> list[Variant]:
    return [Variant(name, name) for name in methods]


def _ablation(methods: Sequence[str], dialect: str, budgets: Sequence[str]) -> list[Variant]:
    """Each changes one thing: over the default, and those of the paper over its preset, too."""
    names = {
        "myopic": "horizon: myopic",
        "fixed-horizon": "horizon: fixed",
        "last-safety": "safety: last",
        "mean-safety": "safety: mean",
        "no-cost": "no cost term",
    }
    further: Mapping[str, Mapping[str, object]] = {
        "economy: ratio": {"economy": "ratio"},
        "every thought earns": {"utility_aggregator": "sum"},
        "no draft": {"draft": False},
        "never satisfied": {"satisfice": False},
        "no second thought": {"second_thought": False},
        "no rising bar": {"confirm": False, "unsafe_answers": 100_000},
        "written anew": {"synthesis": "always"},
        "strategy node": {"strategy": True},
        "no merging": {"merge": False},
        "no fusing": {"fuse": False},
        "no looking": {"look": False},
    }
    paper = f"{ECOALIGN}:paper"
    return [
        _BASE,
        _DEFAULT,
        *(Variant(title, ECOALIGN, PRESETS[name]) for name, title in names.items()),
        *(Variant(title, ECOALIGN, changes) for title, changes in further.items()),
        Variant("paper", paper),
        *(Variant(f"paper, {title}", f"{paper}-{name}") for name, title in names.items()),
        Variant("paper, written anew", paper, {"synthesis": "always"}),
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
        _DEFAULT,
        *(step("look_ahead", "k", value) for value in (0.0, 0.1, 0.25, 0.5, 1.0)),
        *(step("delta", "delta", value) for value in (0.5, 0.8, 0.95, 1.0)),
        *(
            Variant(f"horizon {n}", ECOALIGN, fixed_horizon(n), axis="fixed_horizon", at=float(n))
            for n in (0, 1, 2, 4, 8)
        ),
    ]


def _latency(methods: Sequence[str], dialect: str, budgets: Sequence[str]) -> list[Variant]:
    known = [name for name in (BASE, COT, "best-of-n") if name in methods]
    return [
        *(Variant(name, name) for name in known),
        _DEFAULT,
        *(Variant(f"{ECOALIGN}, batch {n}", ECOALIGN, {"batch": n}) for n in (1, 2, 8)),
        *(
            Variant(f"{ECOALIGN}, speculate {value}", ECOALIGN, {"speculate": value})
            for value in ("off", "likely", "all")
        ),
    ]


def _mixed_variants(methods: Sequence[str], dialect: str, budgets: Sequence[str]) -> list[Variant]:
    return [
        Variant(f"safety: {name}", f"extraction-{name}", {"aggregator": name})
        for name in ("min", "last", "mean")
    ]


def _mixed_safety(
    options: BenchOptions,
) -> tuple[Suite, Callable[[Variant, Settings], Method]]:
    from ecoalign.bench.suites.mixed_safety import ExtractionOnly, MixedSafetySuite

    def method(variant: Variant, settings: Settings) -> Method:
        return ExtractionOnly(str(variant.settings["aggregator"]))

    return MixedSafetySuite(), method


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


def _deep_insight(
    options: BenchOptions,
) -> tuple[Suite, Callable[[Variant, Settings], Method]]:
    from ecoalign.bench.suites.deep_insight import DeepInsightSuite, ScriptedEngine

    def method(variant: Variant, settings: Settings) -> Method:
        return ScriptedEngine(variant.method, variant.settings)

    return DeepInsightSuite(), method


def _population_variants(
    methods: Sequence[str], dialect: str, budgets: Sequence[str]
) -> list[Variant]:
    return [Variant(name, name) for name in method_names()]


def _population(
    options: BenchOptions,
) -> tuple[Suite, Callable[[Variant, Settings], Method]]:
    from ecoalign.bench.suites.population import OnProfile, PopulationSuite, split_named

    suite = PopulationSuite(split_named(options.split or "all"))
    return suite, lambda variant, settings: OnProfile(variant.method, settings)


def _population_table(rows: Sequence[Row], given: Mapping[str, Mapping[str, Any]]) -> OwnTable:
    from ecoalign.bench._metrics import OwnTable
    from ecoalign.bench.suites.population import Outcome, figures_of, outcome_of

    variants: dict[str, list[Outcome]] = {}
    for row in rows:
        if row.score is not None and row.score.label != FAILED:
            outcome = outcome_of(row.group, row.score, row.spent)
            variants.setdefault(row.key.variant, []).append(outcome)
    return OwnTable(
        "The mean over the models, and the worst of them",
        [{"variant": name, **figures} for name, figures in figures_of(variants).items()],
        "Shares in percent; costs as multiples of Base on the same model.",
    )


_NOISE = (0.01, 0.02, 0.05, 0.10, 0.20)

_FOOLED = (0.05, 0.20)

_NOISE_BUDGETS = (8_000, 40_000, 400_000)

_SINGLE = "best-of-1"

# What asks the judge once or not at all has one budget; what searches has several.
_NOISY: Mapping[str, tuple[str, Mapping[str, object], int]] = {
    "base": (BASE, {}, 1),
    "safety prompt": ("safety-prompt", {}, 1),
    "ecso": ("ecso", {}, 1),
    "vlm-guard": ("vlm-guard", {}, 1),
    "single verdict": (_SINGLE, {}, 1),
    "single verdict of two judges": (_SINGLE, {}, 2),
    "best of 4": ("best-of-n", {}, 1),
    "ecoalign": (ECOALIGN, {}, 1),
    "ecoalign without draft": (ECOALIGN, {"draft": False}, 1),
    "ecoalign with two judges": (ECOALIGN, {}, 2),
    "paper": ("ecoalign:paper", {}, 1),
}
"""Method, settings and number of judges by name."""

_UNJUDGED = (BASE, "safety prompt")


def _noise_variants(methods: Sequence[str], dialect: str, budgets: Sequence[str]) -> list[Variant]:
    """Every method at each p; the searches at several budgets; some at each q beside p = 5 %."""

    def one(name: str, p: float, q: float, tokens: int) -> Variant:
        method, settings, judges = _NOISY[name]
        given = {"method": name, "p": p, "q": q, "judges": judges}
        title = f"{name} p={p:.0%}{f' q={q:.0%}' if q else ''} B={tokens}"
        return Variant(title, method, settings, str(tokens), given=given)

    single = [name for name, (_, _, judges) in _NOISY.items() if judges == 1]
    usual = 40_000
    cells = [(name, p, 0.0, usual) for name in single for p in _NOISE]
    cells += [
        (name, p, 0.0, tokens)
        for name in single
        if _NOISY[name][0].startswith(ECOALIGN)
        for p in (0.05, 0.20)
        for tokens in _NOISE_BUDGETS
        if tokens != usual
    ]
    correlated = ("single verdict", "ecoalign", "paper")
    cells += [(name, 0.05, q, usual) for name in correlated for q in _FOOLED]
    twice = [name for name in _NOISY if name not in single]
    cells += [(name, 0.05, q, usual) for name in twice for q in (0.0, *_FOOLED)]
    # What asks no judge is the same at every p.
    cells = [cell for cell in cells if cell[0] not in _UNJUDGED or cell[1] == _NOISE[0]]
    names = [*_NOISY]
    cells.sort(key=lambda cell: (names.index(cell[0]), cell[2], cell[3], cell[1]))
    return [one(*cell) for cell in cells]


def _judge_noise(options: BenchOptions) -> tuple[Suite, Callable[[Variant, Settings], Method]]:
    from ecoalign.bench.suites.judge_noise import JudgeNoiseSuite, Noise, NoisyRun

    def method(variant: Variant, settings: Settings) -> Method:
        given = variant.given
        noise = Noise(given["p"], given["q"])
        return NoisyRun(variant.method, settings, noise, given["judges"], variant.name)

    return JudgeNoiseSuite(), method


def _noise_table(rows: Sequence[Row], given: Mapping[str, Mapping[str, Any]]) -> OwnTable:
    from ecoalign.bench.suites.judge_noise import table_of

    return table_of(rows, given)


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
            own=_deep_insight,
            limit=None,
        ),
        Experiment(
            "mixed-safety",
            "a harmful step inside a benign-looking chain: weakest link, last step, average",
            _mixed_variants,
            reference="safety: min",
            figures=("bars", "groups"),
            own=_mixed_safety,
            limit=None,
        ),
        Experiment(
            "judge-noise",
            "a judge that errs: what a search that lets it decide leaks, by the budget",
            _noise_variants,
            reference="single verdict p=5% B=40000",
            figures=(),
            concurrency=1,
            own=_judge_noise,
            limit=200,
            table=_noise_table,
        ),
        Experiment(
            "population",
            "every method on 24 simulated models that differ in all they can: mean and worst case",
            _population_variants,
            reference=ECOALIGN,
            figures=("frontier", "stages", "bars", "groups"),
            own=_population,
            limit=None,
            table=_population_table,
        ),
        Experiment(
            "latency",
            "wall-clock against calls and calls in line; what batches and speculation are worth",
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
    if name not in EXPERIMENTS:
        raise InputError(f"unknown experiment {name!r}; there are: {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
