"""`megabyte-mm compress`: a model's bits per byte as files on disk."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from megabyte_mm.checkpoint import load_model
from megabyte_mm.cli.arguments import pick_device
from megabyte_mm.cli.files import check_output
from megabyte_mm.cli.standard_streams import STANDARD, print_beside, write_json
from megabyte_mm.compression.files import check_targets, compress_files, find_sources
from megabyte_mm.compression.settings import coding_settings
from megabyte_mm.compression.summary import figures, remarks, table
from megabyte_mm.errors import check_positive
from megabyte_mm.models import Execution
from megabyte_mm.progress import byte_progress


def compress(
    checkpoint: str,
    file: Sequence[str],
    out: str,
    condition: str | None = None,
    content_only: bool = False,
    batch_size: int = 64,
    device: str = "auto",
    backend: Literal["auto", "native", "eager"] = "auto",
    precision: Literal["float32", "bfloat16", "int8"] = "float32",
    adapter: str | None = None,
    json: str | None = None,
    check: bool = False,
    overwrite: bool = False,
) -> None:
    """Compress files with a model, without loss: `decompress` restores every byte.

    One line for each file and the total are printed. See docs/compression.md for what is kept, and
    what must be the same where it is decompressed.

    Args:
        checkpoint: A checkpoint of a training run, such as runs/image/best.ckpt. It is needed again to decompress.
        file: Files, and folders with all files below them; files that the model cannot read are compressed as raw
            bytes.
        out: A folder that receives one .mbz file for each input, or a name ending in .mbz for a single container.
        condition: The class of all files, for a model that was trained with classes; by default that of the nearest
            folder above each file that bears the name of one, up to the given folder.
        content_only: If a file cannot be rebuilt byte for byte, keep only its pixels or samples; decompression then
            writes a different file with the same content.
        batch_size: Windows coded at the same time. It only affects speed.
        device: auto, cpu, cuda, cuda:1, mps, ... Decompression needs the same kind of device.
        backend: How steps are computed: native by C++ code that is built on first use (CPU alone), eager by torch's
            operations; auto takes native where available.
        precision: Round weights to bfloat16 or int8, which are read faster than float32.
        adapter: Import path of your own adapter class, for a model that was trained with one.
        json: A file that receives all figures; - for standard output.
        check: Decompress all at once and compare, before anything is written. It takes twice the time.
        overwrite: Replace files of the same names.
    """
    check_positive(batch_size=batch_size)
    bundle = load_model(checkpoint, pick_device(device), adapter)
    sources = find_sources(bundle, file, condition)
    check_targets(sources, Path(out), overwrite)
    check_output("json", None if json == STANDARD else json)
    settings = coding_settings(bundle, Execution(backend, None if precision == "float32" else precision))
    total = sum(source.path.stat().st_size for source in sources)
    with byte_progress(total, "compressed") as on_bytes:
        files, written = compress_files(bundle, sources, Path(out), settings, batch_size, content_only, check, on_bytes)
    print_beside(json, "\n".join(table(files, written)))
    for remark in remarks(files):
        print(remark, file=sys.stderr)
    if json:
        write_json(json, {"checkpoint": checkpoint} | figures(files, written))
