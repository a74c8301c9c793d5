"""The page: one file of HTML with its style and script inside, and the viewer's."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from ecoalign import view


@cache
def page() -> str:
    """The playground's page. It holds nothing of the operator's: all that comes by requests."""
    folder = files(__package__) / "assets"
    html, style, script = (
        (folder / name).read_text(encoding="utf-8") for name in ("play.html", "play.css", "play.js")
    )
    drawing = view.assets()
    parts = {
        "STYLE": f"{drawing.css}\n{style}",
        "SCRIPT": f"{drawing.js}\n{view.loopback_script()}\n{script}",
    }
    for name, text in parts.items():
        html = html.replace(f"/*{name}*/", text)
    return html
