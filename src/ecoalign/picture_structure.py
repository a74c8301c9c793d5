"""Files that are small, claim few pixels, and still keep a decoder busy for minutes."""

from __future__ import annotations

import re

from ecoalign.errors import InputError

__all__ = ["MAX_CHUNKS", "MAX_SCANS", "check_structure"]

MAX_CHUNKS = 30_000
"""Of a PNG, or segments of a JPEG. A PNG of 64 MiB in the usual blocks of 8 KiB has 8,192."""
MAX_SCANS = 60
"""Of a JPEG. Progressive ones have about ten; each is a pass over all pixels, at 90 bytes a go."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
# After FF, 00 and FF are data or filling; 01 and D0 to D7 stand alone.
_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])")
_START_OF_SCAN, _START, _END = 0xDA, 0xD8, 0xD9


def check_structure(data: bytes, where: str) -> None:
    """Refuse a PNG of too many chunks and a JPEG of too many segments or scans.

    Decoders walk chunks one by one in slow code, and go over the whole picture once a scan.

    Raises:
        InputError: there are too many.
    """
    if data.startswith(_PNG):
        _check_png(data, where)
    elif data.startswith(_JPEG):
        _check_jpeg(data, where)


def _check_png(data: bytes, where: str) -> None:
    at, count = len(_PNG), 0
    while at + 8 <= len(data):
        count += 1
        if count > MAX_CHUNKS:
            raise _too_many(where, MAX_CHUNKS, "chunks")
        # Length, name, data, checksum.
        at += 12 + int.from_bytes(data[at : at + 4], "big")


def _check_jpeg(data: bytes, where: str) -> None:
    at = segments = scans = 0
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = found[1][0], found.end()
        if marker == _END:  # What follows, such as a film, is another file.
            return
        if marker == _START:
            continue
        segments += 1
        scans += marker == _START_OF_SCAN
        if segments > MAX_CHUNKS:
            raise _too_many(where, MAX_CHUNKS, "segments")
        if scans > MAX_SCANS:
            raise _too_many(where, MAX_SCANS, "scans")
        at += int.from_bytes(data[at : at + 2], "big")


def _too_many(where: str, most: int, what: str) -> InputError:
    return InputError(
        f"{where} is an image of more than {most:,} {what} (a guard against decompression bombs); "
        "save it again with an ordinary program first"
    )
