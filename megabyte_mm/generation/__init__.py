"""Generate bytes with a trained model, and files that continue other files.

sampling.py      a symbol from logits: temperature, top-k, top-p
engine.py        prefixes of one batch, continued step by step with a decoder
batching.py      many requests of any lengths, in batches
continuation.py  a file's prefix, its continuations, and these as files
records.py       records of several parts, completed part by part; guidance.py: with and without the first
first_parts.py   which parts of a record files are; record_files.py: completed records as files
"""

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
from megabyte_mm.generation.record_files import FirstParts, record_files, write_records
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
