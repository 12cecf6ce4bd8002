"""Files and figures as HTML elements. The content of a file is untrusted: none of it becomes markup."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import soundfile
from matplotlib.figure import Figure
from numpy.typing import NDArray


def inline_svg(figure: Figure, name: str, label: str, variables: Mapping[str, str]) -> str:
    """Return the figure as an <svg> element; equal figures give equal elements.

    name: a word, unique on the page. label: description for screen readers. variables: colour -> the CSS variable that
    replaces it on pages that define it.
    """
    output = io.StringIO()
    # The salt makes the ids of this figure differ from those of another on the same page.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(output, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    svg = output.getvalue()
    # Its stylesheet would apply to the whole page.
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # figure_1, axes_1: equal in all figures
    for color, variable in variables.items():
        svg = svg.replace(color, f"var({variable}, {color})")
    svg = re.sub(r"font-family: [^;]*; ?", "", svg).replace("xlink:href", "href")
    size = re.search(r'viewBox="[^"]*"', svg)
    assert size is not None
    opening = f'<svg class="plot" {size[0]} role="img" aria-label="{html.escape(label)}">'
    return opening + svg[svg.index(">") + 1 :]


class Budget:
    """The bytes that files may take as data: URIs in a page.

    limit: for all together. each: for a single file.
    """

    def __init__(self, limit: int, each: int) -> None:
        self.left, self.each = limit, each
        self.refused = 0

    def data_uri(self, content: bytes, mime: str) -> str | None:
        """Return the content as a data: URI, None where it exceeds the budget."""
        size = -(-len(content) // 3) * 4
        if size > min(self.left, self.each):
            self.refused += 1
            return None
        self.left -= size
        return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
}
SOUNDS = {".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".mp3": "audio/mpeg"}
MAX_TEXT = 2400
"""Bytes of a text that are shown."""
MAX_PREFIX = 240
"""Bytes of a text's prefix that are shown before its continuation."""
MAX_HEX = 256
"""Bytes of other files that are shown."""
STRIP, BARS = 40, 160
"""Height of a waveform, and its number of bars."""


def media_kind(suffix: str) -> str:
    """Return image, audio or text, for the suffix of a file's name."""
    return "image" if suffix.lower() in PICTURES else "audio" if suffix.lower() in SOUNDS else "text"


def element(content: bytes, suffix: str, name: str, budget: Budget, prefix_length: int = 0) -> str:
    """Return the file as HTML: a picture, a waveform with a player, its text, or its bytes as numbers.

    suffix: of its name, with the dot. prefix_length: bytes at the start of a text in the colour of a prefix.
    """
    kind = suffix.lower()
    if kind in PICTURES:
        uri = budget.data_uri(content, PICTURES[kind])
        return _left_out(content) if uri is None else f'<img src="{uri}" alt="{html.escape(name)}">'
    if kind in SOUNDS:
        return _player(content, SOUNDS[kind], name, budget)
    return text_element(content, prefix_length) if is_text(content) else _numbers(content)


def is_text(content: bytes) -> bool:
    """Return True if most characters are printable UTF-8."""
    shown = content[:MAX_TEXT].decode("utf-8", errors="replace")
    return sum(_shows(c) for c in shown) * 10 >= len(shown) * 7


def text_element(content: bytes, prefix_length: int = 0) -> str:
    """Return the first part of a text, with replacement characters for bytes that are not text.

    prefix_length: bytes at its start that are coloured as a prefix, and of which the last few are shown.
    """
    prefix, text = content[max(0, prefix_length - MAX_PREFIX) : prefix_length], content[prefix_length:]
    lead = "… " if prefix_length > MAX_PREFIX else ""
    rest = f'<span class="more"> … {len(text) - MAX_TEXT:,} more bytes</span>' if len(text) > MAX_TEXT else ""
    before = f'<span class="prefix">{lead}{escaped(prefix)}</span>' if prefix_length else ""
    kind = ' class="generated"' if prefix_length else ""
    return f'<pre tabindex="0">{before}<span{kind}>{escaped(text[:MAX_TEXT])}</span>{rest}</pre>'


def escaped(text: bytes) -> str:
    """Return the text for HTML, with replacement characters for bytes that are not UTF-8 or not printable."""
    decoded = text.decode("utf-8", errors="replace")
    return html.escape("".join(c if _shows(c) else "\N{REPLACEMENT CHARACTER}" for c in decoded))


def waveform(sound: NDArray[np.float32], prefix_share: float = 0.0) -> str:
    """Return sound, (frames,) float32 from -1 to 1, as bars from its lowest to its highest values.

    prefix_share: the share of it, from the start, in the colour of a prefix.
    """
    bars = []
    for index, piece in enumerate(np.array_split(sound, BARS)):
        low, high = (float(piece.min()), float(piece.max())) if piece.size else (0.0, 0.0)
        y, height = STRIP / 2 * (1 - high), max(1.0, STRIP / 2 * (high - low))
        kind = "prefix" if (index + 0.5) / BARS < prefix_share else "generated"
        bars.append(f'<rect class="{kind}" x="{index}" y="{y:.1f}" width="0.8" height="{height:.1f}"/>')
    view = f'viewBox="0 0 {BARS} {STRIP}" preserveAspectRatio="none"'
    return f'<svg class="wave" {view} role="img" aria-label="waveform">{"".join(bars)}</svg>'


def _player(content: bytes, mime: str, name: str, budget: Budget) -> str:
    uri = budget.data_uri(content, mime)
    if uri is None:
        return _left_out(content)
    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError):
        return f'<p class="none">{html.escape(name)} cannot be read as sound.</p>'
    label = f"{html.escape(name)}, {len(samples) / rate:.2g} seconds"
    mono = samples.mean(axis=1)
    loudest = max(float(np.abs(mono).max(initial=0)), 1 / 256)  # so that soft sounds are visible
    return f'{waveform(mono / loudest)}<audio controls preload="none" src="{uri}" aria-label="{label}"></audio>'


def _numbers(content: bytes) -> str:
    return f'<pre class="bytes" tabindex="0">{content[:MAX_HEX].hex(" ")}</pre>'


def _left_out(content: bytes) -> str:
    return f'<p class="none">{len(content) / 1e6:.1f} MB, left out to keep this page small.</p>'


def _shows(character: str) -> bool:
    return (character.isprintable() and character != "\N{REPLACEMENT CHARACTER}") or character in "\n\t\r"
