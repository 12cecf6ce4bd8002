"""PNG files made again from their pixels, byte for byte.

A PNG holds its pixels filtered line by line and then deflated. Both leave choices to whoever writes the file: a filter
for each line, and zlib's parameters. The filters are read off the file, the parameters are found by trying.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

import numpy as np

from data_adapters.base import Bytes

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS = {"L": 0, "RGB": 2}
"""The colour type of each mode that is rebuilt; 8 bits a sample and not interlaced, too."""

_LEVELS = {0: (0, 1), 1: (2, 3, 4, 5), 2: (6,), 3: (9, 8, 7)}
"""zlib's levels by the hint that its header gives of them."""
_MEMORY = (8, 9)
_STRATEGIES = (zlib.Z_FILTERED, zlib.Z_DEFAULT_STRATEGY)
_FAST_STRATEGIES = (zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY, zlib.Z_FIXED)
"""With these zlib gives the lowest hint at any level."""
_PART = 2**16


@dataclass(frozen=True)
class PngLayout:
    """What a PNG file holds beside its pixels.

    before, after: its bytes before the first and after the last chunk of pixels. filters: one for each line.
    cuts: bytes of deflated pixels in each chunk. parameters: zlib's level, window bits, memory level and strategy.
    """

    before: bytes
    after: bytes
    filters: bytes
    cuts: tuple[int, ...]
    parameters: tuple[int, int, int, int]

    def plain(self) -> dict[str, Any]:
        """The numbers as JSON has them; the bytes are kept elsewhere."""
        return {"cuts": self.cuts, "zlib": self.parameters, "before": len(self.before), "filters": len(self.filters)}


def png_layout(content: bytes, pixels_HWC: Bytes) -> PngLayout | None:
    """How the file can be made of its pixels again, or None where it cannot."""
    try:
        parts = _parts(content)
        if parts is None:
            return None
        before, deflated, cuts, after = parts
        height, line = pixels_HWC.shape[0], 1 + pixels_HWC[0].size
        lines = zlib.decompressobj().decompress(deflated, height * line + 1)  # whatever more would come of it
    except (struct.error, zlib.error, IndexError):
        return None
    if len(lines) != height * line:
        return None
    filters = lines[::line]
    if max(filters) >= len(_FILTERS) or _filtered(pixels_HWC, filters) != lines:
        return None
    parameters = _parameters(lines, deflated)
    return None if parameters is None else PngLayout(before, after, filters, cuts, parameters)


def png_content(pixels_HWC: Bytes, layout: PngLayout) -> bytes:
    """The file of that layout and these pixels."""
    deflated = b"".join(_deflated(_filtered(pixels_HWC, layout.filters), layout.parameters))
    chunks, start = [], 0
    for size in layout.cuts:
        chunks.append(_chunk(deflated[start : start + size]))
        start += size
    return layout.before + b"".join(chunks) + layout.after


def _parts(content: bytes) -> tuple[bytes, bytes, tuple[int, ...], bytes] | None:
    """What comes before the chunks of pixels, what is in them, their sizes, and what comes after; all as it lies there.

    None where the chunks do not follow each other, or say something else of themselves than they would when made anew.
    """
    if not content.startswith(SIGNATURE):
        return None
    pieces: list[bytes] = []
    start, first, end = len(SIGNATURE), 0, 0
    while start < len(content):
        (size,) = struct.unpack_from(">I", content, start)
        stop = start + 12 + size
        if content[start + 4 : start + 8] == b"IDAT":
            piece = content[start + 8 : start + 8 + size]
            if (pieces and start != end) or content[start:stop] != _chunk(piece):
                return None
            first = first or start
            pieces.append(piece)
            end = stop
        start = stop
    if not pieces:
        return None
    return content[:first], b"".join(pieces), tuple(map(len, pieces)), content[end:]


def _chunk(data: bytes) -> bytes:
    named = b"IDAT" + data
    return struct.pack(">I", len(data)) + named + struct.pack(">I", zlib.crc32(named))


def _parameters(lines: bytes, deflated: bytes) -> tuple[int, int, int, int] | None:
    window_bits, hint = (deflated[0] >> 4) + 8, deflated[1] >> 6
    if not 9 <= window_bits <= 15:
        return None
    tried = product(_STRATEGIES, _LEVELS[hint], _MEMORY)
    fast = product(_FAST_STRATEGIES, (9, 6, 4, 1), _MEMORY) if hint == 0 else ()
    for strategy, level, memory in chain(tried, fast):
        parameters = (level, window_bits, memory, strategy)
        if _makes(lines, parameters, deflated):
            return parameters
    return None


def _makes(lines: bytes, parameters: tuple[int, int, int, int], deflated: bytes) -> bool:
    """Whether zlib makes just this; given up at the first difference."""
    start = 0
    for part in _deflated(lines, parameters):
        if deflated[start : start + len(part)] != part:
            return False
        start += len(part)
    return start == len(deflated)


def _deflated(lines: bytes, parameters: tuple[int, int, int, int]) -> Iterator[bytes]:
    level, window_bits, memory, strategy = parameters
    deflate = zlib.compressobj(level, zlib.DEFLATED, window_bits, memory, strategy)
    for start in range(0, len(lines), _PART):
        yield deflate.compress(lines[start : start + _PART])
    yield deflate.flush()


def _filtered(pixels_HWC: Bytes, filters: bytes) -> bytes:
    """The lines as a PNG deflates them, each after the number of its filter."""
    height, channels = pixels_HWC.shape[0], pixels_HWC.shape[2]
    lines_HB = pixels_HWC.reshape(height, -1)
    above_HB, left_HB, corner_HB = (np.zeros_like(lines_HB) for _ in range(3))
    above_HB[1:] = lines_HB[:-1]
    left_HB[:, channels:] = lines_HB[:, :-channels]
    corner_HB[1:] = left_HB[:-1]
    kinds_H = np.frombuffer(filters, np.uint8)
    made = np.empty((height, 1 + lines_HB.shape[1]), np.uint8)
    made[:, 0] = kinds_H
    for kind, predict in enumerate(_FILTERS):
        its = kinds_H == kind
        made[its, 1:] = lines_HB[its] - predict(left_HB[its], above_HB[its], corner_HB[its])
    return made.tobytes()


def _average(left: Bytes, above: Bytes, corner: Bytes) -> Bytes:
    return ((left.astype(np.uint16) + above) // 2).astype(np.uint8)


def _paeth(left: Bytes, above: Bytes, corner: Bytes) -> Bytes:
    """Whichever of the three is nearest to left + above - corner, in that order where several are."""
    a, b, c = (x.astype(np.int16) for x in (left, above, corner))
    to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
    return np.where((to_a <= to_b) & (to_a <= to_c), left, np.where(to_b <= to_c, above, corner))


_FILTERS = (
    lambda left, above, corner: np.zeros_like(left),
    lambda left, above, corner: left,
    lambda left, above, corner: above,
    _average,
    _paeth,
)
"""The PNG specification's filters 0 to 4: what each takes from a byte, given those left, above and left above."""
