"""Rows packed into tensors, made by worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from ecoalign.models.embedded._tokenizer import Tokenizer
from lab.drills import ask_row, law_row, link_row, look_row, plan_row, reason_row, scan_row, sum_row
from lab.net import IMAGE_TOKENS
from lab.samples import Row, Segment, row

SEED_STRIDE = 10**7
"""Batches of a run have so many seeds; dev and test cases are made from 10^9 on (lab/check)."""

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

VERDICT = 2.0
"""Weight of a digit that is a verdict; a common token has 1 / sqrt(length of its target)."""


@dataclass(frozen=True)
class Shares:
    """Shares of batches that are one drill alone (see `lab.drills`); the rest mix all roles."""

    looks: float = 0.0
    scans: float = 0.0
    asks: float = 0.0
    laws: float = 0.0
    sums: float = 0.0
    plans: float = 0.0
    reasons: float = 0.0
    links: float = 0.0


class Packed(IterableDataset[Batch]):
    """Endless batches: pixels, ids, places, segments, sees-image flags, targets (-100: none) and
    the targets' weights.

    Args:
        rows: rows per batch.
        room: text tokens per row.
        start: number of the first batch; resuming passes the next one, so no row repeats.
        shares: of the drills; None mixes all roles.
        seed: of the data; batch `number` is the same for the same seed.
    """

    def __init__(
        self, rows: int, room: int, start: int = 0, shares: Shares | None = None, seed: int = 0
    ) -> None:
        self.rows, self.room, self.start, self.seed = rows, room, start, seed
        self.shares = shares or Shares()
        self.tokenizer = Tokenizer.load()

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        number, workers = (info.id, info.num_workers) if info else (0, 1)
        step = self.start + number
        while True:
            rng = Random(self.seed * SEED_STRIDE + step)
            yield self.pack(self.draw(rng))
            step += workers

    def draw(self, rng: Random) -> list[Row]:
        """The rows of a batch: one drill alone, or all roles mixed, at like cost."""
        shares, rows, room = self.shares, self.rows, self.room
        drills: list[tuple[float, int, Callable[[], Row]]] = [
            (shares.looks, rows * 12 // 5, lambda: look_row(rng)),
            (shares.scans, rows * 6 // 5, lambda: scan_row(rng)),
            (shares.asks, rows, lambda: ask_row(rng, room, self.length)),
            (shares.laws, rows, lambda: law_row(rng, room, self.length)),
            (shares.sums, rows, lambda: sum_row(rng, room, self.length)),
            (shares.plans, rows * 3 // 4, lambda: plan_row(rng, room, self.length)),
            (shares.reasons, rows, lambda: reason_row(rng, room, self.length)),
            (shares.links, rows // 2, lambda: link_row(rng, room, self.length)),
        ]
        roll = rng.random()
        for share, count, drill in drills:
            if roll < share:
                return [drill() for _ in range(count)]
            roll -= share
        return [row(rng, room, self.length) for _ in range(rows)]

    def length(self, segment: Segment) -> int:
        encode = self.tokenizer.encode
        return len(encode(segment.prompt)) + len(encode(segment.target)) + 1

    def pack(self, rows: list[Row]) -> Batch:
        used = max(sum(self.length(s) - 1 for s in one.segments) for one in rows)
        shape = (len(rows), used)
        ids = np.full(shape, self.tokenizer.pad, dtype=np.int64)
        places = np.zeros(shape, dtype=np.int64)
        parts = np.zeros(shape, dtype=np.int64)
        sees = np.zeros(shape, dtype=bool)
        targets = np.full(shape, -100, dtype=np.int64)
        weights = np.zeros(shape, dtype=np.float32)
        for i, one in enumerate(rows):
            at = 0
            for number, segment in enumerate(one.segments, 1):
                prompt = self.tokenizer.encode(segment.prompt)
                whole = [*prompt, *self.tokenizer.encode(segment.target), self.tokenizer.eos]
                n = len(whole) - 1
                here = slice(at, at + n)
                ids[i, here] = whole[:-1]
                places[i, here] = range(n)
                parts[i, here] = number
                sees[i, here] = segment.image
                told = slice(at + len(prompt) - 1, at + n)
                targets[i, told] = whole[len(prompt) :]
                weights[i, told] = self.weights(segment, whole[len(prompt) :])
                at += n
        pixels = np.stack([one.pixels for one in rows])
        tensors = (
            torch.from_numpy(a) for a in (pixels, ids, places, parts, sees, targets, weights)
        )
        a, b, c, d, e, f, g = tensors
        return a, b, c, d, e, f, g

    def weights(self, segment: Segment, target: list[int]) -> NDArray[np.float32]:
        """One weight for each token of a target: long captions must not drown short answers."""
        out = np.full(len(target), len(target) ** -0.5, dtype=np.float32)
        if segment.prompt.startswith("<scan>"):
            out[target.index(self.tokenizer.id(">")) + 1] = VERDICT
        elif segment.prompt.startswith("<score>"):
            out[:2] = VERDICT
        elif segment.prompt.startswith(("<ask>", "<answer>", "<think>")):
            # Reasoning goes before the answer: its length must not make what is decided light.
            for mark, after in (("so", 3), (":", 1)):
                if self.tokenizer.id(mark) in target:
                    out[target.index(self.tokenizer.id(mark)) + after] = VERDICT
        return out


def attention_mask(parts: Tensor, sees: Tensor) -> Tensor:
    """bool [B, 1, 36 + T, 36 + T]: image sees image; text its own segment's past, and the image
    where `sees`."""
    batch, length = parts.shape
    causal = torch.ones(length, length, dtype=torch.bool, device=parts.device).tril()
    text = (parts[:, :, None] == parts[:, None, :]) & causal
    whole = torch.zeros(
        batch, IMAGE_TOKENS + length, IMAGE_TOKENS + length, dtype=torch.bool, device=parts.device
    )
    whole[:, :IMAGE_TOKENS, :IMAGE_TOKENS] = True
    whole[:, IMAGE_TOKENS:, IMAGE_TOKENS:] = text
    whole[:, IMAGE_TOKENS:, :IMAGE_TOKENS] = sees[:, :, None]
    return whole[:, None]
