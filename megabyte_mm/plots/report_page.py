"""The page of a run: plain HTML with its stylesheet inside, no script, nothing to load from anywhere.

Texts are escaped here. Elements and SVGs are markup already, made in `html_elements`.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STYLE = Path(__file__).with_name("report_page.css")
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
"""Browsers load nothing for the page but what is in it, and run no script even if one slipped through."""


@dataclass(frozen=True)
class Plot:
    """A figure of the run. svg: markup. wide: over the whole width."""

    caption: str
    svg: str
    wide: bool = False


@dataclass(frozen=True)
class FileFigure:
    """A file on the page. element: markup. kind: image, sheet (of pictures), audio or text, for the layout."""

    name: str
    element: str
    kind: str
    bits: float | None = None


@dataclass(frozen=True)
class CodecRow:
    """Bits per byte of a codec; None where not measured.

    note: its settings, or why it was left out. each: every file by itself. joined: all files as one. is_model: True
    for the run's model.
    """

    name: str
    note: str
    each: float | None
    joined: float | None = None
    is_model: bool = False


@dataclass(frozen=True)
class FileComparison:
    """The validation files of one source, by model and codecs.

    summary: number and size of the files. best, worst: `noun`, "files" or "passages" of them, with the lowest and the
    highest bits per byte.
    """

    source: str
    summary: str
    rows: Sequence[CodecRow]
    best: Sequence[FileFigure]
    worst: Sequence[FileFigure]
    noun: str = "files"


@dataclass(frozen=True)
class SampleGroup:
    """The samples of one source at one validation. summary: how close they are to the originals, "" where unknown."""

    source: str
    figures: Sequence[FileFigure]
    summary: str = ""


@dataclass(frozen=True)
class ValidationSamples:
    """The samples of one validation. caption: its figures. groups: samples by source."""

    step: int
    caption: str
    groups: Sequence[SampleGroup]


@dataclass(frozen=True)
class Page:
    """The content of the page.

    facts: name and value. notes: missing parts, and why. comparison_notes, sample_notes: explanations of
    these sections. config: the complete config, as text.
    """

    title: str
    date: str
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]
    plots: Sequence[Plot]
    comparisons: Sequence[FileComparison]
    comparison_notes: Sequence[str]
    samples: Sequence[ValidationSamples]
    sample_notes: Sequence[str]
    config: str


def render(page: Page) -> str:
    """Return the page as HTML; equal pages give equal HTML."""
    title = html.escape(page.title)
    facts = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>" for name, value in page.facts
    )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in page.notes)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{title} · megabyte-mm</title><style>{STYLE.read_text(encoding="utf-8")}</style></head><body>
<header><p class="kind">Report of a run</p><h1>{title}</h1>
<dl class="facts">{facts}</dl>{f'<ul class="notes">{notes}</ul>' if notes else ""}</header>
<main>{_curves(page)}{_comparisons(page)}{_samples(page)}{_config(page)}</main>
<footer><p>Made by megabyte-mm on <time>{html.escape(page.date)}</time>.</p></footer></body></html>
"""


def _curves(page: Page) -> str:
    figures = "".join(
        f'<figure class="{"wide" if plot.wide else "half"}">{plot.svg}<figcaption>{html.escape(plot.caption)}'
        "</figcaption></figure>"
        for plot in page.plots
    )
    return f'<section id="curves"><h2>Curves</h2><div class="plots">{figures}</div></section>' if figures else ""


def _comparisons(page: Page) -> str:
    if not page.comparisons:
        return ""
    notes = "".join(f"<li>{html.escape(line)}</li>" for line in page.comparison_notes)
    return f"""<section id="files"><h2>Compared with other lossless codecs</h2>
{"".join(map(_comparison, page.comparisons))}
<details><summary>How this was measured</summary><ul>{notes}</ul></details></section>"""


def _comparison(files: FileComparison) -> str:
    heading = f"<h3>{html.escape(files.source)}</h3>" if files.source else ""
    ends = [(f"Best {files.noun}", files.best), (f"Worst {files.noun}", files.worst)]
    shown = "".join(
        f'<div class="end"><h4>{name} <span class="soft">bits per byte below each</span></h4>{_figures(figures)}</div>'
        for name, figures in ends
        if figures
    )
    return f'<article>{heading}<p class="soft">{html.escape(files.summary)}</p>{_table(files.rows)}{shown}</article>'


def _table(rows: Sequence[CodecRow]) -> str:
    """Each value has a bar; the highest value's is full."""
    measured = [row for row in rows if row.each is not None]
    longest = max((row.each or 0 for row in measured), default=0) or 1
    joined = any(row.joined is not None for row in rows)
    head = "<th scope='col'>codec</th><th scope='col' class='number'>each file by itself</th><th scope='col'></th>"
    head += "<th scope='col' class='number'>all files joined</th>" if joined else ""
    body = "".join(_row(row, longest, joined) for row in rows)
    return f"""<div class="scroll"><table><caption>Bits per byte; uncompressed is 8</caption>
<thead><tr>{head}<th scope="col" class="note">settings</th></tr></thead><tbody>{body}</tbody></table></div>"""


def _row(row: CodecRow, longest: float, joined: bool) -> str:
    bar = f'<i style="width:{100 * row.each / longest:.1f}%"></i>' if row.each is not None else ""
    cells = f'<td class="number">{_bits(row.each)}</td><td class="bar" aria-hidden="true">{bar}</td>'
    cells += f'<td class="number">{_bits(row.joined)}</td>' if joined else ""
    cells += f'<td class="note soft">{html.escape(row.note)}</td>'
    kind = ' class="own"' if row.is_model else ""
    return f'<tr{kind}><th scope="row">{html.escape(row.name)}</th>{cells}</tr>'


def _samples(page: Page) -> str:
    if not page.samples:
        return ""
    notes = html.escape(" ".join(page.sample_notes))
    kinds = {figure.kind for samples in page.samples for group in samples.groups for figure in group.figures}
    steps = "".join(map(_step, page.samples))
    return f"""<section id="samples"><h2>Samples over time</h2><p class="soft">{notes}</p>
<div class="{"beside" if kinds == {"sheet"} else "below"}">{steps}</div></section>"""


def _step(samples: ValidationSamples) -> str:
    groups = "".join(map(_group, samples.groups))
    caption = f'<span class="soft">{html.escape(samples.caption)}</span>' if samples.caption else ""
    return f'<article class="step"><h3>update {samples.step:,} {caption}</h3>{groups}</article>'


def _group(group: SampleGroup) -> str:
    heading = f"<h4>{html.escape(group.source)}</h4>" if group.source else ""
    summary = f'<p class="soft">{html.escape(group.summary)}</p>' if group.summary else ""
    return heading + summary + _figures(group.figures)


def _figures(figures: Sequence[FileFigure]) -> str:
    kind = figures[0].kind if figures else ""
    return f'<div class="shown {html.escape(kind)}">{"".join(map(_figure, figures))}</div>'


def _figure(figure: FileFigure) -> str:
    bits = "" if figure.bits is None else f"<b>{_bits(figure.bits)}</b> "
    caption = f"<figcaption>{bits}{html.escape(figure.name)}</figcaption>" if figure.kind != "sheet" else ""
    return f"<figure>{figure.element}{caption}</figure>"


def _config(page: Page) -> str:
    if not page.config:
        return ""
    return f"""<section id="settings"><h2>Settings</h2><details><summary>The complete config of the last start</summary>
<pre>{html.escape(page.config)}</pre></details></section>"""


def _bits(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
