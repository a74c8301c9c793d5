"""What a model can do on its server: a dozen cheap calls, a table, and a profile for later runs."""

from __future__ import annotations

from ecoalign.probe._probe import default_budget, probe, probe_model
from ecoalign.probe._report import Finding, FormResult, Report

__all__ = ["Finding", "FormResult", "Report", "default_budget", "probe", "probe_model"]
