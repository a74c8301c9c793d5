"""From the name of a method, as a user writes it, to the method."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ecoalign.errors import SettingsError
from ecoalign.methods._base import Method
from ecoalign.methods._best_of_n import DEFAULT_N, LARGEST_N, BestOfN
from ecoalign.methods._direct import DIRECT, Direct
from ecoalign.methods._ecoalign import EcoAlign
from ecoalign.methods._ecso import Ecso
from ecoalign.methods._vlm_guard import VlmGuard
from ecoalign.settings import PRESET_TEXTS, PRESETS, Settings, unknown_name

METHODS: Mapping[str, str] = {
    **{name: label for name, (_, label) in DIRECT.items()},
    "ecso": "ECSO: self-check, then answer from a caption without the image (arXiv 2403.09572)",
    "vlm-guard": "VLM-Guard, black-box reading: caption, text-only gate, output check; the "
    "published method (arXiv 2502.10486) steers activations and cannot run on closed models",
    "best-of-n": f"Best of n: {DEFAULT_N} answers (best-of-8: that many), the best by EcoAlign's "
    "evaluator",
    "ecoalign": "EcoAlign, with the settings as they are",
    **{f"ecoalign:{preset}": f"EcoAlign, {text}" for preset, text in PRESET_TEXTS.items()},
}
"""All names with a line each. "best-of-8" and the like are understood, too."""

_BEST_OF = re.compile(r"best-of-([0-9]{1,3})")


def is_method(name: str) -> bool:
    """Whether `open_method` knows the name."""
    best = _BEST_OF.fullmatch(name)
    return name in METHODS or (best is not None and 1 <= int(best[1]) <= LARGEST_N)


def open_method(name: str, settings: Settings) -> Method:
    """The method that `name` means, one of `METHODS`.

    Args:
        name: "base", "best-of-n", "best-of-8", "ecoalign", "ecoalign:paper" ...
        settings: of every method: retries, sampling, thresholds, who scores. "ecoalign:PRESET"
            is under the preset and, as always, under what the settings set one by one.

    Raises:
        SettingsError: there is no such method or preset.
    """
    if name in DIRECT:
        return Direct(name, settings)
    if name == "ecso":
        return Ecso(name, settings)
    if name == "vlm-guard":
        return VlmGuard(name, settings)
    if name == "best-of-n":
        return BestOfN(name, settings, DEFAULT_N)
    if match := _BEST_OF.fullmatch(name):
        n = int(match[1])
        if not 1 <= n <= LARGEST_N:
            raise SettingsError(f"method {name!r}: n goes from 1 to {LARGEST_N}")
        return BestOfN(name, settings, n)
    kind, colon, preset = name.partition(":")
    if kind != "ecoalign":
        raise unknown_name("method", name, METHODS, "open_method")
    return EcoAlign(name, with_preset(settings, preset) if colon else settings)


def with_preset(settings: Settings, preset: str) -> Settings:
    """`settings` as if they had been read under another preset: what was set one by one stays.

    Raises:
        SettingsError: there is no such preset, or it does not go with what was set.
    """
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS, "the name of a method")
    own = {
        name: getattr(settings, name)
        for name in type(settings).model_fields
        if settings.origin(name) != "default" and not settings.origin(name).startswith("preset ")
    }
    values = {"preset": preset, **PRESETS[preset], **own}
    return Settings.from_json(values, f"method ecoalign:{preset}")
