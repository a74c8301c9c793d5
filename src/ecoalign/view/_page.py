"""The page of a run, or of several: one HTML file that needs nothing else and lets nothing in."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ecoalign._text import harmless, short
from ecoalign._version import __version__
from ecoalign.trace import look

GENERATOR = "EcoAlign view"
"""What the page says that it was made by: `is_own_page` knows it again."""


@dataclass(frozen=True, slots=True)
class Assets:
    """The drawing of a run for a page of one's own."""

    js: str
    """Defines `EcoView`; see `viewer.js`."""
    css: str
    """Its style: all classes begin with `eco-`, and all variables with `--eco-`."""


def assets() -> Assets:
    """What a page needs to draw runs as `page` does: a script and a style, with no other file."""
    table = {
        "shapes": look.SHAPES,
        "icons": look.ICONS,
        "cross": look.CROSS,
        "kinds": look.KINDS,
        "marks": look.MARKS,
        "bounds": look.BOUNDS,
    }
    return Assets(
        f"const LOOK = {_json(table)};\n{_read('viewer.js')}", _variables() + _read("viewer.css")
    )


def page(
    stories: Sequence[Mapping[str, Any]],
    *,
    images: Mapping[str, str] | None = None,
    live_url: str | None = None,
    title: str | None = None,
) -> str:
    """A complete HTML page.

    Its policy lets only its own script and style run, loads nothing, and speaks to nobody; with
    `live_url` to its own server. What the runs say is data to it, and shown as text.

    Args:
        stories: runs as `Story.to_json` gives them; several stand side by side.
        images: `data:` URIs of the images by the SHA-256 that the trace has of them.
        live_url: where the page's own server says what is new; see `follow`.
        title: of the window; the first question if None.
    """
    own = assets()
    reach = loopback_script() if live_url is not None else ""
    script, style = own.js + reach + _read("boot.js"), own.css + _read("page.css")
    questions = [str(story.get("run", {}).get("question", "")) for story in stories]
    named = title or next((short(one, 60) for one in questions if one), "a run")
    data = {"stories": list(stories), "images": dict(images or {}), "live": live_url}
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.from_string(_read("page.html.jinja")).render(
        generator=GENERATOR,
        policy=policy(script, style, connects=live_url is not None),
        title=f"{harmless(named)} · EcoAlign",
        version=__version__,
        unscored=any(story.get("frames") for story in stories) or live_url is not None,
        style=Markup(style),  # noqa: S704 - our own
        script=Markup(script),  # noqa: S704 - our own
        data=Markup(_json(data)),  # noqa: S704 - it holds no "<"
    )


def loopback_script() -> str:
    """The script of a page that a `LoopbackServer` serves: it defines `EcoPage`."""
    return _read("loopback.js")


def policy(script: str, style: str, *, connects: bool = False) -> str:
    """A Content-Security-Policy for a page whose only script and style are these texts.

    Args:
        script, style: what is between the tags, exactly.
        connects: whether it may speak to the server that it came from.
    """
    rules = [
        "default-src 'none'",
        f"script-src '{_digest(script)}'",
        f"style-src '{_digest(style)}'",
        "img-src data:",
        f"connect-src '{'self' if connects else 'none'}'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
    return "; ".join(rules)


def is_own_page(head: str) -> bool:
    """Whether a file that begins with `head` was made by `page`."""
    return f'<meta name="generator" content="{GENERATOR}">' in head[:400]


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(body: object) -> str:
    """JSON that can stand in a script element, and is UTF-8 even where a text is not."""
    text = json.dumps(_finite(body), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    """`value` with null for what JSON has no number for, such as the value of an unsafe action."""
    if isinstance(value, Mapping):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@cache
def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _variables() -> str:
    """The colours: of the system's theme, or of the one that the page was set to."""

    def those(table: Mapping[str, str]) -> str:
        return " ".join(f"--eco-{name}: {colour};" for name, colour in table.items())

    return (
        f":root {{ color-scheme: light dark; {those(look.LIGHT)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {those(look.DARK)} }} }}\n"
        f':root[data-theme="light"] {{ color-scheme: light; {those(look.LIGHT)} }}\n'
        f':root[data-theme="dark"] {{ color-scheme: dark; {those(look.DARK)} }}\n'
    )
