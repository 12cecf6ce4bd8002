"""One self-contained HTML page of what the models made: media, curves and numbers inline, nothing to load."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from megabyte_mm.plots import bits_curves, style
from megabyte_mm.plots.html_elements import escaped, inline_svg, waveform
from megabyte_mm.training.run_folder import Points

MIME = {".png": "image/png", ".wav": "audio/wav"}
STYLE = Path(__file__).with_name("gallery.css")
COLORS = {style.INK: "--soft", style.RULE: "--rule", style.TRAIN: "--given", style.VAL: "--drawn"}


@dataclass(frozen=True)
class Continuation:
    """A file that the model never saw, and what it made of the beginning."""

    original: Path
    takes: tuple[Path, ...]


@dataclass(frozen=True)
class Section:
    """One modality on the page. kind: "image" (PNG), "audio" (WAV) or "text" (bytes that are mostly UTF-8).

    keep: the part, 0 to 1, of each original that was given. facts: name and value. scores: name and bits per byte, the
    model first. train, val: bits per byte by updates done.
    """

    kind: str
    title: str
    about: str
    commands: tuple[str, ...]
    fresh: tuple[Path, ...]
    continuations: tuple[Continuation, ...]
    keep: float
    train: Points = ()
    val: Points = ()
    scores: tuple[tuple[str, float], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


def write_page(path: Path, sections: Sequence[Section], seconds: float) -> None:
    """Write the page that shows the sections, made in so many seconds all in all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_page(sections, seconds), encoding="utf-8")


def render_page(sections: Sequence[Section], seconds: float) -> str:
    """The page as HTML: every picture, sound and text inline, no reference to anything outside of it."""
    body = "".join(_section(section) for section in sections)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>megabyte-mm: what the bytes became</title><style>{STYLE.read_text(encoding="utf-8")}</style></head><body>
<header><h1>megabyte-mm</h1><p>Pictures, melodies and text, each a plain stream of bytes to one kind of model: MEGABYTE.
Everything here was made, learned and drawn on this machine in {seconds / 60:.1f} minutes.</p></header>
<main>{body}</main><footer><p>Codecs compress each validation file by itself, headers included, and know
nothing beforehand; the model has seen other files of the same kind, and its row is its lowest <code>val/bpb</code>.</p>
</footer></body></html>
"""


def _section(section: Section) -> str:
    facts = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>" for name, value in section.facts
    )
    fresh = "".join(_figure(section.kind, path, 0.0, "") for path in section.fresh)
    continued = "".join(_continuation(section, continuation) for continuation in section.continuations)
    commands = html.escape("\n".join(section.commands))
    return f"""
<section id="{section.kind}"><h2>{html.escape(section.title)}</h2><p>{html.escape(section.about)}</p>
<dl class="facts">{facts}</dl>
<div class="numbers"><div><h3>Bits per byte <span class="legend">uncompressed: 8</span></h3>
{_scores(section.scores)}</div><div><h3>Training</h3>
{_curve(section)}</div></div>
<h3>From a beginning <span class="legend"><i class="given"></i>given <i class="drawn"></i>drawn by the model</span></h3>
<div class="continuations {section.kind}">{continued}</div>
<h3>From nothing</h3><div class="fresh {section.kind}">{fresh}</div>
<details open><summary>Commands</summary><pre class="commands">{commands}</pre></details></section>"""


def _curve(section: Section) -> str:
    figure = bits_curves(section.train, section.val, {}, size=(5.0, 2.6))
    return inline_svg(figure, section.kind, "bits per byte over updates", COLORS)


def _scores(scores: Sequence[tuple[str, float]]) -> str:
    """Each score with a bar, the highest all across."""
    longest = max((value for _, value in scores), default=0) or 1
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{value:.3f}</td>'
        f'<td class="bar"><i style="width:{100 * value / longest:.1f}%"></i></td></tr>'
        for name, value in scores
    )
    return f'<table class="scores"><tbody>{rows}</tbody></table>'


def _continuation(section: Section, continuation: Continuation) -> str:
    """What was given, what the model made of it, and the original."""
    given = _given(section.kind, continuation.original, section.keep)
    figures = [_figure(section.kind, path, given, "continued") for path in continuation.takes]
    if section.kind == "image":
        figures.insert(0, _figure("image", continuation.original, given, "given"))
    figures.append(_figure(section.kind, continuation.original, given, "original"))
    return f'<div class="row">{"".join(figures)}</div>'


def _given(kind: str, original: Path, keep: float) -> float:
    """How much of a continuation is its prefix: bytes of text, frames of sound, the upper part of a picture."""
    if kind == "text":
        return round(keep * original.stat().st_size)
    return keep * soundfile.info(original).frames if kind == "audio" else keep


def _figure(kind: str, path: Path, given: float, caption: str) -> str:
    """One file inline, the given part of it set apart."""
    show = {"image": _picture, "audio": _player, "text": _text}[kind]
    note = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure class="{caption or "new"}">{show(path, given)}{note}</figure>'


def _picture(path: Path, given: float) -> str:
    return f'<img src="{_data_uri(path)}" alt="{html.escape(path.stem)}" style="--kept:{100 * given:g}%">'


def _player(path: Path, given: float) -> str:
    sound = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1)
    wave = waveform(sound, given / max(1, len(sound)))
    return f'{wave}<audio controls preload="metadata" src="{_data_uri(path)}"></audio>'


def _text(path: Path, given: float) -> str:
    text = path.read_bytes()
    parts = (("given", text[: int(given)]), ("drawn", text[int(given) :]))
    spans = (f'<span class="{kind}">{escaped(part)}</span>' for kind, part in parts)
    return f"<pre>{''.join(spans)}</pre>"


def _data_uri(path: Path) -> str:
    return f"data:{MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
