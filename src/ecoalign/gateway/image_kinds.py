"""The kinds of image that the gateway takes, by media type and by their first bytes.

They are those of the API. The library reads more, but some of those decoders are slow enough, in
plain Python, to be a weapon.
"""

from __future__ import annotations

__all__ = ["ENOUGH_BYTES", "MEDIA_TYPES", "kind_of"]

MEDIA_TYPES = frozenset({"image/gif", "image/jpeg", "image/jpg", "image/png", "image/webp"})
"""What servers may call them."""
ENOUGH_BYTES = 12
"""How many of the first bytes `kind_of` needs."""

_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


def kind_of(data: bytes) -> str | None:
    """The media type of an image by its first bytes: PNG, JPEG, GIF or WebP; None for all else."""
    for start, kind in _STARTS:
        if data.startswith(start):
            return kind
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None
