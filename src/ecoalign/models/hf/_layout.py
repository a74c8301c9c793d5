"""Rows of different lengths as the tensors of one batch. Each row is, from the left: padding, the
tokens whose key-values are known, padding, the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ecoalign.models.hf._encoder import ALIGNED
from ecoalign.models.hf._prefix import Kept, Layers

Place = tuple[int, int, int, int]
"""Where a prompt is in its row: the begin and the end of its known tokens, and of the others."""


def tokens(rows: Sequence[Sequence[int]], places: Sequence[Place], padding: int) -> Any:
    """A number for each token, [rows, width]."""
    laid = torch.full((len(rows), places[0][3]), padding, dtype=torch.long)
    for at, (row, (a, b, c, d)) in enumerate(zip(rows, places, strict=True)):
        own = torch.tensor(row[: b - a + d - c])
        laid[at, a:b] = own[: b - a]
        laid[at, c:d] = own[b - a :]
    return laid


def positions(rows: Sequence[Any], places: Sequence[Place]) -> Any:
    """Where each token stands, [rows, width], or more numbers for each along dimension 0.

    Args:
        rows: for each prompt its positions when it is read alone, [..., 1, tokens].
        places: where the prompts are.
    """
    laid = torch.zeros((*rows[0].shape[:-2], len(rows), places[0][3]), dtype=torch.long)
    for at, (row, (a, b, c, d)) in enumerate(zip(rows, places, strict=True)):
        laid[..., at, a:b] = row[..., 0, : b - a]
        laid[..., at, c:d] = row[..., 0, b - a : b - a + d - c]
    return laid


def put_known(
    cache: Any, known: Sequence[tuple[int, Kept | None]], places: Sequence[Place]
) -> None:
    """Put the key-values that are known into an empty cache: so many tokens of a kept prompt for
    each row."""
    like = next((kept for _, kept in known if kept is not None), None)
    for layer in range(0 if like is None else len(like.layers)):
        cache.update(*(_known(layer, part, known, places) for part in (0, 1)), layer)


def _known(
    layer: int, part: int, known: Sequence[tuple[int, Kept | None]], places: Sequence[Place]
) -> Any:
    """The keys (part 0) or the values of a layer, [rows, heads, known tokens, size]."""
    kept = [(at, many, one.layers[layer][part]) for at, (many, one) in enumerate(known) if one]
    heads, _, size = kept[0][2].shape
    laid = kept[0][2].new_zeros((len(known), heads, places[0][1], size))
    for at, many, states in kept:
        laid[at, :, places[at][0] : places[at][1]] = states[:, :many]
    return laid


def take_row(cache: Any, at: int, place: Place) -> Layers:
    """The key-values of a row's prompt, out of a batch's cache."""
    a, b, c, d = place
    return [
        (
            torch.cat((layer.keys[at, :, a:b], layer.keys[at, :, c:d]), 1),
            torch.cat((layer.values[at, :, a:b], layer.values[at, :, c:d]), 1),
        )
        for layer in cache.layers
    ]


def aligned(rows: Sequence[Mapping[str, Any]], width: int) -> dict[str, Any]:
    """What processors give for each token, padded on the left; the attention mask aside."""
    made: dict[str, Any] = {}
    for name in ALIGNED[1:]:
        parts = [row[name] for row in rows if name in row]
        if len(parts) != len(rows):
            continue
        shape = [max(part.shape[axis] for part in parts) for axis in range(2, parts[0].dim())]
        laid = parts[0].new_zeros((len(rows), width, *shape))
        for at, part in enumerate(parts):
            inner = tuple(slice(size) for size in part.shape[2:])
            laid[(at, slice(width - part.shape[1], width), *inner)] = part[0]
        made[name] = laid
    return made


def pixels(rows: Sequence[Mapping[str, Any]], dtype: Any) -> dict[str, Any]:
    """The images of all rows, one after the other, padded with zeros where their shapes differ:
    so the processors themselves do."""
    made: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        parts = [row[name] for row in rows if name in row]
        shape = [max(part.shape[axis] for part in parts) for axis in range(1, parts[0].dim())]
        laid = parts[0].new_zeros((sum(len(part) for part in parts), *shape))
        begin = 0
        for part in parts:
            inner = tuple(slice(size) for size in part.shape[1:])
            laid[(slice(begin, begin + len(part)), *inner)] = part
            begin += len(part)
        made[name] = laid.to(dtype) if laid.is_floating_point() else laid
    return made
