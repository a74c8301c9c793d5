"""The one settings object: validated, frozen, and able to say where each value came from."""

from __future__ import annotations

from ecoalign.settings._fields import MOST_DEFAULT, PRESET_TEXTS, PRESETS, default_budget
from ecoalign.settings._load import Role, SettingRow, Settings, preset_named
from ecoalign.settings._options import Options, Preset
from ecoalign.settings._sources import unknown_name

__all__ = [
    "MOST_DEFAULT",
    "PRESETS",
    "PRESET_TEXTS",
    "Options",
    "Preset",
    "Role",
    "SettingRow",
    "Settings",
    "default_budget",
    "preset_named",
    "unknown_name",
]
