"""The drawing of a run: a page of its own, and the parts of it for other pages."""

from __future__ import annotations

from ecoalign.view._page import Assets, assets, is_own_page, page, policy

__all__ = ["Assets", "assets", "is_own_page", "page", "policy"]
