"""PNG files rebuilt from their pixels, byte for byte.

A PNG holds its pixels filtered line by line and then deflated. The program that writes it chooses a filter for each
line and zlib's parameters. The filters are read from the file, the parameters are determined by trying.
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

_LEVELS = {0: (0, 1), 1: (2, 3, 4, 5), 2: (6,), 3: (9, 8, 7)}
"""zlib's levels by the compression level field of its header."""
_MEMORY = (8, 9)
_STRATEGIES = (zlib.Z_FILTERED, zlib.Z_DEFAULT_STRATEGY)
_FAST_STRATEGIES = (zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY, zlib.Z_FIXED)
"""With these zlib writes the lowest level in its header."""
_CHUNK_BYTES = 2**16


@dataclass(frozen=True)
class PngLayout:
    """A PNG file without its pixels.

    before, after: its bytes before the first and after the last chunk of pixels. filters: one for each line.
    cuts: bytes of deflated pixels in each chunk. parameters: zlib's level, window bits, memory level and strategy.
    """

    before: bytes
    after: bytes
    filters: bytes
    cuts: tuple[int, ...]
    parameters: tuple[int, int, int, int]

    def plain(self) -> dict[str, Any]:
        """The numbers as plain JSON values; the bytes are stored elsewhere."""
        return {"cuts": self.cuts, "zlib": self.parameters, "before": len(self.before), "filters": len(self.filters)}


def png_layout(content: bytes, pixels_HWC: Bytes) -> PngLayout | None:
    """The layout with which `png_content` rebuilds the file, or None if there is none."""
    try:
        chunks = _pixel_chunks(content)
        if chunks is None:
            return None
        before, deflated, cuts, after = chunks
        height, line = pixels_HWC.shape[0], 1 + pixels_HWC[0].size
        lines = zlib.decompressobj().decompress(deflated, height * line + 1)  # no more of a decompression bomb
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


def _pixel_chunks(content: bytes) -> tuple[bytes, bytes, tuple[int, ...], bytes] | None:
    """The bytes before the chunks of pixels, the content of these, their sizes, and the bytes after them.

    None if the chunks are not consecutive, or `_chunk` would write one of them otherwise.
    """
    if not content.startswith(SIGNATURE):
        return None
    contents: list[bytes] = []
    start, first, end = len(SIGNATURE), 0, 0
    while start < len(content):
        (size,) = struct.unpack_from(">I", content, start)
        stop = start + 12 + size
        if content[start + 4 : start + 8] == b"IDAT":
            data = content[start + 8 : start + 8 + size]
            if (contents and start != end) or content[start:stop] != _chunk(data):
                return None
            first = first or start
            contents.append(data)
            end = stop
        start = stop
    if not contents:
        return None
    return content[:first], b"".join(contents), tuple(map(len, contents)), content[end:]


def _chunk(data: bytes) -> bytes:
    typed = b"IDAT" + data
    return struct.pack(">I", len(data)) + typed + struct.pack(">I", zlib.crc32(typed))


def _parameters(lines: bytes, deflated: bytes) -> tuple[int, int, int, int] | None:
    window_bits, level_field = (deflated[0] >> 4) + 8, deflated[1] >> 6
    if not 9 <= window_bits <= 15:
        return None
    usual = product(_STRATEGIES, _LEVELS[level_field], _MEMORY)
    fast = product(_FAST_STRATEGIES, (9, 6, 4, 1), _MEMORY) if level_field == 0 else ()
    for strategy, level, memory in chain(usual, fast):
        parameters = (level, window_bits, memory, strategy)
        if _deflates_to(lines, parameters, deflated):
            return parameters
    return None


def _deflates_to(lines: bytes, parameters: tuple[int, int, int, int], deflated: bytes) -> bool:
    """True if zlib makes exactly these bytes; stops at the first difference."""
    start = 0
    for chunk in _deflated(lines, parameters):
        if deflated[start : start + len(chunk)] != chunk:
            return False
        start += len(chunk)
    return start == len(deflated)


def _deflated(lines: bytes, parameters: tuple[int, int, int, int]) -> Iterator[bytes]:
    level, window_bits, memory, strategy = parameters
    deflate = zlib.compressobj(level, zlib.DEFLATED, window_bits, memory, strategy)
    for start in range(0, len(lines), _CHUNK_BYTES):
        yield deflate.compress(lines[start : start + _CHUNK_BYTES])
    yield deflate.flush()


def _filtered(pixels_HWC: Bytes, filters: bytes) -> bytes:
    """The filtered lines, each after the number of its filter."""
    height, channels = pixels_HWC.shape[0], pixels_HWC.shape[2]
    lines_HB = pixels_HWC.reshape(height, -1)
    above_HB, left_HB, corner_HB = (np.zeros_like(lines_HB) for _ in range(3))
    above_HB[1:] = lines_HB[:-1]
    left_HB[:, channels:] = lines_HB[:, :-channels]
    corner_HB[1:] = left_HB[:-1]
    kinds_H = np.frombuffer(filters, np.uint8)
    filtered = np.empty((height, 1 + lines_HB.shape[1]), np.uint8)
    filtered[:, 0] = kinds_H
    for kind, predict in enumerate(_FILTERS):
        rows = kinds_H == kind
        filtered[rows, 1:] = lines_HB[rows] - predict(left_HB[rows], above_HB[rows], corner_HB[rows])
    return filtered.tobytes()


def _average(left: Bytes, above: Bytes, corner: Bytes) -> Bytes:
    return ((left.astype(np.uint16) + above) // 2).astype(np.uint8)


def _paeth(left: Bytes, above: Bytes, corner: Bytes) -> Bytes:
    """The one of the three nearest to left + above - corner; of equal ones the first."""
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
"""The predictions that the PNG specification's filters 0 to 4 subtract, from the bytes left, above and left above."""
