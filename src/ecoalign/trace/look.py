"""How thoughts look: shapes, colours and words, the same in the page, the drawing and the terminal.

Shapes tell kinds apart and outlines tell fates apart, so that nothing is said by colour alone.
"""

from __future__ import annotations

import math
import re
from typing import Final

SHAPES: Final = {
    # Paths of unit radius around (0, 0), of absolute moves, lines and curves alone.
    "root": "M-.72 -.9L.72 -.9C.84 -.9 .9 -.84 .9 -.72L.9 .72C.9 .84 .84 .9 .72 .9L-.72 .9"
    "C-.84 .9 -.9 .84 -.9 .72L-.9 -.72C-.9 -.84 -.84 -.9 -.72 -.9Z",
    "strategy": "M-1 0L-.5 -.88L.5 -.88L1 0L.5 .88L-.5 .88Z",
    "think": "M0 -1C.55 -1 1 -.55 1 0C1 .55 .55 1 0 1C-.55 1 -1 .55 -1 0C-1 -.55 -.55 -1 0 -1Z",
    "look": "M-1.2 0C-.6 -1 .6 -1 1.2 0C.6 1 -.6 1 -1.2 0Z",
    "fuse": "M0 -1.15L1.15 0L0 1.15L-1.15 0Z",
    "answer": "M-.65 -.9L.65 -.9C.88 -.9 1 -.78 1 -.55L1 .25C1 .48 .88 .6 .65 .6L-.15 .6L-.6 1.05"
    "L-.6 .6L-.65 .6C-.88 .6 -1 .48 -1 .25L-1 -.55C-1 -.78 -.88 -.9 -.65 -.9Z",
    "refusal": "M-.42 -1L.42 -1L1 -.42L1 .42L.42 1L-.42 1L-1 .42L-1 -.42Z",
}
"""The outline of each kind of thought: a frame, a hexagon, a circle, an eye, a diamond, a speech
bubble, an octagon."""

ICONS: Final = {
    "root": "M-.6 .5L-.15 -.1L.15 .25L.35 0L.65 .5M.3 -.42L.42 -.42",
    "strategy": "M-.4 -.3L.4 -.3M-.4 0L.4 0M-.4 .3L.15 .3",
    "think": "M-.42 0L-.38 0M-.02 0L.02 0M.38 0L.42 0",
    "look": "M0 -.3C.17 -.3 .3 -.17 .3 0C.3 .17 .17 .3 0 .3C-.17 .3 -.3 .17 -.3 0"
    "C-.3 -.17 -.17 -.3 0 -.3Z",
    "fuse": "M-.35 -.3L0 0L.4 0M-.35 .3L0 0",
    "answer": "M-.5 -.4L.5 -.4M-.5 -.05L.2 -.05",
    "refusal": "M-.5 0L.5 0",
}
"""Lines drawn into the shapes."""

CROSS: Final = "M-1 -1L1 1M-1 1L1 -1"
"""Drawn over what was pruned."""

KINDS: Final = {
    "root": "image and question",
    "strategy": "plan",
    "think": "thought",
    "look": "closer look",
    "fuse": "fusion",
    "answer": "answer",
    "refusal": "refusal",
}
"""What each kind is called."""

MARKS: Final = {
    "answer": "the answer",
    "draft": "draft",
    "unsafe": "unsafe",
    "pruned": "pruned",
    "merged": "merged",
    "fused": "fused",
    "confirmed": "confirmed",
    "path": "winning path",
}
"""What each mark is called, in the order in which they are shown."""

BOUNDS: Final = (-0.6, -0.2, 0.0, 0.2, 0.5, 0.8)
"""Where one colour of safety ends and the next begins: 7 colours from -1 to 1. Below 0 they are
orange, above blue, which every kind of colour blindness tells apart."""

LIGHT: Final = {
    "page": "#ffffff",
    "panel": "#f5f7f9",
    "card": "#ffffff",
    "ink": "#1c2127",
    "quiet": "#566170",
    "rule": "#d9dee4",
    "edge": "#98a3b0",
    "link": "#0b5f91",
    "focus": "#0b6fa4",
    "mark": "#e6f0f7",
    "s0": "#a8330c",
    "s1": "#d4662f",
    "s2": "#efb28d",
    "s3": "#ccd1d7",
    "s4": "#a3cbe6",
    "s5": "#4d95c9",
    "s6": "#155f9e",
    "on0": "#ffffff",
    "on1": "#ffffff",
    "on2": "#1c2127",
    "on3": "#1c2127",
    "on4": "#1c2127",
    "on5": "#ffffff",
    "on6": "#ffffff",
}

DARK: Final = {
    "page": "#12161a",
    "panel": "#1a2026",
    "card": "#1f262d",
    "ink": "#e7ebef",
    "quiet": "#a2aebb",
    "rule": "#333d47",
    "edge": "#6b7783",
    "link": "#79c0ee",
    "focus": "#79c0ee",
    "mark": "#1d3342",
    "s0": "#f0703a",
    "s1": "#cf6a3d",
    "s2": "#8f573c",
    "s3": "#59636e",
    "s4": "#3f6f91",
    "s5": "#4c97cc",
    "s6": "#7cc4f5",
    "on0": "#14181c",
    "on1": "#14181c",
    "on2": "#ffffff",
    "on3": "#ffffff",
    "on4": "#ffffff",
    "on5": "#14181c",
    "on6": "#14181c",
}

_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)")


def shade(safety: float | None) -> int:
    """The colour of a safety in [-1, 1]: 0 (unsafe) to 6 (safe), 3 if it is not known."""
    return 3 if safety is None else sum(safety >= bound for bound in BOUNDS)


def scaled(path: str, radius: float) -> str:
    """A unit path at `radius` px."""
    return _NUMBER.sub(lambda found: f"{float(found[0]) * radius:.1f}", path)


def radius(utility: float | None, most: float = 1.0) -> float:
    """The radius of a thought in px, 7 to 16: its area grows with its utility, of which `most` is
    the greatest in the drawing (at least 1)."""
    share = max(0.0, utility or 0.0) / max(1.0, most)
    return 7.0 + 9.0 * math.sqrt(min(1.0, share))
