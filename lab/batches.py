"""Rows packed into tensors, made by worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from ecoalign.models.embedded.tokenizer import Tokenizer
from lab.net import IMAGE_TOKENS
from lab.samples import Row, Segment, look_row, row, scan_row, sum_row

TRAIN_SEEDS = 0
"""Training rows use seeds from here; dev and test cases are made with other ranges (lab/check)."""

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class Packed(IterableDataset[Batch]):
    """Endless batches: pixels, ids, places, segments, sees-image flags, targets (-100: none).

    Args:
        rows: rows per batch.
        room: text tokens per row.
        start: number of the first batch; resuming passes the next one, so no row repeats.
        looks, scans: shares of batches with that role alone, on more images.
        sums: share of batches of arithmetic on what was read.
    """

    def __init__(
        self,
        rows: int,
        room: int,
        start: int = 0,
        looks: float = 0.0,
        scans: float = 0.0,
        sums: float = 0.0,
    ) -> None:
        self.rows, self.room, self.start = rows, room, start
        self.looks, self.scans, self.sums = looks, scans, sums
        self.tokenizer = Tokenizer.load()

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        number, workers = (info.id, info.num_workers) if info else (0, 1)
        step = self.start + number
        while True:
            rng = Random(TRAIN_SEEDS + step)
            yield self.pack(self.draw(rng))
            step += workers

    def draw(self, rng: Random) -> list[Row]:
        """The rows of a batch: looks alone, scans alone, or all roles mixed, at like cost."""
        roll = rng.random()
        if roll < self.looks:
            return [look_row(rng) for _ in range(self.rows * 12 // 5)]
        if roll < self.looks + self.scans:
            return [scan_row(rng) for _ in range(self.rows * 9 // 5)]
        if roll < self.looks + self.scans + self.sums:
            return [sum_row(rng) for _ in range(self.rows)]
        return [row(rng, self.room, self.length) for _ in range(self.rows)]

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
                targets[i, at + len(prompt) - 1 : at + n] = whole[len(prompt) :]
                at += n
        pixels = np.stack([one.pixels for one in rows])
        tensors = (torch.from_numpy(a) for a in (pixels, ids, places, parts, sees, targets))
        a, b, c, d, e, f = tensors
        return a, b, c, d, e, f


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
