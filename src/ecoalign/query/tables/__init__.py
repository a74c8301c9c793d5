"""Tables of questions that users write: one reader for a batch and a benchmark of one's own."""

from ecoalign.query.tables._images import (
    NAMES,
    Given,
    ImageFolder,
    images_in,
    is_empty,
    listed,
    meant,
    plain_name,
)
from ecoalign.query.tables._parquet import parquet_records, pyarrow_parquet
from ecoalign.query.tables._records import read_records
from ecoalign.query.tables._sources import (
    ENDINGS,
    Mistakes,
    Record,
    Source,
    find_source,
    images_below,
)

__all__ = [
    "ENDINGS",
    "NAMES",
    "Given",
    "ImageFolder",
    "Mistakes",
    "Record",
    "Source",
    "find_source",
    "images_below",
    "images_in",
    "is_empty",
    "listed",
    "meant",
    "parquet_records",
    "plain_name",
    "pyarrow_parquet",
    "read_records",
]
