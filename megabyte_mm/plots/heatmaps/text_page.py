"""Bits of a text as a self-contained HTML page: all characters, each with its bits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from itertools import pairwise

import numpy as np
from matplotlib.colors import to_hex

from megabyte_mm.plots.heatmaps.layout import PALE, RAW_BITS, bits_per_byte
from megabyte_mm.plots.heatmaps.text import Characters, split_characters
from megabyte_mm.plots.style import Floats

LEVELS = 32
"""Number of colours. Neighbours of one colour share an HTML element, which keeps long pages small."""
BLOCK = 2000
"""Approximate number of characters in a block; browsers skip the layout of blocks that are out of view."""
_CONTROL_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {
    0x7F: "\N{SYMBOL FOR DELETE}"
}
"""Control characters, which HTML cannot contain -> their symbols in Unicode."""

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
<p>{summary}<br>bits per byte: 0 <span class="scale"></span> {raw} and more. Point at a character to see its bits.</p>
<main>
"""


def text_page(data: bytes, bits: Floats, name: str = "", end_bits: float = 0.0) -> str:
    """Return an HTML page of all characters, coloured by bits per byte, with their bits as tooltips.

    bits: (n,), of each byte, n >= 0. end_bits: cost of END, for the heading. Bytes that are not UTF-8 become
    replacement characters, control characters their Unicode symbols.
    """
    characters = split_characters(data, bits)
    colours = [to_hex(PALE(level / (LEVELS - 1))) for level in range(LEVELS)]
    head = _HEAD.format(
        name=escape(name) or "text",
        summary=_summary(characters, bits, end_bits),
        raw=RAW_BITS,
        gradient=", ".join(colours),
        classes="\n".join(f".q{level} {{ background: {colour} }}" for level, colour in enumerate(colours)),
    )
    return "".join([head, *_blocks(characters), "</main></body></html>\n"])


def _summary(characters: Characters, bits: Floats, end_bits: float) -> str:
    if not len(bits):
        return "no bytes"
    end = f" END costs {end_bits:.1f} bits." if end_bits else ""
    size = f"{len(bits):,} bytes, {len(characters.text):,} characters"
    return f"{bits_per_byte(bits, end_bits, len(bits)):.3f} bits per byte ({size}).{end}"


def _blocks(characters: Characters) -> Iterator[str]:
    """Yield the HTML of the text in blocks that end at a line end."""
    text = characters.text.translate(_CONTROL_PICTURES)
    shares = np.nan_to_num(characters.bits_per_byte, nan=RAW_BITS) / RAW_BITS
    levels = np.clip(shares * LEVELS, 0, LEVELS - 1).astype(np.int64)
    ends = np.frombuffer(text.encode("utf-32-le"), "<u4") == ord("\n")
    costs = [f"{value:.1f}" for value in characters.bits.tolist()]
    # A line end has its own element, which shows a symbol before it.
    cuts = np.flatnonzero((np.diff(levels) != 0) | ends[1:] | ends[:-1]) + 1
    bounds = [0, *cuts.tolist(), len(text)] if text else []
    block_start = 0
    for first, stop in pairwise(bounds):
        if first == 0:
            yield "<div>"
        piece = text[first:stop]
        kind = f'"q{levels[first]} n"' if piece == "\n" else f"q{levels[first]}"
        title = costs[first] if stop == first + 1 else f'"{" ".join(costs[first:stop])}"'
        yield f"<i class={kind} title={title}>{_escape(piece)}</i>"
        if stop - block_start >= BLOCK and piece == "\n" and stop < len(text):
            yield "</div>\n<div>"
            block_start = stop
    if bounds:
        yield "</div>\n"


def _escape(piece: str) -> str:
    return re.sub("[&<>]", lambda match: escape(match[0]), piece)
