"""The kinds of image that are fetched, by media type and by their first bytes."""

from __future__ import annotations

__all__ = ["ENOUGH_BYTES", "MEDIA_TYPES", "is_image"]

MEDIA_TYPES = frozenset(
    {
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/jpeg",
        "image/jpg",
        "image/png",
        "image/tiff",
        "image/webp",
        "image/x-ms-bmp",
    }
)
ENOUGH_BYTES = 12
"""How many of the first bytes `is_image` needs."""

_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*")


def is_image(start: bytes) -> bool:
    """Whether `start` are the first bytes of a PNG, JPEG, GIF, BMP, TIFF, WebP or AVIF file."""
    if start.startswith(_STARTS):
        return True
    if start[:4] == b"RIFF":
        return start[8:12] == b"WEBP"
    return start[4:8] == b"ftyp" and start[8:12] in {b"avif", b"avis", b"mif1", b"miaf"}
