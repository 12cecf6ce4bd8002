"""The characters of a text and what each of them costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from megabyte_mm.plots.heat import Floats

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_REPLACED = dict.fromkeys(range(0xDC80, 0xDD00), REPLACEMENT)
"""What Python's "surrogateescape" makes of bytes that are no UTF-8."""


@dataclass(frozen=True)
class Characters:
    """text: m characters. bits: (m,), what the bytes of each cost together. sizes: (m,), how many bytes those are."""

    text: str
    bits: Floats
    sizes: NDArray[np.int64]

    @property
    def levels(self) -> Floats:
        """Bits per byte of each character: (m,). Text in other scripts takes more bytes, not more colour."""
        return self.bits / self.sizes


def characters(data: bytes, bits: Floats) -> Characters:
    """A text's characters, each byte that is no UTF-8 as one U+FFFD. bits: (n,), of each byte. No bit is lost."""
    text = data.decode("utf-8", errors="surrogateescape")
    codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), "<u4")
    sizes = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    sizes[(codes >= 0xDC80) & (codes < 0xDD00)] = 1
    starts = np.cumsum(sizes) - sizes
    sums = np.add.reduceat(bits, starts) if len(starts) else np.zeros(0)
    return Characters(text.translate(_REPLACED), sums.astype(np.float64), sizes)
