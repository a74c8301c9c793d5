"""What is asked: a question, its images, and what came before."""

from __future__ import annotations

from ecoalign.query._decoding import MAX_BYTES, read_header, read_source
from ecoalign.query._pictures import FULL_PIXELS, LOW_DETAIL_SIDE, Picture
from ecoalign.query._query import ImageSource, Query

__all__ = [
    "FULL_PIXELS",
    "LOW_DETAIL_SIDE",
    "MAX_BYTES",
    "ImageSource",
    "Picture",
    "Query",
    "read_header",
    "read_source",
]
