"""`megabyte-mm report`: a run as one HTML page."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from data_adapters import ADAPTERS, Adapter, MediaError, printable, write_atomically
from megabyte_mm.checkpoint import Bundle, load_model
from megabyte_mm.cli.arguments import check_positive, pick_device
from megabyte_mm.cli.files import check_output
from megabyte_mm.cli.report.run_page import Metrics, facts, kind_of, plots, samples
from megabyte_mm.evaluation.methods import Method
from megabyte_mm.plots.html_elements import Budget, element
from megabyte_mm.plots.report_page import CodecRow, Files, Page, Shown, render
from megabyte_mm.progress import speedometer
from megabyte_mm.training.run_folder import Run, open_run, read_metrics

if TYPE_CHECKING:  # Lightning takes seconds to import
    from megabyte_mm.cli.config import RunConfig
    from megabyte_mm.cli.report.validation import Piece, ValidationFiles
    from megabyte_mm.data.module import ByteData
    from megabyte_mm.evaluation.scoring import Score

PAGE_BYTES, FILE_BYTES = 20 * 10**6, 3 * 10**6
"""What all embedded files may take together, and a single one."""
ENDS = {"image": 6, "audio": 3, "text": 2}
"""Files that are shown of the best, and of the worst, by how they are shown."""


def report(
    run: str,
    out: str | None = None,
    data: str | None = None,
    checkpoint: str | None = None,
    files: int = 100,
    megabytes: float = 0.5,
    batch_size: int = 16,
    device: str = "auto",
) -> None:
    """Build one self-contained HTML page of a run: curves, samples, and its files beside other lossless coders.

    docs/reports.md says what is on it and how its figures are measured.

    Args:
        run: The folder of a run, such as runs/image.
        out: The page; report.html in that folder by default.
        data: Where the data lie, if they are no longer where the run's config says.
        checkpoint: The model that is measured; best.ckpt of the run, or else last.ckpt, by default.
        files: Validation files measured at most, of each modality, evenly spread.
        megabytes: Bytes of them measured at most, in millions, of each modality.
        batch_size: Windows read at the same time.
        device: auto, cpu, cuda, cuda:1, mps, ...
    """
    check_positive(files=files, batch_size=batch_size)
    if not megabytes > 0:
        raise ValueError(f"--megabytes is {megabytes}; it must be above 0")
    found = open_run(Path(run))
    target = Path(out) if out is not None else found.folder / "report.html"
    check_output("out", target)
    notes: list[str] = []
    metrics, budget = read_metrics(found), Budget(PAGE_BYTES, FILE_BYTES)
    config = _config(found, data, notes)
    method = config.model.method if config else "plain"
    bundle = _model(found, checkpoint, config, pick_device(device), notes)
    opened = _open(config, data, notes) if bundle is not None and config is not None else None
    measured: list[Files] = []
    if bundle is not None and opened is not None:
        limits = Limits(files, round(megabytes * 10**6), batch_size, method)
        measured = _measure(bundle, opened, limits, budget, notes)
    page = _page(found, metrics, measured, budget, notes)
    page = replace(page, facts=facts(found, metrics, bundle, config.data.path if config else ""), measured=_how(method))
    text = render(page)
    write_atomically(target, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="replace"))
    print(f"{target}: {len(text) / 1e6:.1f} MB")


class Limits(NamedTuple):
    """How files are measured: so many of each source, of so many bytes, by that method."""

    files: int
    bytes: int
    batch_size: int
    method: Method


def _page(run: Run, metrics: Metrics, measured: Sequence[Files], budget: Budget, notes: list[str]) -> Page:
    """The page without its facts."""
    shown, remarks = samples(run, metrics, budget)
    if not metrics:
        notes.append("The run left no metrics.")
    if not shown:
        notes.append("The run left no samples.")
    if budget.refused:
        notes.append(f"{budget.refused} pictures or sounds are left out, to keep this page small.")
    return Page(
        title=run.folder.resolve().name,
        made=time.strftime("%Y-%m-%d", time.gmtime()),
        notes=notes,
        plots=plots(metrics),
        files=measured,
        samples=shown,
        remarks=remarks,
        settings=run.config.read_text(encoding="utf-8", errors="replace") if run.config else "",
    )


def _config(run: Run, data_path: str | None, notes: list[str]) -> RunConfig | None:
    """The run's config; None, with a note, where there is none that can be used. Raises ValueError for --data then."""
    from megabyte_mm.cli.config import read_config

    if run.config is None:
        _note(notes, "The run kept no config, which would say where its data lie: no file is measured.")
        return None
    try:
        return read_config(str(run.config), data_path)
    except (OSError, ValueError) as error:
        if data_path is not None:
            raise ValueError(f"--data {data_path}: {error}") from error
        _note(notes, f"The run's config cannot be read, and no file is measured: {error}")
        return None


