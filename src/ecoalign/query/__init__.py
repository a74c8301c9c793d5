"""What is asked: a question, its images, and what came before."""

from __future__ import annotations

from ecoalign.query._decoding import MAX_BYTES, read_header, read_source
from ecoalign.query._pictures import Picture
from ecoalign.query._query import ImageSource, Query

__all__ = [
    "MAX_BYTES",
    "ImageSource",
    "Picture",
    "Query",
    "read_header",
    "read_source",
]
