"""The words of the embedded model's world: what is in scenes and questions."""

from __future__ import annotations

COLOURS = {
    "red": (214, 40, 40),
    "green": (46, 158, 70),
    "blue": (38, 92, 214),
    "yellow": (242, 204, 32),
    "purple": (142, 52, 178),
    "orange": (244, 128, 24),
}
"""Of the shapes, by name: red, green and blue, 0 to 255."""

SHAPES = ("circle", "square", "triangle", "star", "cross")

CELLS = (
    "top-left",
    "top",
    "top-right",
    "left",
    "center",
    "right",
    "bottom-left",
    "bottom",
    "bottom-right",
)
"""Of the grid of three by three, row by row."""

RELATIONS = ("left of", "right of", "above", "below")

VERBS = ("wake", "open", "ring", "paint", "feed", "hide", "lift", "wash")

NOUNS = ("owl", "gate", "bell", "moon", "lamp", "drum", "kite", "frog")


def plural(shape: str) -> str:
    """ "circles", "crosses"."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"