def _model(run: Run, checkpoint: str | None, config: RunConfig | None, device: str, notes: list[str]) -> Bundle | None:
    """The run's model; None, with a note, where it has none. Raises ValueError where `checkpoint` cannot be loaded."""
    path = Path(checkpoint) if checkpoint is not None else run.checkpoint
    if path is None:
        _note(notes, "The run has no checkpoint: no file is measured.")
        return None
    try:
        return load_model(path, device, _own_adapter(config))
    except (OSError, ValueError) as error:
        if checkpoint is not None:
            raise
        _note(notes, f"The model cannot be loaded, and no file is measured: {error}")
        return None


def _own_adapter(config: RunConfig | None) -> type[Adapter] | None:
    """The adapter class of the user's own that the run was trained with, if any."""
    sources = config.data.source_settings.values() if config else ()
    own = [type(source.adapter) for source in sources if source.adapter and source.adapter.name not in ADAPTERS]
    return own[0] if own else None


def _open(config: RunConfig, data_path: str | None, notes: list[str]) -> ByteData | None:
    """The run's data, open; None, with a note, where they are gone. Raises ValueError where --data cannot be used."""
    try:
        config.data.setup()
    except (OSError, ValueError, TypeError, ImportError) as error:
        if data_path is not None:
            raise ValueError(f"--data {data_path}: {error}") from error
        _note(notes, f"The data cannot be read, and no file is measured: {error}; say where they are with --data")
        return None
    return config.data


def _note(notes: list[str], told: str) -> None:
    line = printable(" ".join(told.split()))
    print(line, file=sys.stderr)
    notes.append(line)


def _measure(bundle: Bundle, data: ByteData, limits: Limits, budget: Budget, notes: list[str]) -> list[Files]:
    """Every source's validation files: scored, given to the other coders, the best and the worst of them shown."""
    from megabyte_mm.cli.report.validation import choose_files, score_validation_files

    chosen = [its for its in choose_files(data, bundle, limits.files, limits.bytes) if its.streams]
    if not chosen:
        _note(notes, "No validation file holds a byte: none is measured.")
        return []
    total = sum(len(stream.data) for its in chosen for stream in its.streams)
    try:
        with speedometer(total, "scored") as on_bytes:
            scores = [score_validation_files(bundle, its, limits.method, limits.batch_size, on_bytes) for its in chosen]
    except ValueError as error:
        _note(notes, f"No file is measured: {error}")
        return []
    return [_compared(its, scored, bundle.window, budget) for its, scored in zip(chosen, scores, strict=True)]


def _compared(files: ValidationFiles, scores: Sequence[Score], window: int, budget: Budget) -> Files:
    from megabyte_mm.cli.report.validation import codec_rows, pieces
    from megabyte_mm.evaluation.scoring import bits_per_byte

    model = CodecRow("this model", "its weights not counted", bits_per_byte(scores), own=True)
    rows = sorted([model, *codec_rows(files)], key=lambda row: (row.each is None, row.each or 0))
    found = pieces(files, scores, window)
    count = min(ENDS[kind_of(files.adapter.output_suffix)], len(found) // 2)
    best, worst = (
        [_shown(files.adapter, piece, budget) for piece in its] for its in (found[:count], found[::-1][:count])
    )
    what = "files" if len(found) == len(files.streams) else "passages"
    return Files(files.name, files.told, rows, best, worst, what)


def _shown(adapter: Adapter, piece: Piece, budget: Budget) -> Shown:
    from megabyte_mm.cli.report.validation import file_of

    try:
        content, suffix = file_of(adapter, piece.stream)
    except MediaError as error:
        content, suffix = error.reason.encode(), ""
    return Shown(piece.name, element(content, suffix, piece.name, budget), kind_of(suffix), piece.bits)


def _how(method: Method) -> list[str]:
    return HOW.format(method=method).splitlines()


HOW = """\
Every figure is bits over the same bytes: those that the model reads of these files, decoded. They are the pixels of \
a picture at the size that the run brings pictures to, the samples of a sound in the run's encoding, the bytes of a \
text.
The model's bits are the sum of -log2 of the probability of each byte, and of the end where a file ends inside a \
window, read by the method {method}. Its weights are not counted, and it has learned from other files of the same \
kind; the coders have not.
Each file is coded by itself, headers included, and the sizes are added up before they are divided. Small files are \
hard on coders that learn as they go, so those of bytes are given all files joined into one as well.
PNG, WebP and JPEG XL are given the pixels, FLAC the samples (8 bits each where the run's encoding is pcm8, else 16), \
and xz, zstd and brotli the bytes in the order in which the model reads them.
All coded files were decoded again and compared with what went in."""
"""One line for each remark."""
