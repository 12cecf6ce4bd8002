"""`megabyte-mm report`: a run as one HTML page."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from data_adapters import ADAPTERS, Adapter, printable, write_bytes
from megabyte_mm.checkpoint import Bundle, load_model
from megabyte_mm.cli.arguments import pick_device
from megabyte_mm.cli.files import check_output
from megabyte_mm.cli.report.run_page import key_facts, sample_sections, training_plots
from megabyte_mm.errors import ArgumentValueError, check_positive
from megabyte_mm.plots.html_elements import Budget
from megabyte_mm.plots.report_page import FileComparison, Page, render
from megabyte_mm.progress import byte_progress, format_bytes
from megabyte_mm.training.run_folder import Run, open_run, read_metrics

if TYPE_CHECKING:  # Lightning takes seconds to import
    from megabyte_mm.cli.config import RunConfig
    from megabyte_mm.cli.report.comparison import MeasurementSettings
    from megabyte_mm.cli.report.completions import Originals
    from megabyte_mm.data.module import ByteData

PAGE_BYTES, FILE_BYTES = 20 * 10**6, 3 * 10**6
"""Bytes of all embedded files together, and of a single one, at most."""


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
    """Build one self-contained HTML page of a run: curves, samples, and a comparison with other lossless codecs.

    docs/reports.md explains the page and how its figures are measured.

    Args:
        run: The folder of a run, such as runs/image.
        out: The page; report.html in that folder by default.
        data: The path of the data, where it differs from the run's config.
        checkpoint: The model to measure; by default best.ckpt of the run, or else last.ckpt.
        files: Validation files measured at most, of each modality, evenly spaced.
        megabytes: Bytes of them measured at most, in millions, of each modality.
        batch_size: Windows read at the same time.
        device: auto, cpu, cuda, cuda:1, mps, ...
    """
    check_positive(files=files, batch_size=batch_size)
    if not 0 < megabytes < math.inf:
        raise ArgumentValueError("megabytes", f"is {megabytes}; it must be a number above 0")
    opened_run = open_run(Path(run))
    target = Path(out) if out is not None else opened_run.folder / "report.html"
    check_output("out", target)
    from megabyte_mm.cli.report.comparison import NOTES, MeasurementSettings

    metrics, budget, notes = read_metrics(opened_run), Budget(PAGE_BYTES, FILE_BYTES), Notes()
    config = _read_config(opened_run, data, notes)
    settings = MeasurementSettings(
        files, round(megabytes * 10**6), batch_size, config.model.method if config else "plain"
    )
    bundle = _load_model(opened_run, checkpoint, config, pick_device(device), notes)
    open_data = _open_data(config, data, notes) if bundle and config else None
    comparisons = _compare(bundle, open_data, settings, budget, notes) if bundle and open_data else []
    originals = _originals(config, open_data) if config and open_data and opened_run.samples else {}
    samples, sample_notes = sample_sections(opened_run, metrics, budget, originals)
    if not metrics:
        notes.append("The run left no metrics.")
    if not samples:
        notes.append("The run left no samples.")
    if budget.refused:
        notes.append(f"{budget.refused} pictures or sounds are left out, to keep this page small.")
    page = Page(
        title=opened_run.folder.resolve().name,
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        facts=key_facts(opened_run, metrics, bundle, config.data.path if config else ""),
        notes=notes,
        plots=training_plots(metrics),
        comparisons=comparisons,
        comparison_notes=NOTES.format(method=settings.method).splitlines(),
        samples=samples,
        sample_notes=sample_notes,
        config=opened_run.config.read_text(encoding="utf-8", errors="replace") if opened_run.config else "",
    )
    text = render(page)
    write_bytes(target, text.encode(errors="replace"))
    print(f"{target}: {format_bytes(len(text))}")


class Notes(list[str]):
    """The page's notes on missing parts."""

    def warn(self, text: str) -> None:
        """Add a note in one line, and print it to stderr too."""
        self.append(printable(" ".join(text.split())))
        print(self[-1], file=sys.stderr)


def _read_config(run: Run, data_path: str | None, notes: Notes) -> RunConfig | None:
    """Read the run's config; None, with a note, for none that can be used. Raises ValueError for `data_path`."""
    from megabyte_mm.cli.config import read_config

    if run.config is None:
        notes.warn("The run has no config with the path of its data; no files were measured.")
        return None
    try:
        return read_config(str(run.config), data_path)
    except (OSError, ValueError) as error:
        if data_path is not None:
            raise ValueError(f"--data {data_path}: {error}") from error
        notes.warn(f"The run's config cannot be read; no files were measured: {error}")
        return None


def _load_model(run: Run, checkpoint: str | None, config: RunConfig | None, device: str, notes: Notes) -> Bundle | None:
    """Load the run's model; None, with a note, where it has none. Raises ValueError for `checkpoint`."""
    path = checkpoint if checkpoint is not None else run.checkpoint
    if path is None:
        notes.warn("The run has no checkpoint; no files were measured.")
        return None
    try:
        return load_model(path, device, _custom_adapter(config))
    except (OSError, ValueError) as error:
        if checkpoint is not None:
            raise
        notes.warn(f"The model cannot be loaded; no files were measured: {error}")
        return None


def _custom_adapter(config: RunConfig | None) -> type[Adapter] | None:
    """Return the user's own adapter class that the run was trained with, if any."""
    sources = config.data.settings.sources.values() if config else ()
    custom = [type(source.adapter) for source in sources if source.adapter and source.adapter.name not in ADAPTERS]
    return custom[0] if custom else None


def _open_data(config: RunConfig, data_path: str | None, notes: Notes) -> ByteData | None:
    """Open the run's data; None, with a note, where they are missing. Raises ValueError for `data_path`."""
    try:
        config.data.setup()
    except (OSError, ValueError, TypeError, ImportError) as error:
        if data_path is not None:
            raise ValueError(f"--data {data_path}: {error}") from error
        notes.warn(f"The data cannot be read; no files were measured: {error}; give their path with --data")
        return None
    return config.data


def _compare(
    bundle: Bundle, data: ByteData, settings: MeasurementSettings, budget: Budget, notes: Notes
) -> list[FileComparison]:
    """Compare the model with other codecs on each source's validation files; none, with a note, where that fails."""
    from megabyte_mm.cli.report.comparison import choose_files, compare_files, score_validation_files

    chosen = choose_files(data, bundle, settings)
    if not chosen:
        notes.warn("All validation files are empty; no files were measured.")
        return []
    try:
        with byte_progress(sum(files.num_bytes for files in chosen), "scored") as on_bytes:
            scores = [score_validation_files(bundle, files, settings, on_bytes) for files in chosen]
    except ValueError as error:
        notes.warn(f"No files were measured: {error}")
        return []
    return [compare_files(files, each, bundle.window, budget) for files, each in zip(chosen, scores, strict=True)]


def _originals(config: RunConfig, data: ByteData) -> dict[str, Originals]:
    """Return the validation files that the run's samples continue, by source."""
    from megabyte_mm.cli.report.completions import sample_originals

    return sample_originals(config.samples, data)
