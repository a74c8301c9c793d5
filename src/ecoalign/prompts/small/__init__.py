"""The `small` dialect: for models that do not keep to a form, some hundred million parameters."""

from __future__ import annotations

from ecoalign.prompts.small._dialect import SmallDialect

__all__ = ["SmallDialect"]
