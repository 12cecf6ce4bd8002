"""Heatmaps of the bits of a file over its pixels, samples or characters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_adapters import Adapter, AudioAdapter, ByteStream, ImageAdapter, TextAdapter, write_atomically, write_bytes
from megabyte_mm.evaluation.curves import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def heatmap(adapter: Adapter, stream: ByteStream, bits: Floats, name: str = "") -> Figure:
    """Return the heatmap of a whole stream, over its pixels, samples or characters; else over its bytes.

    bits: (n,) or (n + 1,) with END, as `ScoredFile.bits`. name: of the file, for the title.
    """
    # Imported here because matplotlib takes long to import.
    from megabyte_mm.plots import bytes_heatmap, picture_heatmap, sound_heatmap, text_heatmap

    bits, end = split_end(stream, bits)
    if isinstance(adapter, ImageAdapter):
        return picture_heatmap(adapter.pixels(stream), adapter.unscan(bits, stream.format).sum(axis=2), name, end)
    if isinstance(adapter, AudioAdapter):
        samples, rate = adapter.frames(stream), int(stream.format["rate"])
        width = adapter.unit_in(stream.format) // samples.shape[1]
        return sound_heatmap(samples, rate, bits.reshape(*samples.shape, width).sum(axis=2), name, end, width)
    if isinstance(adapter, TextAdapter):
        return text_heatmap(stream.data.tobytes(), bits, name, end)
    return bytes_heatmap(bits, name, end)


def split_end(stream: ByteStream, bits: Floats) -> tuple[Floats, float]:
    """Return the bits of the stream's bytes, (n,), and those of its END, 0 if none is scored."""
    size = len(stream.data)
    return bits[:size], float(bits[size:].sum())


def heatmap_files(folder: Path, stem: str, adapter: Adapter) -> list[Path]:
    """Return the files that `write_heatmap` writes: a picture, and for text a page of HTML."""
    suffixes = (".png", ".html") if isinstance(adapter, TextAdapter) else (".png",)
    return [folder / f"{stem}{suffix}" for suffix in suffixes]


def write_heatmap(folder: Path, stem: str, adapter: Adapter, stream: ByteStream, bits: Floats, name: str) -> None:
    """Write the heatmap of a stream, each file whole or not at all; nothing where bits are not finite.

    Raises MediaError where the folder is full or not permitted.
    """
    if not np.isfinite(bits).all():
        return
    figure = heatmap(adapter, stream, bits, name)
    write_atomically(folder / f"{stem}.png", lambda temporary: figure.savefig(temporary))
    if isinstance(adapter, TextAdapter):
        from megabyte_mm.plots.heatmaps.text_page import text_page

        byte_bits, end_bits = split_end(stream, bits)
        page = text_page(stream.data.tobytes(), byte_bits, name, end_bits)
        write_bytes(folder / f"{stem}.html", page.encode())
