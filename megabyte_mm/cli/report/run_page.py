"""The sections of a run's page that need only the run's folder: key facts, curves, samples over time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from megabyte_mm.checkpoint import Bundle
from megabyte_mm.generation import SHEET
from megabyte_mm.plots.html_elements import Budget, element, media_kind
from megabyte_mm.plots.report_page import FileFigure, Plot, SampleGroup, ValidationSamples
from megabyte_mm.training.run_folder import Metrics, Run, best_point, common_prefix_length, evenly_spaced

if TYPE_CHECKING:  # Lightning takes seconds to import
    from megabyte_mm.cli.report.completions import Originals

STEPS, PER_STEP = 6, 8
"""Validations whose samples are shown at most, and samples of each source at one validation."""
BY_SOURCE = "val/bpb/"
"""Prefix of the metrics of a single source."""


def key_facts(run: Run, metrics: Metrics, bundle: Bundle | None, data_path: str) -> list[tuple[str, str]]:
    """Return names and values for the top of the page; unknown values are left out."""
    facts: dict[str, str] = {}
    if lowest := best_point(metrics.get("val/bpb", ())):
        facts |= {"best val/bpb": f"{lowest[1]:.4f}", "reached at update": f"{lowest[0]:,}"}
    if metrics:
        facts["updates"] = f"{max(points[-1][0] for points in metrics.values()):,}"
    if trained := metrics.get("train/bytes", ()):
        facts["bytes trained on"] = f"{trained[-1][1]:,.0f}"
    if bundle is not None:
        facts["model"] = bundle.config.name
        facts["parameters"] = f"{bundle.model.num_parameters:,}"
        facts["window"] = f"{bundle.window:,} bytes"
    if len(run.versions) > 1:
        facts["started"] = f"{len(run.versions)} times"
    written = [path.stat().st_mtime for version in run.versions if (path := version / "metrics.csv").is_file()]
    if written:
        facts["trained until"] = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(max(written)))
    facts["data"] = data_path
    return [(name, value) for name, value in facts.items() if value]


def training_plots(metrics: Metrics) -> list[Plot]:
    """Return the curves of the logged metrics."""
    # Imported here because matplotlib takes long to import.
    from megabyte_mm.plots import bits_curves, metric_curve, style
    from megabyte_mm.plots.html_elements import inline_svg

    variables = {style.INK: "--soft", style.RULE: "--rule", style.TRAIN: "--other", style.VAL: "--model"}
    variables |= {color: f"--part-{number}" for number, color in enumerate(style.SOURCES)}
    plots = []
    train, val = metrics.get("train/bpb", ()), metrics.get("val/bpb", ())
    if train or val:
        sources = {
            name.removeprefix(BY_SOURCE): points for name, points in metrics.items() if name.startswith(BY_SOURCE)
        }
        caption = "Bits per byte of training batches (strong: their running mean), and of validation."
        svg = inline_svg(bits_curves(train, val, sources), "bits", caption, variables)
        plots.append(Plot(caption, svg, wide=True))
    rate = next((points for name, points in metrics.items() if name.startswith("lr-")), ())
    speed = metrics.get("train/bytes_per_s", ())
    for name, points, label, caption in (
        ("rate", rate, "learning rate", "Learning rate."),
        ("speed", speed, "bytes per second", "Speed of training; time spent validating does not count."),
    ):
        if points:
            plots.append(Plot(caption, inline_svg(metric_curve(points, label), name, caption, variables)))
    return plots


def sample_sections(
    run: Run, metrics: Metrics, budget: Budget, originals: Mapping[str, Originals]
) -> tuple[list[ValidationSamples], list[str]]:
    """Return the samples of evenly spaced validations, and notes for the reader.

    originals: the files that they continue, by source, as far as they are known.
    """
    steps = list(run.samples)
    chosen = [steps[index] for index in evenly_spaced(len(steps), STEPS)]
    if not chosen:
        return [], []
    val = dict(metrics.get("val/bpb", ()))
    files = {step: dict(_files_by_source(run.samples[step])) for step in chosen}
    prefix_lengths = _prefix_lengths([path for groups in files.values() for group in groups.values() for path in group])
    sections = []
    for step in chosen:
        caption = f"val/bpb {val[step]:.4f}" if step in val else ""
        groups = [
            SampleGroup(
                source,
                _figures(group, prefix_lengths, budget),
                originals[source].compare(run.samples[step] / source) if source in originals else "",
            )
            for source, group in files[step].items()
        ]
        sections.append(ValidationSamples(step, caption, groups))
    return sections, list(_notes(len(steps), sections, prefix_lengths))


def _notes(num_steps: int, sections: Sequence[ValidationSamples], prefix_lengths: Mapping[str, int]) -> Iterator[str]:
    yield "Continuations of validation files, as the run wrote them at its validations."
    if num_steps > len(sections):
        yield f"{len(sections)} of its {num_steps} validations are shown, evenly spaced."
    groups = [group for section in sections for group in section.groups]
    if any(figure.kind == "sheet" for group in groups for figure in group.figures):
        yield "A row of a sheet shows the prefix of a picture, its continuation, and the original."
    if any(prefix_lengths.values()):
        yield "The grey part of a text is the same at all of these validations: it is the prefix."
    if any(group.summary for group in groups):
        yield "Figures compare the generated parts with the originals."


def _files_by_source(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield the samples of each source, "" where there is only one: the sheet of pictures, the first of other files."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if files:
        sheet = [path for path in files if path.name == SHEET]
        yield "", sheet or files[:PER_STEP]
    for subfolder in sorted(path for path in folder.iterdir() if path.is_dir()):
        yield from ((subfolder.name, group) for _, group in _files_by_source(subfolder))


def _prefix_lengths(files: Sequence[Path]) -> dict[str, int]:
    """Return, for each name of a text, the bytes that its versions at all steps start with alike."""
    versions: dict[str, list[bytes]] = {}
    for path in files:
        if media_kind(path.suffix) == "text":
            versions.setdefault(_key(path), []).append(path.read_bytes())
    return {key: common_prefix_length(texts) for key, texts in versions.items()}


def _key(path: Path) -> str:
    return path.name if path.parent.name.startswith("step-") else f"{path.parent.name}/{path.name}"


def _figures(files: Sequence[Path], prefix_lengths: Mapping[str, int], budget: Budget) -> list[FileFigure]:
    return [
        FileFigure(
            path.name,
            element(path.read_bytes(), path.suffix, path.name, budget, prefix_lengths.get(_key(path), 0)),
            "sheet" if path.name == SHEET else media_kind(path.suffix),
        )
        for path in files
    ]
