"""`megabyte-mm decompress`: files out of what `compress` made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_adapters import printable
from megabyte_mm.checkpoint import load_model
from megabyte_mm.cli.arguments import pick_device
from megabyte_mm.compression.files import (
    check_containers,
    coded_bytes,
    decompress_files,
    find_targets,
    read_container,
)
from megabyte_mm.errors import check_positive
from megabyte_mm.progress import byte_progress


def decompress(
    checkpoint: str,
    file: Sequence[str],
    out: str,
    batch_size: int = 64,
    device: str = "auto",
    adapter: str | None = None,
    content_only: bool = False,
    overwrite: bool = False,
) -> None:
    """Restore the files that `compress` compressed, byte for byte.

    A different model, a different kind of machine and damaged files are reported before anything is written; every file
    is checked against its checksum.

    Args:
        checkpoint: The checkpoint that the files were compressed with, or another of the same weights.
        file: Files that end in .mbz.
        out: The folder for the decompressed files.
        batch_size: Windows decoded at the same time. It only affects speed.
        device: auto, cpu, cuda, cuda:1, mps, ..., of the kind that the files were compressed on.
        adapter: Import path of your own adapter class, for a model that was trained with one.
        content_only: Accept a file with the same pixels or samples where this machine's libraries encode it
            differently.
        overwrite: Replace files of the same names in `out`.
    """
    check_positive(batch_size=batch_size)
    bundle = load_model(checkpoint, pick_device(device), adapter)
    containers = [(path, read_container(path)) for path in file]
    targets = find_targets(containers, Path(out), overwrite)
    check_containers(bundle, containers, Path(out))
    with byte_progress(coded_bytes(containers), "decompressed") as on_bytes:
        for path in decompress_files(bundle, containers, targets, batch_size, content_only, on_bytes):
            print(printable(str(path)))
