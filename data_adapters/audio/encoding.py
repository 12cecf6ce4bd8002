"""Sound samples of 16 bits, and four encodings of them as bytes.

Shapes: T frames, C channels. Samples are int16, or float64 in the same unit (steps of 16-bit sound, full scale 32768).

pcm16   two bytes, little-endian: the samples exactly.
pcm16be two bytes, big-endian: the same, with the byte first that decides more.
pcm8    one byte, 128 is silence: steps of 256, the nearest one, halves upward. 8-bit sound exactly.
mulaw   one byte, 128 is silence, louder is further from it: the nearest of 256 levels which grow by the mu-law with
        mu = 255. Unlike G.711's codes these rise with the sample and have one zero; the 256th level is -32768.

Every code decodes to a sample that encodes to the same code.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_adapters.base import Bytes

Encoding = Literal["pcm16", "pcm16be", "pcm8", "mulaw"]
Samples = NDArray[np.int16]
Steps = NDArray[np.float64]

BYTES_PER_SAMPLE: dict[str, int] = {"pcm16": 2, "pcm16be": 2, "pcm8": 1, "mulaw": 1}
TWO_BYTES = {"pcm16": "<i2", "pcm16be": ">i2"}


def _mulaw_levels() -> Samples:
    """(256,) int16, strictly rising; code 128 is 0, 1 and 255 are -32767 and 32767."""
    loudness = (np.arange(256) - 128) / 127
    levels = np.sign(loudness) * (256 ** np.abs(loudness) - 1) / 255 * 32767
    return np.asarray(np.rint(levels.clip(-32768, 32767)), np.int16)


def _nearest_codes(levels: Samples) -> Bytes:
    """(65536,) uint8: for each int16 sample, counted from -32768, the code of the level nearest to it."""
    wide = levels.astype(np.int32)
    return np.searchsorted((wide[:-1] + wide[1:]) / 2, np.arange(-32768, 32768)).astype(np.uint8)


MULAW_LEVELS = _mulaw_levels()
_MULAW_CODES = _nearest_codes(MULAW_LEVELS)


def to_int16(steps: Steps) -> tuple[Samples, int]:
    """Round to 16-bit samples (ties to even), clipping to their range. Returns them and the number clipped."""
    rounded = np.rint(steps)
    clipped = int(np.count_nonzero((rounded < -32768) | (rounded > 32767)))
    return rounded.clip(-32768, 32767).astype(np.int16), clipped


def encode(samples: Samples, encoding: Encoding) -> Bytes:
    """Encode samples of any shape, flattened -> (samples * bytes per sample,) uint8."""
    flat = samples.reshape(-1)
    if encoding in TWO_BYTES:
        return flat.astype(TWO_BYTES[encoding]).view(np.uint8)
    if encoding == "pcm8":
        return (((flat.astype(np.int32) + 128) >> 8).clip(-128, 127) + 128).astype(np.uint8)
    return _MULAW_CODES[flat.astype(np.int32) + 32768]


def decode(data: Bytes, encoding: Encoding) -> Samples:
    """Decode (samples * bytes per sample,) uint8 -> (samples,) int16: `encode` gives the same bytes again."""
    if encoding in TWO_BYTES:
        return np.frombuffer(data.tobytes(), TWO_BYTES[encoding]).astype(np.int16)
    if encoding == "pcm8":
        return ((data.astype(np.int32) - 128) << 8).astype(np.int16)
    return MULAW_LEVELS[data]
