"""The sizes of compressed files, as figures, a table and remarks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from data_adapters import printable
from megabyte_mm.compression.container import MODEL
from megabyte_mm.compression.packing import PackedFile
from megabyte_mm.compression.recipes import is_whole_file

MIN_BYTES = 16
"""Mean bytes of a block below which its last byte weighs more than the coder's precision."""


def figures(files: Sequence[PackedFile], written: int) -> dict[str, object]:
    """Plain values for JSON."""
    return {"written": written, "files": [_file_figures(file) for file in files]}


def _file_figures(file: PackedFile) -> dict[str, object]:
    return {
        "name": file.entry.name,
        "bytes": file.entry.size,
        "compressed": file.size,
        "read": sum(file.entry.lengths),
        "model_bytes": file.model_bytes,
        "model_nats": file.model_nats,
        "blocks": {kind: file.entry.kinds.count(kind) for kind in sorted(set(file.entry.kinds))},
        "recipe": file.entry.recipe["kind"],
        "whole_file": is_whole_file(file.entry.recipe),
    }


def table(files: Sequence[PackedFile], written: int) -> Iterator[str]:
    """A line for each file and for all, and what the range coder adds to the model's own bits."""
    names = [printable(file.entry.name) for file in files]
    width = max(map(len, names))
    yield f"{'file':<{width}}  {'bytes':>12}  {'compressed':>12}  {'bits per byte read':>18}"
    for name, file in zip(names, files, strict=True):
        yield _row(f"{name:<{width}}", file.entry.size, file.size, sum(file.entry.lengths))
    size, read = sum(file.entry.size for file in files), sum(sum(file.entry.lengths) for file in files)
    yield _row(f"{'total with headers':<{width}}", size, written, read)
    nats, model_bytes = sum(file.model_nats for file in files), sum(file.model_bytes for file in files)
    ideal = nats / math.log(2) / 8
    blocks, total = sum(file.entry.kinds.count(MODEL) for file in files), sum(len(file.entry.kinds) for file in files)
    # A block may take no byte at all, and then a percentage means nothing.
    added = f" ({100 * (model_bytes / ideal - 1):+.2f} %)" if model_bytes > MIN_BYTES * blocks else ""
    cost = f"{model_bytes:,} bytes, {ideal:,.0f} by its own probabilities{added}"
    yield f"{blocks} of {total} blocks by the model: {cost}"


def _row(name: str, size: int, compressed: int, read: int) -> str:
    bits = f"{8 * compressed / read:.4f}" if read else "-"
    return f"{name}  {size:>12,}  {compressed:>12,}  {bits:>18}"


def remarks(files: Sequence[PackedFile]) -> Iterator[str]:
    """A line for files stored by content only, and one for those stored as raw bytes."""
    content_only = [file.entry.name for file in files if not is_whole_file(file.entry.recipe)]
    if content_only:
        yield f"{_some(content_only, files)}: only their content is stored; decompression writes a different file"
    whole = [file.entry.name for file in files if file.entry.recipe["kind"] == "bytes"]
    if whole:
        yield (
            f"{_some(whole, files)}: stored as raw bytes, because the model cannot read them, cannot rebuild them "
            "exactly, or would need more space"
        )


def _some(names: Sequence[str], files: Sequence[PackedFile]) -> str:
    return f"{len(names)} of {len(files)} files, such as {printable(names[0])}"
