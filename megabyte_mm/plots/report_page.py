"""The page of a run: plain HTML with its stylesheet inside, no script, nothing to load from anywhere.

Texts are escaped here. Elements and plots are markup already: `reports.media` and `plots.inline` make them.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STYLE = Path(__file__).with_name("report_page.css")
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
"""What a browser may load for the page: nothing but what is in it. Whatever slipped through could not run or call."""


@dataclass(frozen=True)
class Plot:
    """caption: what it shows. svg: markup."""

    caption: str
    svg: str
    wide: bool = False


@dataclass(frozen=True)
class Shown:
    """A file on the page. element: markup. kind: image, sheet (of pictures), audio or text: how it is laid out."""

    name: str
    element: str
    kind: str
    bits: float | None = None


@dataclass(frozen=True)
class CodecRow:
    """What a coder spends in bits per byte; None where it was not measured.

    each: every file by itself. joined: all files as one. note: its settings, or why it was left out. own: whether it is
    the model itself.
    """

    name: str
    note: str
    each: float | None
    joined: float | None = None
    own: bool = False


@dataclass(frozen=True)
class Files:
    """The validation files of one source. told: which they are. what: "files", or "passages" where these are pieces."""

    source: str
    told: str
    rows: Sequence[CodecRow]
    best: Sequence[Shown]
    worst: Sequence[Shown]
    what: str = "files"


@dataclass(frozen=True)
class Samples:
    """What was drawn at one validation. told: the figures then."""

    step: int
    told: str
    shown: Sequence[tuple[str, Sequence[Shown]]]
    """Source -> its samples."""


@dataclass(frozen=True)
class Page:
    """facts: name and value. notes: what is missing, and why. remarks: what a reader should know of the samples.

    settings: the complete config, as text.
    """

    title: str
    made: str
    notes: Sequence[str]
    plots: Sequence[Plot]
    files: Sequence[Files]
    samples: Sequence[Samples]
    facts: Sequence[tuple[str, str]] = ()
    remarks: Sequence[str] = ()
    measured: Sequence[str] = ()
    settings: str = ""


def render(page: Page) -> str:
    """The page as HTML, the same for equal pages."""
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
<main>{_curves(page)}{_files(page)}{_samples(page)}{_settings(page)}</main>
<footer><p>Made by megabyte-mm on <time>{html.escape(page.made)}</time>.</p></footer></body></html>
"""


def _curves(page: Page) -> str:
    figures = "".join(
        f'<figure class="{"wide" if plot.wide else "half"}">{plot.svg}<figcaption>{html.escape(plot.caption)}'
        "</figcaption></figure>"
        for plot in page.plots
    )
    return f'<section id="curves"><h2>Curves</h2><div class="plots">{figures}</div></section>' if figures else ""


def _files(page: Page) -> str:
    if not page.files:
        return ""
    measured = "".join(f"<li>{html.escape(line)}</li>" for line in page.measured)
    return f"""<section id="files"><h2>Beside other lossless coders</h2>
{"".join(_source_files(files) for files in page.files)}
<details><summary>How this was measured</summary><ul>{measured}</ul></details></section>"""


def _source_files(files: Files) -> str:
    heading = f"<h3>{html.escape(files.source)}</h3>" if files.source else ""
    ends = [(f"Best {files.what}", files.best), (f"Worst {files.what}", files.worst)]
    shown = "".join(
        f'<div class="end"><h4>{name} <span class="soft">bits per byte below each</span></h4>{_shown(its)}</div>'
        for name, its in ends
        if its
    )
    return f'<article>{heading}<p class="soft">{html.escape(files.told)}</p>{_table(files.rows)}{shown}</article>'


def _table(rows: Sequence[CodecRow]) -> str:
    """Each value has a bar, the highest all across."""
    measured = [row for row in rows if row.each is not None]
    longest = max((row.each or 0 for row in measured), default=0) or 1
    joined = any(row.joined is not None for row in rows)
    head = "<th scope='col'>coder</th><th scope='col' class='number'>each file by itself</th><th scope='col'></th>"
    head += "<th scope='col' class='number'>all files joined</th>" if joined else ""
    body = "".join(_row(row, longest, joined) for row in rows)
    return f"""<div class="scroll"><table><caption>Bits per byte; uncompressed is 8</caption>
<thead><tr>{head}<th scope="col" class="note">settings</th></tr></thead><tbody>{body}</tbody></table></div>"""


def _row(row: CodecRow, longest: float, joined: bool) -> str:
    bar = f'<i style="width:{100 * row.each / longest:.1f}%"></i>' if row.each is not None else ""
    cells = f'<td class="number">{_bits(row.each)}</td><td class="bar" aria-hidden="true">{bar}</td>'
    cells += f'<td class="number">{_bits(row.joined)}</td>' if joined else ""
    cells += f'<td class="note soft">{html.escape(row.note)}</td>'
    kind = ' class="own"' if row.own else ""
    return f'<tr{kind}><th scope="row">{html.escape(row.name)}</th>{cells}</tr>'


def _samples(page: Page) -> str:
    if not page.samples:
        return ""
    remarks = html.escape(" ".join(page.remarks))
    kinds = {its.kind for samples in page.samples for _, shown in samples.shown for its in shown}
    steps = "".join(map(_step, page.samples))
    return f"""<section id="samples"><h2>Samples over time</h2><p class="soft">{remarks}</p>
<div class="{"beside" if kinds == {"sheet"} else "below"}">{steps}</div></section>"""


def _step(samples: Samples) -> str:
    parts = "".join(
        (f"<h4>{html.escape(source)}</h4>" if source else "") + _shown(shown) for source, shown in samples.shown
    )
    told = f'<span class="soft">{html.escape(samples.told)}</span>' if samples.told else ""
    return f'<article class="step"><h3>update {samples.step:,} {told}</h3>{parts}</article>'


def _shown(shown: Sequence[Shown]) -> str:
    kind = shown[0].kind if shown else ""
    return f'<div class="shown {html.escape(kind)}">{"".join(map(_figure, shown))}</div>'


def _figure(shown: Shown) -> str:
    bits = "" if shown.bits is None else f"<b>{_bits(shown.bits)}</b> "
    caption = f"<figcaption>{bits}{html.escape(shown.name)}</figcaption>" if shown.kind != "sheet" else ""
    return f"<figure>{shown.element}{caption}</figure>"


def _settings(page: Page) -> str:
    if not page.settings:
        return ""
    return f"""<section id="settings"><h2>Settings</h2><details><summary>The complete config of the last start</summary>
<pre>{html.escape(page.settings)}</pre></details></section>"""


def _bits(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
