"""Tables of questions that users write: one reader for a batch and a benchmark of one's own."""

from ecoalign.query.tables._delimited import Line, delimited, wide_fields
from ecoalign.query.tables._images import (
    NAMES,
    Given,
    ImageFolder,
    images_in,
    is_empty,
    listed,
    plain_name,
)
from ecoalign.query.tables._parquet import RowGroups, heavy_columns, pyarrow_parquet
from ecoalign.query.tables._records import read_records
from ecoalign.query.tables._sources import (
    ENDINGS,
    SUFFIXES,
    Mistakes,
    Record,
    Source,
    Values,
    find_source,
    images_below,
)

__all__ = [
    "ENDINGS",
    "NAMES",
    "SUFFIXES",
    "Given",
    "ImageFolder",
    "Line",
    "Mistakes",
    "Record",
    "RowGroups",
    "Source",
    "Values",
    "delimited",
    "find_source",
    "heavy_columns",
    "images_below",
    "images_in",
    "is_empty",
    "listed",
    "plain_name",
    "pyarrow_parquet",
    "read_records",
    "wide_fields",
]
