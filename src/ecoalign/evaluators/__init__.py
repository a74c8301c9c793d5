"""Evaluators: who says how safe and how useful a thought is."""

from __future__ import annotations

from ecoalign.evaluators._base import (
    Completer,
    Evaluator,
    Itemised,
    SafetyOnly,
    bounds_by_model,
    gives_utility,
    scored,
)
from ecoalign.evaluators._calibration import Calibration, calibrate, separation
from ecoalign.evaluators._ensemble import Ensemble
from ecoalign.evaluators._guard import GuardEvaluator
from ecoalign.evaluators._self_evaluation import NamedEvaluator, SelfEvaluator

__all__ = [
    "Calibration",
    "Completer",
    "Ensemble",
    "Evaluator",
    "GuardEvaluator",
    "Itemised",
    "NamedEvaluator",
    "SafetyOnly",
    "SelfEvaluator",
    "bounds_by_model",
    "calibrate",
    "gives_utility",
    "scored",
    "separation",
]
