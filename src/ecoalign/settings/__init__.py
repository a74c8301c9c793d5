"""The one settings object: validated, frozen, and able to say where each value came from."""

from __future__ import annotations

from ecoalign.settings.load import SettingRow, Settings
from ecoalign.settings.presets import PRESETS

__all__ = ["PRESETS", "SettingRow", "Settings"]
