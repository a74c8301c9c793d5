"""A run again from its trace, without a model: the same, or as it would be under other settings."""

from __future__ import annotations

from ecoalign.replay._replay import ReplayModel, replay
from ecoalign.replay._what_if import Difference, WhatIf, what_if

__all__ = ["Difference", "ReplayModel", "WhatIf", "replay", "what_if"]
