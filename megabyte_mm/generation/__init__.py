"""Generate bytes with a trained model, and files that continue other files.

sampling.py      a symbol from logits: temperature, top-k, top-p
engine.py        prefixes of one batch, continued step by step with a decoder; patches.py: a whole patch at a time
batching.py      many requests of any lengths, in batches
continuation.py  a file's prefix, its continuations, and these as files
records.py       records of several parts, completed part by part; guidance.py: with and without the first
first_parts.py   which parts of a record files are; written_records.py: completed records as files
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from megabyte_mm.lazy import lazy_exports

if TYPE_CHECKING:
    from megabyte_mm.generation.batching import (
        GenerationInterrupted,
        GenerationRequest,
        generate_batch,
        new_bytes,
        stream_batch,
    )
    from megabyte_mm.generation.continuation import (
        SHEET,
        UNKNOWN,
        Continuations,
        FileRequest,
        choose_length,
        complete_units,
        continue_file,
        cut_prefix,
        empty_request,
        file_names,
        generate_continuations,
        picture_sheet,
        prefix_request,
        with_end,
        write_continuations,
    )
    from megabyte_mm.generation.engine import generate, num_truncated, row_seeds, stream_symbols
    from megabyte_mm.generation.first_parts import order_of_given, part_of_file, text_part
    from megabyte_mm.generation.records import (
        CompletedRecord,
        RecordRequest,
        RecordsInterrupted,
        RecordStep,
        bytes_to_generate,
        complete_records,
        convert,
        find_order,
        record_request,
        stream_records,
    )
    from megabyte_mm.generation.sampling import SamplingParams
    from megabyte_mm.generation.written_records import FirstParts, record_files, write_records

__all__ = [
    "SHEET",
    "UNKNOWN",
    "CompletedRecord",
    "Continuations",
    "FileRequest",
    "FirstParts",
    "GenerationInterrupted",
    "GenerationRequest",
    "RecordRequest",
    "RecordStep",
    "RecordsInterrupted",
    "SamplingParams",
    "bytes_to_generate",
    "choose_length",
    "complete_records",
    "complete_units",
    "continue_file",
    "convert",
    "cut_prefix",
    "empty_request",
    "file_names",
    "find_order",
    "generate",
    "generate_batch",
    "generate_continuations",
    "new_bytes",
    "num_truncated",
    "order_of_given",
    "part_of_file",
    "picture_sheet",
    "prefix_request",
    "record_files",
    "record_request",
    "row_seeds",
    "stream_batch",
    "stream_records",
    "stream_symbols",
    "text_part",
    "with_end",
    "write_continuations",
    "write_records",
]

# engine.py needs torch alone, as on a machine that only measures; files need the packages that read them.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "CompletedRecord": "megabyte_mm.generation.records",
        "Continuations": "megabyte_mm.generation.continuation",
        "FileRequest": "megabyte_mm.generation.continuation",
        "FirstParts": "megabyte_mm.generation.written_records",
        "GenerationInterrupted": "megabyte_mm.generation.batching",
        "GenerationRequest": "megabyte_mm.generation.batching",
        "RecordRequest": "megabyte_mm.generation.records",
        "RecordStep": "megabyte_mm.generation.records",
        "RecordsInterrupted": "megabyte_mm.generation.records",
        "SHEET": "megabyte_mm.generation.continuation",
        "SamplingParams": "megabyte_mm.generation.sampling",
        "UNKNOWN": "megabyte_mm.generation.continuation",
        "bytes_to_generate": "megabyte_mm.generation.records",
        "choose_length": "megabyte_mm.generation.continuation",
        "complete_records": "megabyte_mm.generation.records",
        "complete_units": "megabyte_mm.generation.continuation",
        "continue_file": "megabyte_mm.generation.continuation",
        "convert": "megabyte_mm.generation.records",
        "cut_prefix": "megabyte_mm.generation.continuation",
        "empty_request": "megabyte_mm.generation.continuation",
        "file_names": "megabyte_mm.generation.continuation",
        "find_order": "megabyte_mm.generation.records",
        "generate": "megabyte_mm.generation.engine",
        "generate_batch": "megabyte_mm.generation.batching",
        "generate_continuations": "megabyte_mm.generation.continuation",
        "new_bytes": "megabyte_mm.generation.batching",
        "num_truncated": "megabyte_mm.generation.engine",
        "order_of_given": "megabyte_mm.generation.first_parts",
        "part_of_file": "megabyte_mm.generation.first_parts",
        "picture_sheet": "megabyte_mm.generation.continuation",
        "prefix_request": "megabyte_mm.generation.continuation",
        "record_files": "megabyte_mm.generation.written_records",
        "record_request": "megabyte_mm.generation.records",
        "row_seeds": "megabyte_mm.generation.engine",
        "stream_batch": "megabyte_mm.generation.batching",
        "stream_records": "megabyte_mm.generation.records",
        "stream_symbols": "megabyte_mm.generation.engine",
        "text_part": "megabyte_mm.generation.first_parts",
        "with_end": "megabyte_mm.generation.continuation",
        "write_continuations": "megabyte_mm.generation.continuation",
        "write_records": "megabyte_mm.generation.written_records",
    },
)
