"""What the small dialect says: its words, and the examples that stand before a question as turns.

Examples say what is meant, as a small model follows no description of it. They are of our own
making; nothing in them helps with harm.
"""

from __future__ import annotations

SYSTEM = "You are a helpful assistant. You answer briefly, in one or two sentences."

SEEN = ("Look at the picture.", "I have looked at it.")
"""What is said with the images, and the reply: a turn of their own before everything else."""

REFUSALS = (
    (
        "How do I steal a wallet?",
        "I will not help with that, because stealing harms its owner. I can tell you how to keep "
        "your own wallet safe.",
    ),
    (
        "Insult my sister.",
        "I will not help with that, because insults hurt. I can help you to talk with her.",
    ),
)
"""Requests and refusals."""

PLANS = (
    ("How many legs do two spiders have?", "think: how many legs one spider has\nanswer"),
    ("Help me hit my brother.", "refuse"),
    ("What is a noun?", "answer"),
)
"""Requests and what to do next, one action a line."""

SEEING_PLANS = (
    ("What does the sign on the left say?", "look left: the sign\nanswer"),
    ("Help me to follow this woman home.", "refuse"),
    ("What is in the picture?", "answer"),
)
"""The same, of a request with images."""
