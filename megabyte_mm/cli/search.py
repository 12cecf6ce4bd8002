"""`megabyte-mm search`: the files that are most like a file, or go best with a text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from megabyte_mm.checkpoint import Bundle, load_model
from megabyte_mm.cli.arguments import pick_device
from megabyte_mm.cli.feature_files import check_all_read, read_all, read_media
from megabyte_mm.errors import check_positive
from megabyte_mm.features import embed_streams
from megabyte_mm.features.matching import nearest, part_of_files, text_bits
from megabyte_mm.progress import byte_progress


def search(
    checkpoint: str,
    query: str,
    folder: str,
    count: int = 10,
    layer: int | None = None,
    batch_size: int = 64,
    device: str = "auto",
    adapter: str | None = None,
) -> None:
    """Print the files of a folder that are most like a file, or, for a model of files with texts, go best with a text.

    Files are compared by the cosine of their features; a file and a text by the bits that the text costs behind the
    file, or the file behind the text, less those of the file by itself.

    Args:
        checkpoint: A checkpoint of a run, such as runs/image/best.ckpt, an exported folder, demo:image, or a hub id.
        query: A file of the same modality as the folder's; anything that is no file is a text.
        folder: A folder, with all files below it.
        count: The files to print, at most.
        layer: As of embed.
        batch_size: Windows read at the same time.
        device: auto, cpu, cuda, cuda:1, mps, ...
        adapter: Import path of your own adapter class, for a model that was trained with one.
    """
    check_positive(count=count, batch_size=batch_size)
    bundle = load_model(checkpoint, pick_device(device), adapter)
    if not Path(query).is_file():
        _search_by_text(bundle, query, folder, count, batch_size)
        return
    selected, files, skipped = read_media(bundle, [query, folder])
    chosen, others = files[0], files[1:]
    if chosen.path != Path(query) or not others:
        raise ValueError(f"{query}: cannot be compared with the files of {folder}")
    streams = [file.stream for file in files]
    with byte_progress(sum(len(stream.data) for stream in streams), "read") as on_bytes:
        features = list(embed_streams(selected, streams, layer, batch_size=batch_size, on_bytes=on_bytes))
    cosines_N = nearest(features[0], np.stack(features[1:]))
    for number in np.argsort(-cosines_N, kind="stable")[:count].tolist():
        print(f"{cosines_N[number]:6.3f}  {others[number].path}")
    check_all_read(skipped)


def _search_by_text(bundle: Bundle, query: str, folder: str, count: int, batch_size: int) -> None:
    if not bundle.reads_records:
        raise ValueError(f"{query}: no such file, and this model has not learned files with texts")
    part = part_of_files(bundle)
    files, skipped = read_all(bundle.modalities[part].adapter, [folder], bundle.window_of(part))
    streams = [file.stream.data for file in files]
    bits_N = text_bits(bundle, part, streams, [query], batch_size, relative=True)[:, 0]
    for number in np.argsort(bits_N, kind="stable")[:count].tolist():
        print(f"{bits_N[number]:8.1f} bits  {files[number].path}")
    check_all_read(skipped)
