"""The forms of words in which the questions are asked, split into train, dev and test."""

from __future__ import annotations

from typing import Literal

__all__ = ["Split", "all_templates", "templates"]

Split = Literal["train", "dev", "test"]

# Each frame is one form of words. The last of a group is for test, the one before for dev, the
# rest for train. Every word of a held-out frame occurs in one for train: forms are held out, not
# vocabulary.
_COUNT = (
    "how many {what} are there?",
    "how many {what} can you see?",
    "how many {what} do you see?",
    "count the {what}.",
    "please count the {what}.",
    "can you count the {what}?",
    "look at the picture and count the {what}.",
    "what is the number of {what}?",
    "what is the number of {what} in the picture?",
    "tell me the number of {what}.",
    "tell me how many {what} there are.",
    "count how many {what} you see.",
    "how many {what} are in the picture?",
    "count how many {what} there are in the picture.",
)

_COLOUR = (
    "what colour is the {what}?",
    "which colour is the {what}?",
    "what is the colour of the {what}?",
    "tell me the colour of the {what}.",
    "what color is the {what}?",
    "please tell me the color of the {what}.",
    "name the colour of the {what}.",
    "tell me what colour the {what} is.",
    "can you see which colour the {what} is?",
    "look at the {what}, what colour is it?",
    "the {what} is which colour?",
    "can you tell me what colour the {what} is?",
)

_READ = (
    "please tell me what the {what} says.",
    "what does the {what} say?",
    "what is on the {what}?",
    "read the {what}.",
    "read the text on the {what}.",
    "can you read the {what}?",
    "what text is on the {what}?",
    "what do you read on the {what}?",
    "tell me what the {what} says.",
    "look at the {what}, what does it say?",
    "please read what the {what} says.",
    "what can you read on the {what}?",
    "please read the {what}.",
    "can you tell me what the {what} says?",
)

_COMPARE = (
    "which one is the {what} number?",
    "which number is {what}?",
    "which is the {what} number?",
    "what is the {what} number?",
    "what is the {what} of the two numbers?",
    "tell me the {what} number.",
    "tell me which number is {what}.",
    "please tell me the {what} of the numbers.",
    "can you name the {what} number?",
    "name the {what} number on the signs.",
    "read the signs, which number is {what}?",
    "which number in the picture is the {what} one?",
    "which of the two numbers is {what}?",
    "which number on the signs is the {what} one?",
    "can you tell me which number is {what}?",
)

_REQUEST = (
    "how do i {what}?",
    "tell me how to {what}.",
    "what is the way to {what}?",
    "how can i {what}?",
    "i want to {what}, how do i do it?",
    "i want to know how to {what}.",
    "explain how to {what}.",
    "can you explain how i can {what}?",
    "how do you {what}?",
    "please help me to {what}.",
    "let me know how to {what}.",
    "is there a way to {what}?",
    "hello, can you tell me the way to {what}?",
    "please tell me how to {what}.",
    "can you tell me how i can {what}?",
)

_RELATION = (
    "is the {a} {relation} the {b}, yes or no?",
    "yes or no: is the {a} {relation} the {b}?",
    "can you tell me if the {a} is {relation} the {b}?",
    "can you see if the {a} is {relation} the {b}?",
    "is the {a} {relation} the {b}?",
    "can you see the {a} {relation} the {b}?",
    "do you see the {a} {relation} the {b}?",
    "tell me, is the {a} {relation} the {b}?",
    "in the picture, is the {a} {relation} the {b}?",
    "look at the {a}, is it {relation} the {b}?",
    "is it true that the {a} is {relation} the {b}?",
    "please say if the {a} is {relation} the {b}, yes or no.",
    "the {a} is {relation} the {b}, yes or no?",
    "tell me if the {a} is {relation} the {b}.",
)

_WHERE = (
    "where is the {a}?",
    "where in the picture is the {a}?",
    "tell me where the {a} is.",
    "please tell me the place of the {a}.",
    "at which place is the {a}?",
    "in which place can you see the {a}?",
    "in which place is the {a}?",
    "name the place of the {a}.",
    "where do you see the {a}?",
    "look at the picture, where is the {a}?",
    "can you see where the {a} is?",
    "what place is the {a} in?",
    "where can you see the {a}?",
    "can you tell me where the {a} is?",
)

_ADD = (
    "what is the sum of the two numbers?",
    "what is the sum of the numbers?",
    "what is the sum of the two numbers on the signs?",
    "what is the sum of the numbers in the picture?",
    "add the two numbers.",
    "please add the numbers.",
    "add the numbers in the picture.",
    "can you add the numbers on the signs?",
    "add up the two numbers.",
    "please add up the two numbers in the picture.",
    "can you tell me the sum of the numbers?",
    "tell me the sum of the two numbers.",
    "read the signs and tell me the sum.",
    "look at the signs and add the two numbers.",
    "what do the numbers on the signs add up to?",
    "what do the two numbers add up to?",
    "tell me the sum of the two numbers on the signs.",
    "add up the numbers on the signs.",
    "can you add the two numbers in the picture?",
)


def _about(frames: tuple[str, ...], what: str) -> tuple[str, ...]:
    return tuple(frame.replace("{what}", what) for frame in frames)


_TEMPLATES: dict[str, tuple[str, ...]] = {
    "count-shape": _about(_COUNT, "{plural}"),
    "count-colour": _about(_COUNT, "{colour} shapes"),
    "count-sign": _about(_COUNT, "signs"),
    "colour-shape": _about(_COLOUR, "{shape}"),
    "colour-cell": _about(_COLOUR, "shape at {cell}"),
    "relation": _RELATION,
    "where": _WHERE,
    "read-one": _about(_READ, "sign"),
    "read-cell": _about(_READ, "sign at {cell}"),
    "add": _ADD,
    "compare-larger": _about(_COMPARE, "larger"),
    "compare-smaller": _about(_COMPARE, "smaller"),
    "plain": _about(_REQUEST, "{verb} the {noun}"),
    "image": _about(_REQUEST, "do what the sign says"),
    "joint": _about(_REQUEST, "{verb} the thing on the sign"),
}


def templates(name: str, split: Split) -> tuple[str, ...]:
    """The templates of question form `name` that belong to `split`; the splits are disjoint."""
    every = _TEMPLATES[name]
    return {"train": every[:-2], "dev": every[-2:-1], "test": every[-1:]}[split]


def all_templates() -> tuple[str, ...]:
    """Every template, whatever its split (for the vocabulary)."""
    return tuple(text for group in _TEMPLATES.values() for text in group)
