"""Figures of a completed stream, by the kind of adapter, and those of several in a line."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from data_adapters import Adapter, AudioAdapter, Bytes, ByteStream, Format, ImageAdapter, TextAdapter
from megabyte_mm.evaluation.completion.pictures import Mask, PictureFigures, picture_figures
from megabyte_mm.evaluation.completion.sounds import SoundFigures, sound_figures
from megabyte_mm.evaluation.completion.texts import TextFigures, text_figures

CompletionFigures = PictureFigures | SoundFigures | TextFigures


def completion_figures(
    adapter: Adapter,
    format: Format,
    original: Bytes,
    completed: Bytes,
    prefix_length: int,
    known_words: Collection[str] = (),
) -> CompletionFigures | None:
    """Compare a completed stream with its original after the common prefix; None for other kinds of files.

    format: of both streams. original, completed: (n,) uint8, the prefix included. known_words: of the training text.
    """
    if isinstance(adapter, ImageAdapter):
        original_HWC, completed_HWC = (adapter.pixels(ByteStream(data, format)) for data in (original, completed))
        return picture_figures(original_HWC, completed_HWC, generated_pixels(adapter, format, prefix_length))
    if isinstance(adapter, AudioAdapter):
        original_TC, completed_TC = (adapter.frames(ByteStream(data, format)) for data in (original, completed))
        return sound_figures(original_TC, completed_TC, prefix_length // adapter.unit_in(format), int(format["rate"]))
    if isinstance(adapter, TextAdapter):
        prefix, rest = adapter.decode(completed[:prefix_length]), adapter.decode(completed[prefix_length:])
        return text_figures(prefix, rest, adapter.decode(original[prefix_length:]), known_words)
    return None


def generated_pixels(adapter: ImageAdapter, format: Format, prefix_length: int) -> Mask:
    """Return which pixels of a picture lie after a prefix of so many bytes, (H, W)."""
    after = np.arange(adapter.length_in(format)) >= prefix_length
    mask: Mask = adapter.unscan(after, format)[..., -1]  # a pixel of which only a part is known is generated
    return mask


def summary(figures: Sequence[CompletionFigures]) -> str:
    """Return means and counts of one kind of figures in a line, without those that are nan for all; "" for none."""
    pictures = [each for each in figures if isinstance(each, PictureFigures)]
    sounds = [each for each in figures if isinstance(each, SoundFigures)]
    texts = [each for each in figures if isinstance(each, TextFigures)]
    pitched = [each.semitones for each in sounds if not math.isnan(each.semitones)]
    in_tune = f"pitch within a semitone: {sum(value <= 1 for value in pitched)} of {len(pitched)}"
    parts = [
        _part("pixels right {:.2f}", (each.pixels_right for each in pictures)),
        _part("shape IoU {:.2f}", (each.shape_iou for each in pictures)),
        in_tune if pitched else "",
        _part("frames in tune {:.2f}", (each.frames_in_tune for each in sounds)),
        _part("energy {:+.1f} dB", (each.energy_error for each in sounds)).replace("-", "−"),
        _part("known words {:.2f}", (each.known_words for each in texts)),
        _part("in the originals {:.2f}", (each.original_known_words for each in texts)),
    ]
    return ", ".join(part for part in parts if part)


def _part(text: str, values: Iterable[float]) -> str:
    mean = mean_defined(values)
    return "" if math.isnan(mean) else text.format(mean)


def mean_defined(values: Iterable[float]) -> float:
    """Return the mean of the values that are not nan; nan where none is."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
