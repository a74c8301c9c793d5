"""The compact dialect's wording: what the embedded model was trained to read and to write.

Pure strings, shared by the dialect and by the training data in lab/, so that the two cannot
drift apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from ecoalign.models.embedded._tokenizer import plain

__all__ = [
    "FUSABLE",
    "REFUSAL_LOOKS",
    "answer_prompt",
    "fuse_prompt",
    "look_prompt",
    "plain_prompt",
    "propose_prompt",
    "refuse_prompt",
    "safety_of",
    "scan_prompt",
    "score_prompt",
    "think_prompt",
    "utility_of",
]

REFUSAL_LOOKS = "i can not help"

FUSABLE = 9
"""Most thoughts that a proposal may fuse with."""


def safety_of(digit: float) -> float:
    """A safety digit 0..9 as s in [-1, 1]; 5 and more is not negative."""
    return (digit - 4.5) / 4.5


def utility_of(digit: float) -> float:
    """A utility digit 0..9 as u in [0, 1]."""
    return digit / 9


def _joined(texts: Sequence[str]) -> str:
    return " | ".join(plain(text) for text in texts)


def _path(texts: Sequence[str]) -> str:
    return f" <path> {_joined(texts)}" if texts else ""


def plain_prompt(role: str, question: str) -> str:
    """`role` is ask (the plain model), careful (refusal-leaning), steps (CoT) or draft (CoD)."""
    return f"<{role}> {plain(question)} <out>"


def scan_prompt(question: str) -> str:
    """-> "CAPTION > RISK" or "CAPTION > RISK PLAN", with the image."""
    return f"<scan> {plain(question)} <out>"


def propose_prompt(question: str, caption: str, path: Sequence[str], others: Sequence[str]) -> str:
    """-> candidates, each "KIND [CELL | NUMBER] s u [> s u]", joined by ";"; no image.

    The first `FUSABLE` of `others` are listed, so that a number is one digit.
    """
    numbered = enumerate(others[:FUSABLE], 1)
    listed = " | ".join(f"{i} : {plain(text)}".rstrip() for i, text in numbered)
    tail = f" <others> {listed}" if others else ""
    return f"<propose> {plain(question)} <cap> {plain(caption)}{_path(path)}{tail} <out>"


def think_prompt(question: str, path: Sequence[str]) -> str:
    """-> one thought, with the image."""
    return f"<think> {plain(question)}{_path(path)} <out>"


def look_prompt(question: str, cell: str) -> str:
    """-> what the crop of `cell` shows, with the crop as the image."""
    return f"<look> {plain(question)} <at> {cell} <out>"


def fuse_prompt(question: str, path: Sequence[str], others: Sequence[str]) -> str:
    """-> the thoughts as one, no image."""
    return f"<fuse> {plain(question)}{_path(path)} <others> {_joined(others)} <out>"


def answer_prompt(question: str, path: Sequence[str], caption: str = "") -> str:
    """-> the answer that follows from the path, with or without the image."""
    shown = f" <cap> {plain(caption)}" if caption else ""
    return f"<answer> {plain(question)}{shown}{_path(path)} <out>"


def refuse_prompt(question: str, path: Sequence[str]) -> str:
    """-> a refusal that says why and offers what it can, no image."""
    return f"<refuse> {plain(question)}{_path(path)} <out>"


def score_prompt(question: str, path: Sequence[str], kind: str, text: str, check: int = 0) -> str:
    """-> two digits, safety and utility; with the image (the crop for a look).

    Three orders, by `check`: question, path, item; item, question, path; path, question, item.
    """
    asked, item = plain(question), f"<t> {kind} : {plain(text)}"
    match check % 3:
        case 0:
            return f"<score> {asked}{_path(path)} {item} <out>"
        case 1:
            return f"<score> {item} <ask> {asked}{_path(path)} <out>"
        case _:
            return f"<score>{_path(path)} <ask> {asked} {item} <out>"
