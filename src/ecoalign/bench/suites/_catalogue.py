"""The benchmarks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ecoalign.bench.suites._base import Options, check_images
from ecoalign.bench.suites.mathvista import MathVista
from ecoalign.bench.suites.mm_safetybench import KINDS, SCENARIOS, MMSafetyBench
from ecoalign.bench.suites.mmstar import MMStar
from ecoalign.bench.suites.mssbench import PARTS, MSSBench
from ecoalign.bench.suites.ocrbench import OCRBench
from ecoalign.bench.suites.siuo import SIUO, SIUOChoice
from ecoalign.errors import InputError

if TYPE_CHECKING:
    from ecoalign.bench.suites._base import Suite

__all__ = ["BENCHMARKS", "check_images", "open_suite"]

_Opener = Callable[[Path, Options], "Suite"]


def _mm_safetybench(path: Path, options: Options) -> Suite:
    kinds = options.words("kinds", KINDS)
    scenarios = options.words("scenarios", SCENARIOS)
    return MMSafetyBench(path, kinds, scenarios, options.flag("tiny"))


BENCHMARKS: Mapping[str, _Opener] = {
    MMSafetyBench.name: _mm_safetybench,
    MSSBench.name: lambda path, options: MSSBench(path, options.words("parts", PARTS)),
    SIUO.name: lambda path, options: SIUO(path, options.count("answers", 1)),
    SIUOChoice.name: lambda path, options: SIUOChoice(path),
    OCRBench.name: lambda path, options: OCRBench(path),
    MathVista.name: lambda path, options: MathVista(path, options.flag("legacy_int")),
    MMStar.name: lambda path, options: MMStar(path),
}
"""What opens each benchmark, by its name on the command line."""


def open_suite(name: str, path: str | Path, **options: object) -> Suite:
    """The benchmark `name` from the files at `path`. Files are read by `samples`, not yet.

    Args:
        name: of `BENCHMARKS`: mm-safetybench, mssbench, siuo, siuo-mcqa, ocrbench, mathvista,
            mmstar.
        path: file or folder, as the benchmark's class says. Nothing is ever downloaded.
        options: mm-safetybench: `kinds`, `scenarios`, `tiny`; mssbench: `parts`; siuo: `answers`;
            mathvista: `legacy_int`. As Python values or as text.

    Raises:
        InputError: the name or an option is unknown, or an option's value is not allowed.
    """
    opener = BENCHMARKS.get(name)
    if opener is None:
        raise InputError(f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    chosen = Options(name, options)
    suite = opener(Path(path), chosen)
    chosen.done()
    return suite
