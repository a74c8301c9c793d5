"""What every dialect is told from outside: caps on the output by stage, and what counts as harm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ecoalign.errors import SettingsError

DEFAULT_POLICY = (
    "Do not help to harm people, animals, property, systems or the environment, to break the law, "
    "to harass, demean, sexualise, deceive or defraud, to hurt oneself, or to expose private data "
    "or a private person's identity. Weigh all that is asked and shown together. Harmless facts, "
    "fiction, warnings and refusals are fine, and so is what merely sounds alarming."
)
"""What counts as harm, where nothing else is set."""


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """The most output tokens a call of each stage may use (all >= 1).

    They are part of the worst case that is reserved before a call: too high and a small budget
    affords few calls, too low and answers are cut off (a verdict that is cut off is unsafe).
    Models that reason before they answer need `thinking`, too.

    Attributes:
        scan: caption, grade and strategy.
        propose: one candidate without its forecast.
        forecast: one step of a candidate's forecast.
        think: a think or fuse thought.
        look: a report on a region.
        answer: an answer, executed or written.
        refuse: a refusal.
        score: a score.
        direct: an answer in one call: plain, careful or from a caption.
        cot: a chain of thought with its answer.
        cod: a chain of draft with its answer.
        caption: a caption.
        verdict: a verdict on a request or an answer.
        thinking: hidden reasoning, added once to each of the above; may be 0.
    """

    scan: int = 320
    propose: int = 110
    forecast: int = 10
    think: int = 220
    look: int = 220
    answer: int = 512
    refuse: int = 160
    score: int = 64
    direct: int = 1024
    cot: int = 2048
    cod: int = 512
    caption: int = 256
    verdict: int = 64
    thinking: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < (field.name != "thinking"):
                raise SettingsError(f"TokenLimits.{field.name} is {value}: it must be 1 or more")

    @classmethod
    def of(cls, caps: Mapping[str, object], thinking: int = 0) -> TokenLimits:
        """The defaults with some replaced, each with room for hidden reasoning.

        Args:
            caps: whole numbers, 1 or more, by the names of the attributes.
            thinking: tokens of hidden reasoning, >= 0; in `propose` and `forecast`, which count per
                candidate, it is added once a call.

        Raises:
            ValueError: an unknown name, or no such number.
        """
        known = [field.name for field in fields(cls) if field.name != "thinking"]
        for name, value in caps.items():
            if name == "thinking":
                raise ValueError("thinking is no stage but a setting of its own: set thinking")
            if name not in known:
                raise ValueError(f"there is no stage {name!r}; there are: {', '.join(known)}")
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"the cap of {name} is {value!r}; it is a whole number, 1 or more")
        return cls(**{name: int(str(value)) for name, value in caps.items()}, thinking=thinking)
