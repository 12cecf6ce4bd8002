"""Generate bytes with a trained model, and files that continue other files.

sampling.py      a symbol from logits: temperature, top-k, top-p
engine.py        prefixes of one batch, continued step by step with a decoder
batching.py      many requests of any lengths, in batches
continuation.py  a file's prefix, its continuations, and these as files
records.py       records of several parts, completed part by part; guidance.py: with and without the first
record_files.py  completed records as files
"""

from megabyte_mm.generation.batching import GenerationInterrupted, GenerationRequest, generate_batch
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
    write_continuations,
)
from megabyte_mm.generation.engine import generate, num_truncated, row_seeds, stream_symbols
from megabyte_mm.generation.record_files import FirstParts, record_files, write_records
from megabyte_mm.generation.records import (
    CompletedRecord,
    RecordRequest,
    RecordsInterrupted,
    complete_records,
    convert,
    find_order,
    record_request,
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
    "RecordsInterrupted",
    "SamplingParams",
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
    "num_truncated",
    "picture_sheet",
    "prefix_request",
    "record_files",
    "record_request",
    "row_seeds",
    "stream_symbols",
    "write_continuations",
    "write_records",
]
