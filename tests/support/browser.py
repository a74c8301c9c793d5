"""A real browser that can reach nothing but files and this machine: Debian's Chromium, driven by
playwright. Tests that want it are skipped, and say why, where either is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

CHROMIUM = Path(os.environ.get("ECOALIGN_CHROMIUM", "/usr/bin/chromium"))

SHOTS = os.environ.get("SCREENSHOTS")
"""The folder in which screenshots are kept; without it none are made."""

_REACHABLE = ("file://", "data:", "blob:", "about:", "http://127.0.0.1:", "http://localhost:")


# No longer than a module: while playwright runs, no other event loop can in its thread.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser, started once for the tests of a file, which must not be asynchronous."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: tests/browser/requirements.txt"
    )
    if not CHROMIUM.exists():
        pytest.skip(f"needs a browser: there is no {CHROMIUM}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@dataclass
class Tab:
    """A page, and what went wrong in it.

    Attributes:
        page: playwright's.
        errors: what the console said that was an error or a warning, and what no one caught.
        refused: addresses beyond this machine that the page wanted.
    """

    page: Page
    errors: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def shoot(self, name: str) -> None:
        """Keep a picture of the whole page, if pictures are wanted."""
        if SHOTS:
            folder = Path(SHOTS)
            folder.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=folder / f"{name}.png", full_page=True)

    def overflow(self) -> int:
        """How many px the page is wider than its window."""
        return int(
            self.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )


@contextmanager
def tab(
    browser: Browser,
    *,
    width: int = 1280,
    height: int = 900,
    theme: Literal["light", "dark"] = "light",
    strict: bool = True,
    **options: Any,
) -> Iterator[Tab]:
    """A page of its own.

    Args:
        browser: see `chromium`.
        width, height: of the window, in px.
        theme: that of the system.
        strict: whether errors, and addresses beyond this machine, fail the test.
        options: further ones of playwright's `new_context`.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, **options
    )
    found = Tab(context.new_page())

    def guard(route: Route) -> None:
        if route.request.url.startswith(_REACHABLE):
            route.continue_()
        else:
            found.refused.append(route.request.url)
            route.abort()

    context.route("**/*", guard)
    found.page.on(
        "console",
        lambda message: (
            found.errors.append(message.text) if message.type in {"error", "warning"} else None
        ),
    )
    found.page.on("pageerror", lambda error: found.errors.append(str(error)))
    try:
        yield found
        if strict:
            assert found.errors == []
            assert found.refused == []
    finally:
        context.close()
