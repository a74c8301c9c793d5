"""What an operator decides about the playground."""

from __future__ import annotations

from dataclasses import dataclass

from ecoalign.budget import Budget
from ecoalign.settings import MOST_DEFAULT, Settings


@dataclass(frozen=True, slots=True)
class Example:
    """A picture to begin with.

    Attributes:
        name: a word.
        png: the picture.
        questions: what to ask about it, each with a few words on what is to be seen.
    """

    name: str
    png: bytes
    questions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PlaygroundConfig:
    """The playground.

    Attributes:
        settings: the model, the evaluator, and what every method starts from.
        most: the most that one answer may spend, whatever the page asks for; by default the budget
            that was set, or 200,000 tokens where none was.
        examples: what the page offers to begin with.
        runs: questions under way at once, >= 1; each may be asked by several methods.
        most_methods: that one question may be asked by, >= 1.
        most_images: of one question, >= 0.
        most_body: bytes of one question, pictures and all.
    """

    settings: Settings
    most: Budget | None = None
    examples: tuple[Example, ...] = ()
    runs: int = 2
    most_methods: int = 6
    most_images: int = 8
    most_body: int = 32 * 1024 * 1024

    @property
    def limit(self) -> Budget:
        """The most that one answer may spend."""
        if self.most is not None:
            return self.most
        if self.settings.origin("budget") != "default":
            return self.settings.budget
        return Budget(tokens=MOST_DEFAULT)
