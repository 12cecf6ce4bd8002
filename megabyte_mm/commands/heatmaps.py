"""Heatmaps of files: where the bits of each lie, as pictures, and for text as a page of HTML too.

`surprise` and `heatmap` are for notebooks as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_adapters import Adapter, AudioAdapter, ByteStream, ImageAdapter, TextAdapter, printable, write_atomically
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.commands.media import MediaFile
from megabyte_mm.commands.naming import unique_stems
from megabyte_mm.evaluation.methods import Method
from megabyte_mm.evaluation.scoring import Score, score_streams

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


def surprise(
    bundle: Bundle, stream: ByteStream, condition: int | None = None, method: Method = "plain", batch_size: int = 16
) -> Floats:
    """The bits of each symbol of a stream, in its order: (n,) for its n bytes, (n + 1,) where its END is scored too.

    bundle: of one modality. condition: the number of the stream's class; left out, that of the modality in a mix, and
    none otherwise. Raises ValueError for several modalities, or a method that the model cannot be read by.
    """
    if condition is None:
        condition = bundle.conditions.index(bundle.mixed) if bundle.mixed else 0
    unit = math.lcm(bundle.adapter.unit, bundle.adapter.unit_in(stream.format))
    streams = [(stream.data, condition)]
    scores = score_streams(bundle.model, streams, bundle.window, unit, bundle.fixed_length, method, batch_size)
    return bits_of(next(scores))


def bits_of(score: Score) -> Floats:
    """The bits of each symbol of a scored stream, its END last."""
    bits: Floats = score.nats.astype(np.float64) / math.log(2)
    return bits


def heatmap(adapter: Adapter, stream: ByteStream, bits: Floats, name: str = "") -> Figure:
    """The heatmap of a whole stream, by what its adapter says its bytes are; a map of bytes for any other adapter.

    bits: (n,) or (n + 1,) with END, as `surprise` gives them. name: stands in the title.
    """
    # Matplotlib takes its time to import.
    from megabyte_mm.plots.bytes_heatmap import bytes_heatmap
    from megabyte_mm.plots.picture_heatmap import picture_heatmap
    from megabyte_mm.plots.sound_heatmap import sound_heatmap
    from megabyte_mm.plots.text_heatmap import text_heatmap

    bits, end = split(stream, bits)
    if isinstance(adapter, ImageAdapter):
        return picture_heatmap(adapter.pixels(stream), adapter.unscan(bits, stream.format).sum(axis=2), name, end)
    if isinstance(adapter, AudioAdapter):
        samples, rate = adapter.frames(stream), int(stream.format["rate"])
        width = adapter.unit_in(stream.format) // samples.shape[1]
        return sound_heatmap(samples, rate, bits.reshape(*samples.shape, width).sum(axis=2), name, end, width)
    if isinstance(adapter, TextAdapter):
        return text_heatmap(stream.data.tobytes(), bits, name, end)
    return bytes_heatmap(bits, name, end)


def split(stream: ByteStream, bits: Floats) -> tuple[Floats, float]:
    """The bits of the stream's bytes (n,), and those of its END, 0 where none is scored."""
    size = len(stream.data)
    return bits[:size], float(bits[size:].sum())


@dataclass(frozen=True)
class Heatmaps:
    """A folder that receives the heatmaps of files. stems: begin the names of each file's heatmaps."""

    folder: Path
    stems: Mapping[Path, str]

    def write(self, adapter: Adapter, file: MediaFile, score: Score) -> None:
        """Write the heatmaps of one file, each whole or not at all; none where the model's output is not finite.

        Raises MediaError where the folder is full or not permitted.
        """
        bits = bits_of(score)
        if not np.isfinite(bits).all():
            return
        name, stem = printable(file.path.name), self.stems[file.path]
        figure = heatmap(adapter, file.stream, bits, name)
        write_atomically(self.folder / f"{stem}.png", lambda temporary: figure.savefig(temporary))
        if isinstance(adapter, TextAdapter):
            from megabyte_mm.plots.text_page import text_page

            its, end = split(file.stream, bits)
            page = text_page(file.stream.data.tobytes(), its, name, end)
            write_atomically(self.folder / f"{stem}.html", lambda temporary: temporary.write_text(page, "utf-8"))


def prepare_heatmaps(folder: str, files: Mapping[Path, Adapter], overwrite: bool) -> Heatmaps:
    """The heatmaps of some files, with their folder made, before minutes of scoring end in vain.

    files: each with the adapter that reads it. Raises ValueError where the folder cannot be made, or holds one already.
    """
    try:
        stems = dict(zip(files, unique_stems(list(files)), strict=True))
    except ValueError as error:
        raise ValueError(f"--heatmap {folder}: PATH {error}") from error
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--heatmap {folder}: cannot be made a folder ({error.strerror})") from error
    for path, adapter in files.items():
        for suffix in (".png", ".html") if isinstance(adapter, TextAdapter) else (".png",):
            target = Path(folder) / f"{stems[path]}{suffix}"
            if target.exists() and not overwrite:
                raise ValueError(f"{target} exists already; choose another --heatmap, or add --overwrite")
    return Heatmaps(Path(folder), stems)
