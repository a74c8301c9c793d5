"""Key-values of prompts that were read, kept for later prompts that begin in the same way."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Layers = list[tuple[Any, Any]]
"""For each layer the keys and the values, [heads, tokens, size]."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The key-values of one prompt."""

    identity: np.ndarray[Any, np.dtype[np.int64]]
    layers: Layers
    size: int
    """In bytes."""


class PrefixStore:
    """The prompts that were read last, bounded in bytes; the one used longest ago goes first.

    Args:
        most: bytes of key-values, >= 0.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[int, Kept] = OrderedDict()
        self._next = 0
        self.size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def longest(self, identity: Sequence[int]) -> tuple[int, Kept | None]:
        """The prompt that begins most like `identity`, and how many tokens they share."""
        wanted = np.asarray(identity, dtype=np.int64)
        best, found = 0, -1
        for number, kept in self._kept.items():
            shared = common(wanted, kept.identity)
            if shared >= max(best, 1):  # of equals the one used last
                best, found = shared, number
        if found < 0:
            return 0, None
        self._kept.move_to_end(found)
        return best, self._kept[found]

    def add(self, identity: Sequence[int], layers: Layers) -> None:
        """Keep a prompt, in the place of those that it begins with."""
        own = np.asarray(identity, dtype=np.int64)
        size = sum(k.numel() * k.element_size() + v.numel() * v.element_size() for k, v in layers)
        if size > self._most:
            return
        for number, kept in list(self._kept.items()):
            if common(own, kept.identity) == len(kept.identity):
                self._drop(number)
        self._kept[self._next] = Kept(own, layers, size)
        self._next += 1
        self.size += size
        while self.size > self._most:
            self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Keep nothing."""
        self._kept.clear()
        self.size = 0

    def _drop(self, number: int) -> None:
        self.size -= self._kept.pop(number).size


def common(
    one: np.ndarray[Any, np.dtype[np.int64]], other: np.ndarray[Any, np.dtype[np.int64]]
) -> int:
    """How many entries two sequences share at their begin."""
    short = min(len(one), len(other))
    differ = np.flatnonzero(one[:short] != other[:short])
    return int(differ[0]) if len(differ) else short
