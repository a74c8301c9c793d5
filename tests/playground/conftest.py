"""The browser that the tests of the page share."""

from __future__ import annotations

from browser import chromium

__all__ = ["chromium"]
