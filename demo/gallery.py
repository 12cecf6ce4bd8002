"""One self-contained HTML page of the demo's results: media, curves and numbers are inline."""

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
COLORS = {style.INK: "--soft", style.RULE: "--rule", style.TRAIN: "--prefix", style.VAL: "--generated"}


@dataclass(frozen=True)
class Continuation:
    """A validation file, and the model's continuations of its prefix, or what it makes of the given part."""

    original: Path
    samples: tuple[Path, ...]
    given: Path | None = None


@dataclass(frozen=True)
class Section:
    """One model on the page. kind: a word, unique on the page. Files are PNG, WAV, or bytes that are mostly UTF-8.

    samples: generated without a prefix. keep: share of each original, 0 to 1, that was the prefix of its continuations.
    train, val: bits per byte by updates done. scores: name and bits per byte, the model first. facts: name and value.
    """

    kind: str
    title: str
    about: str
    commands: tuple[str, ...]
    samples: tuple[Path, ...]
    continuations: tuple[Continuation, ...]
    keep: float
    train: Points = ()
    val: Points = ()
    scores: tuple[tuple[str, float], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


def write_page(path: Path, sections: Sequence[Section], seconds: float | None, shipped: Sequence[Path] = ()) -> None:
    """Write the page of these sections. seconds, shipped: as of `render_page`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_page(sections, seconds, shipped), encoding="utf-8")


def render_page(sections: Sequence[Section], seconds: float | None, shipped: Sequence[Path] = ()) -> str:
    """Return the page as HTML that refers to no other file.

    seconds: that the whole demo took; None while it runs. shipped: files of the models that come with the package.
    """
    took = "The models of this machine are still in training: reload the page in some minutes."
    if seconds is not None:
        took = f"Generating the data, training and sampling took {seconds / 60:.1f} minutes on this machine."
    body = _shipped(shipped) + "".join(_section(section) for section in sections)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>megabyte-mm: demo</title><style>{STYLE.read_text(encoding="utf-8")}</style></head><body>
<header><h1>megabyte-mm</h1><p>Pictures, melodies, text, and the one from the other, each modelled as a plain stream of
bytes by the same kind of model, MEGABYTE. {took}</p>
</header>
<main>{body}</main><footer><p>Codecs compress each validation file by itself, headers included, without training; the
model was trained on other files of the same kind, and its row shows its lowest <code>val/bpb</code>, of the second part
of a record.</p>
</footer></body></html>
"""


def _shipped(samples: Sequence[Path]) -> str:
    if not samples:
        return ""
    figures = "".join(_figure(path, 0.0, "") for path in samples)
    return f"""
<section id="shipped"><h2>Models that come with the package</h2><p>Pictures of <code>demo:image</code>, from nothing,
and of <code>demo:text-to-image</code>, from captions; digits spoken by <code>demo:speech</code>.</p>
<div class="unconditional image">{figures}</div></section>"""


def _section(section: Section) -> str:
    facts = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>" for name, value in section.facts
    )
    continuations = "".join(_continuation(section, continuation) for continuation in section.continuations)
    commands = html.escape("\n".join(section.commands))
    return f"""
<section id="{section.kind}"><h2>{html.escape(section.title)}</h2><p>{html.escape(section.about)}</p>
<dl class="facts">{facts}</dl>
<div class="numbers"><div><h3>Bits per byte <span class="legend">uncompressed: 8</span></h3>
{_scores(section.scores)}</div><div><h3>Training</h3>
{_curve(section)}</div></div>
<h3>Continuations <span class="legend"><i class="prefix"></i>given <i class="generated"></i>generated</span></h3>
<div class="continuations {section.kind}">{continuations}</div>
{_unconditional(section)}
<details open><summary>Commands</summary><pre class="commands">{commands}</pre></details></section>"""


def _unconditional(section: Section) -> str:
    if not section.samples:
        return ""
    samples = "".join(_figure(path, 0.0, "") for path in section.samples)
    return f'<h3>Samples without a prefix</h3><div class="unconditional {section.kind}">{samples}</div>'


def _curve(section: Section) -> str:
    figure = bits_curves(section.train, section.val, {}, size=(5.0, 2.6))
    return inline_svg(figure, section.kind, "bits per byte over updates", COLORS)


def _scores(scores: Sequence[tuple[str, float]]) -> str:
    """A table of the scores, each with a bar; the highest has full width."""
    longest = max((value for _, value in scores), default=0) or 1
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{value:.3f}</td>'
        f'<td class="bar"><i style="width:{100 * value / longest:.1f}%"></i></td></tr>'
        for name, value in scores
    )
    return f'<table class="scores"><tbody>{rows}</tbody></table>'


def _continuation(section: Section, continuation: Continuation) -> str:
    """A row of what was given (of sounds and texts that are continued, each figure shows it), samples and original."""
    original, given = continuation.original, continuation.given
    prefix = 0.0 if given is not None else _prefix_size(original, section.keep)
    figures = [_figure(path, prefix, "continuation") for path in continuation.samples]
    if given is not None:
        figures.insert(0, _figure(given, _prefix_size(given, 1.0), "given"))
    elif original.suffix == ".png":
        figures.insert(0, _figure(original, prefix, "prefix"))
    figures.append(_figure(original, prefix, "original"))
    return f'<div class="row">{"".join(figures)}</div>'


def _prefix_size(original: Path, keep: float) -> float:
    """Size of the prefix: bytes of text, frames of sound, share of a picture's height."""
    if original.suffix == ".png":
        return keep
    return (
        keep * soundfile.info(original).frames if original.suffix == ".wav" else round(keep * original.stat().st_size)
    )


def _figure(path: Path, prefix: float, caption: str) -> str:
    """One file inline, with its prefix in another colour."""
    show = {".png": _picture, ".wav": _player}.get(path.suffix, _text)
    note = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure class="{caption or "new"}">{show(path, prefix)}{note}</figure>'


def _picture(path: Path, prefix: float) -> str:
    return f'<img src="{_data_uri(path)}" alt="{html.escape(path.stem)}" style="--prefix-share:{100 * prefix:g}%">'


def _player(path: Path, prefix: float) -> str:
    sound = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1)
    wave = waveform(sound, prefix / max(1, len(sound)))
    return f'{wave}<audio controls preload="metadata" src="{_data_uri(path)}"></audio>'


def _text(path: Path, prefix: float) -> str:
    text = path.read_bytes()
    parts = (("prefix", text[: int(prefix)]), ("generated", text[int(prefix) :]))
    spans = (f'<span class="{kind}">{escaped(part)}</span>' for kind, part in parts)
    return f"<pre>{''.join(spans)}</pre>"


def _data_uri(path: Path) -> str:
    return f"data:{MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
