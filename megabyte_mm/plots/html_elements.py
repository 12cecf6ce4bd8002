"""A file as an element of a page. What a file holds is somebody else's: nothing of it becomes markup."""

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
    """The figure as an <svg> element, the same whenever it is drawn.

    name: tells this figure of a page from the others, a word. label: what it shows, for those who do not see it.
    variables: colour -> the page's CSS variable that stands for it; the colour itself where the page has none.
    """
    drawn = io.StringIO()
    # The salt keeps the ids of one figure apart from those of another on the same page.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    svg = drawn.getvalue()
    # Its stylesheet would be that of the whole page.
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # figure_1, axes_1: the same in every figure
    for color, variable in variables.items():
        svg = svg.replace(color, f"var({variable}, {color})")
    svg = re.sub(r"font-family: [^;]*; ?", "", svg).replace("xlink:href", "href")
    size = re.search(r'viewBox="[^"]*"', svg)
    assert size is not None
    opening = f'<svg class="plot" {size[0]} role="img" aria-label="{html.escape(label)}">'
    return opening + svg[svg.index(">") + 1 :]


class Budget:
    """Bytes that the embedded files of a page may take, as they stand in it.

    limit: of all together. each: of a single one.
    """

    def __init__(self, limit: int, each: int) -> None:
        self.left, self.each = limit, each
        self.refused = 0

    def data_uri(self, content: bytes, mime: str) -> str | None:
        """The content as a data: URI, None where there is no room for it."""
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
MOST_TEXT = 2400
"""Bytes of a text that are shown."""
GIVEN = 240
"""Of what was given of a text, so many bytes are shown before what was drawn."""
MOST_HEX = 256
"""Bytes of other files that are shown."""
STRIP, BARS = 40, 160
"""Height of a waveform, and the number of its bars."""


def element(content: bytes, suffix: str, name: str, budget: Budget, given: int = 0) -> str:
    """The file as HTML: a picture, a waveform with a player, or its text, or its bytes as numbers.

    suffix: of its name, with the dot. name: what it is called. given: bytes at its start that have a colour of their
    own, where it is a text.
    """
    kind = suffix.lower()
    if kind in PICTURES:
        uri = budget.data_uri(content, PICTURES[kind])
        return _left_out(content) if uri is None else f'<img src="{uri}" alt="{html.escape(name)}">'
    if kind in SOUNDS:
        return _player(content, SOUNDS[kind], name, budget)
    return text_element(content, given) if is_text(content) else _numbers(content)


def is_text(content: bytes) -> bool:
    """Whether most of the bytes are UTF-8 and printable."""
    shown = content[:MOST_TEXT].decode("utf-8", errors="replace")
    return sum(_shows(c) for c in shown) * 10 >= len(shown) * 7


def text_element(content: bytes, given: int = 0) -> str:
    """The beginning of a text, with a replacement character for what is no text.

    given: bytes at its start that are set apart, and of which the last few are shown.
    """
    before, drawn = content[max(0, given - GIVEN) : given], content[given:]
    lead = "… " if given > GIVEN else ""
    rest = f'<span class="more"> … {len(drawn) - MOST_TEXT:,} more bytes</span>' if len(drawn) > MOST_TEXT else ""
    told = f'<span class="prefix">{lead}{escaped(before)}</span>' if given else ""
    kind = ' class="generated"' if given else ""
    return f'<pre tabindex="0">{told}<span{kind}>{escaped(drawn[:MOST_TEXT])}</span>{rest}</pre>'


def escaped(text: bytes) -> str:
    """Escaped for HTML, with a replacement character for what is not UTF-8 or not printable."""
    decoded = text.decode("utf-8", errors="replace")
    return html.escape("".join(c if _shows(c) else "\N{REPLACEMENT CHARACTER}" for c in decoded))


def waveform(sound: NDArray[np.float32], given: float = 0.0) -> str:
    """Sound, (frames,) float32 from -1 to 1, as bars from its lowest to its highest values.

    given: the part of it, 0 to 1 from the start, that has a colour of its own.
    """
    bars = []
    for index, piece in enumerate(np.array_split(sound, BARS)):
        low, high = (float(piece.min()), float(piece.max())) if piece.size else (0.0, 0.0)
        y, height = STRIP / 2 * (1 - high), max(1.0, STRIP / 2 * (high - low))
        kind = "prefix" if (index + 0.5) / BARS < given else "generated"
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
        return f'<p class="none">{html.escape(name)} is no sound that can be read.</p>'
    label = f"{html.escape(name)}, {len(samples) / rate:.2g} seconds"
    mono = samples.mean(axis=1)
    loudest = max(float(np.abs(mono).max(initial=0)), 1 / 256)  # so that soft sounds have a shape too
    return f'{waveform(mono / loudest)}<audio controls preload="none" src="{uri}" aria-label="{label}"></audio>'


def _numbers(content: bytes) -> str:
    return f'<pre class="bytes" tabindex="0">{content[:MOST_HEX].hex(" ")}</pre>'


def _left_out(content: bytes) -> str:
    return f'<p class="none">{len(content) / 1e6:.1f} MB, left out to keep this page small.</p>'


def _shows(character: str) -> bool:
    return (character.isprintable() and character != "\N{REPLACEMENT CHARACTER}") or character in "\n\t\r"
