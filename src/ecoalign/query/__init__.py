"""What is asked: a question, its images, and what came before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecoalign.query._decoding import Header, Pixels, headers, read_header, reading
from ecoalign.query._pictures import FULL_PIXELS, LOW_DETAIL_SIDE, ImageSource, Picture
from ecoalign.query._query import Images, Query
from ecoalign.query._sources import MAX_BYTES, AllowUrls, read_source
from ecoalign.query._urls import FetchPolicy, ImageUrlError, kind_of

if TYPE_CHECKING:
    from ecoalign.query._fetch import ImageFetcher

__all__ = [
    "FULL_PIXELS",
    "LOW_DETAIL_SIDE",
    "MAX_BYTES",
    "AllowUrls",
    "FetchPolicy",
    "Header",
    "ImageFetcher",
    "ImageSource",
    "ImageUrlError",
    "Images",
    "Picture",
    "Pixels",
    "Query",
    "headers",
    "kind_of",
    "read_header",
    "read_source",
    "reading",
]


def __getattr__(name: str) -> object:
    # It brings the HTTP client, which takes long to import, and most questions need no network.
    if name == "ImageFetcher":
        from ecoalign.query._fetch import ImageFetcher

        return ImageFetcher
    raise AttributeError(f"module 'ecoalign.query' has no attribute {name!r}")
