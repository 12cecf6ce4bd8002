"""From files to batches that resume exactly; `ByteData` does all of it. Files listed in processing order:

files.py      a path -> files, their adapter, splits and classes
digests.py    the files' sha256, remembered
encode.py     files -> streams, in one process or several
storage/      streams -> shards in the cache, or prepared for many machines at any URL
sources.py    paths, prepared or not, of one source or a mix -> records and their adapters
geometry.py   window, unit, patch size and conditions that a model must fit
part_files.py files and texts that are parts of records; orders.py: the orders of their parts
records.py    a reader of shards -> the records of each split
windows.py    records -> windows, jittered by pure functions
order.py      the order of an epoch: shuffled, in groups of shards, by weight
joined.py     records of several parts, and their rows
dataset.py    rows -> batches of symbols
opened.py     all of it for one run
loader.py     batches of a rank, resumable inside an epoch; prefetch.py fetches remote shards ahead of it
module.py     ByteData, the LightningDataModule
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from megabyte_mm.lazy import lazy_exports

if TYPE_CHECKING:
    from megabyte_mm.data.dataset import Batch
    from megabyte_mm.data.geometry import Geometry
    from megabyte_mm.data.module import ByteData
    from megabyte_mm.data.sources import Source

__all__ = ["Batch", "ByteData", "Geometry", "Source"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Batch": "megabyte_mm.data.dataset",
        "ByteData": "megabyte_mm.data.module",
        "Geometry": "megabyte_mm.data.geometry",
        "Source": "megabyte_mm.data.sources",
    },
)
