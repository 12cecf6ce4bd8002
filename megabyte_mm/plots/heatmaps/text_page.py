"""Where the bits of a text go, as one HTML page that needs nothing else: all characters, each with its bits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from megabyte_mm.plots.heatmaps.scale import PALE, RAW, Floats, bits_per_byte

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


LEVELS = 32
"""Colours on the page. Neighbours of one colour share an element, which keeps long texts light."""
BLOCK = 2000
"""Characters that the browser lays out together, about; it skips the blocks that are out of sight."""
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {
    0x7F: "\N{SYMBOL FOR DELETE}"
}
"""Control characters, which HTML cannot hold, as the pictures that Unicode has of them."""

_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{name}</title>
<style>
body {{ margin: 2rem auto; padding: 0 1rem; max-width: 60rem; color: #18181b; background: #fff;
  font: 1rem/1.5 system-ui, sans-serif }}
h1 {{ font-size: 1.25rem; margin: 0; overflow-wrap: anywhere }}
p {{ margin: .25rem 0 1rem; color: #52525b }}
main {{ font: .95rem/1.6 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }}
main div {{ white-space: pre-wrap; overflow-wrap: anywhere;
  content-visibility: auto; contain-intrinsic-size: auto 40rem }}
i {{ font-style: normal }}
i:hover {{ outline: 1px solid }}
.n::before {{ content: "\\21b5"; color: #71717a }}
.scale {{ display: inline-block; vertical-align: middle; width: 12rem; height: .8rem; border: 1px solid #a1a1aa;
  background: linear-gradient(to right, {gradient}) }}
{classes}
</style></head><body>
<h1>{name}</h1>
<p>{told}<br>bits per byte: 0 <span class="scale"></span> {raw} and more. Point at a character to see its bits.</p>
<main>
"""


def text_page(data: bytes, bits: Floats, name: str = "", end_bits: float = 0.0) -> str:
    """A self-contained page: every character once, in order, coloured by bits per byte, with its bits as its title.

    bits: (n,), of each byte, n >= 0. end_bits: what END costs, told at the top. Bytes that are no UTF-8 are replacement
    characters, control characters the pictures that Unicode has of them.
    """
    found = characters(data, bits)
    colours = [to_hex(PALE(level / (LEVELS - 1))) for level in range(LEVELS)]
    head = _HEAD.format(
        name=escape(name) or "text",
        told=_told(found, bits, end_bits),
        raw=RAW,
        gradient=", ".join(colours),
        classes="\n".join(f".q{level} {{ background: {colour} }}" for level, colour in enumerate(colours)),
    )
    return "".join([head, *_blocks(found), "</main></body></html>\n"])


def _told(found: Characters, bits: Floats, end_bits: float) -> str:
    if not len(bits):
        return "no bytes"
    end = f" END costs {end_bits:.1f} bits." if end_bits else ""
    size = f"{len(bits):,} bytes, {len(found.text):,} characters"
    return f"{bits_per_byte(bits, end_bits, len(bits)):.3f} bits per byte ({size}).{end}"


def _blocks(found: Characters) -> Iterator[str]:
    """The text in pieces that end with a line where one ends soon, as elements of their own."""
    text = found.text.translate(_PICTURES)
    levels = np.clip(np.nan_to_num(found.levels, nan=RAW) / RAW * LEVELS, 0, LEVELS - 1).astype(np.int64)
    ends = np.frombuffer(text.encode("utf-32-le"), "<u4") == ord("\n")
    shown = [f"{value:.1f}" for value in found.bits.tolist()]
    # A line end stands alone, for the sign before it.
    cuts = np.flatnonzero((np.diff(levels) != 0) | ends[1:] | ends[:-1]) + 1
    places = [0, *cuts.tolist(), len(text)] if text else []
    open_since = 0
    for first, stop in pairwise(places):
        if first == 0:
            yield "<div>"
        piece = text[first:stop]
        kind = f'"q{levels[first]} n"' if piece == "\n" else f"q{levels[first]}"
        told = shown[first] if stop == first + 1 else f'"{" ".join(shown[first:stop])}"'
        yield f"<i class={kind} title={told}>{_escaped(piece)}</i>"
        if stop - open_since >= BLOCK and piece == "\n" and stop < len(text):
            yield "</div>\n<div>"
            open_since = stop
    if places:
        yield "</div>\n"


def _escaped(piece: str) -> str:
    return re.sub("[&<>]", lambda found: escape(found[0]), piece)
