"""The suites by name. A suite's module is imported when the suite is opened."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecoalign.errors import InputError

if TYPE_CHECKING:
    from ecoalign.bench.suites._base import Suite

__all__ = ["SUITES", "open_suite"]

_CLASSES: Mapping[str, tuple[str, str]] = {
    "world": (
        "world.WorldSuite",
        "the embedded model's synthetic world: exact truth, no judge, no files",
    ),
    "mm-safetybench": (
        "mm_safetybench.MMSafetyBench",
        "harmful requests carried by an image, 13 scenarios (judged)",
    ),
    "mssbench": (
        "mssbench.MSSBench",
        "situational safety: one request, a safe and an unsafe image (judged)",
    ),
    "siuo": ("siuo.SIUO", "safe inputs whose combination is not, open answers (judged)"),
    "siuo-mcqa": ("siuo.SIUOChoice", "the same as multiple choice"),
    "ocrbench": ("ocrbench.OCRBench", "text in images, 1,000 questions"),
    "mathvista": ("mathvista.MathVista", "mathematics in images, testmini"),
    "mmstar": ("mmstar.MMStar", "vision-indispensable multiple choice"),
}

SUITES: Mapping[str, str] = {name: line for name, (_, line) in _CLASSES.items()}
"""The suites by name, a line each. All but `world` need the files of their authors."""


def open_suite(name: str | Path, path: str | Path | None = None, **options: object) -> Suite:
    """The suite `name`. Its files are read by `samples`, not yet; nothing is ever downloaded.

    Args:
        name: of `SUITES`; or a file of one's own (.jsonl, .json, .csv, .tsv, .parquet), or a folder
            with images and questions, see `ecoalign.bench.suites.own`.
        path: file or folder, as the suite's class says; not for `world` and for one's own.
        options: one's own: `split`, `rule`, `tolerance`, `rubric`, `images`, `encoding`; world:
            `split` ("test" or "dev"); mm-safetybench: `kinds`, `scenarios`, `tiny`; mssbench:
            `parts`; siuo: `answers`; mathvista: `legacy_int`. As Python values or as text.

    Raises:
        InputError: the name or an option is unknown, an option's value is not allowed, or a path
            is missing.
    """
    if is_own(name):
        return _own(Path(name), path, options)
    name = str(name)
    if name not in SUITES:
        here = [one.name for one in Path().iterdir() if not one.name.startswith(".")]
        near = difflib.get_close_matches(name, [*SUITES, *here], n=1, cutoff=0.7)
        meant = f": did you mean {near[0]!r}?" if near else "."
        raise InputError(
            f"unknown suite {name!r}{meant} There are: {', '.join(SUITES)}; or name a file of your "
            "own, data.jsonl or the like"
        )
    module, _, class_name = _CLASSES[name][0].partition(".")
    cls: type[Any] = getattr(importlib.import_module(f"{__name__}.{module}"), class_name)
    suite: Suite
    split = options.pop("split", None)
    if name == "world":
        if path is not None or options:
            raise InputError("the suite world has no files and no options")
        suite = cls(split or "test")
        return suite
    if split is not None:
        raise InputError(f"the suite {name} has no --split: its files say what is in it")
    if path is None:
        raise InputError(
            f"the suite {name} is read from the files of its authors: say where they are, "
            "--path DIR. Nothing is downloaded"
        )
    suite = cls(Path(path), **_read_options(name, cls, options))
    return suite


def is_own(name: str | Path) -> bool:
    """Whether that is a file or folder of one's own, there or not, and no name of a suite."""
    if name in SUITES:
        return False
    return isinstance(name, Path) or bool(Path(name).suffix) or "/" in name or Path(name).exists()


def _own(name: Path, path: str | Path | None, given: Mapping[str, object]) -> Suite:
    from ecoalign.bench.suites.own import OwnData

    if path is not None:
        raise InputError(f"{str(name)!r} is the file itself: leave out --path")
    known = [each.name for each in fields(OwnData) if each.name != "path"]
    unknown = [option for option in given if option not in known]
    if unknown:
        raise InputError(
            f"a suite of one's own has no option {', '.join(map(repr, unknown))}; it has "
            f"{', '.join(known)}"
        )
    values: dict[str, Any] = {
        option: Path(str(value)) if option in {"rubric", "images"} else str(value).strip()
        for option, value in given.items()
    }
    suite: Suite = OwnData(name, **values)
    return suite


def _read_options(suite: str, cls: type[Any], given: Mapping[str, object]) -> dict[str, object]:
    """The options of a suite are the fields of its class that have defaults."""
    defaults = {field.name: field.default for field in fields(cls) if field.default is not MISSING}
    unknown = [name for name in given if name not in defaults]
    if unknown:
        known = f"it has {', '.join(defaults)}" if defaults else "it has none"
        raise InputError(f"{suite} has no option {', '.join(map(repr, unknown))}; {known}")
    return {
        name: _read_option(f"{suite}: the option {name}", value, defaults[name])
        for name, value in given.items()
    }


_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _read_option(option: str, value: object, default: object) -> object:
    """A flag, a number from 1, or some of the words of the default, from a value or from text."""
    text = str(value).strip()
    if isinstance(default, bool):
        if text.lower() not in _FLAGS:
            raise InputError(f"{option} is true or false")
        return _FLAGS[text.lower()]
    if isinstance(default, int):
        if not (text.isascii() and text.isdigit() and int(text) >= 1):
            raise InputError(f"{option} is a number from 1, not {value!r}")
        return int(text)
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list | tuple) or not isinstance(default, Sequence):
        raise InputError(f"{option} is a list, not {value!r}")
    chosen = tuple(str(entry).strip() for entry in entries)
    wrong = [entry for entry in chosen if entry not in default]
    if wrong or not chosen:
        raise InputError(
            f"{option} takes {', '.join(default)}, not {', '.join(map(repr, wrong)) or 'nothing'}"
        )
    return chosen
