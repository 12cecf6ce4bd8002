"""The bits of a file painted over what its bytes are: pixels, samples, characters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_adapters import Adapter, AudioAdapter, ByteStream, ImageAdapter, TextAdapter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


def heatmap(adapter: Adapter, stream: ByteStream, bits: Floats, name: str = "") -> Figure:
    """The heatmap of a whole stream, by what its adapter says its bytes are; a map of bytes for any other adapter.

    bits: (n,) or (n + 1,) with END, as `ScoredFile.bits`. name: stands in the title.
    """
    # Matplotlib takes its time to import.
    from megabyte_mm.plots import bytes_heatmap, picture_heatmap, sound_heatmap, text_heatmap

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
