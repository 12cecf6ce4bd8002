"""The parts of a run's page that its folder alone tells: facts, curves, samples over time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from megabyte_mm.checkpoint import Bundle
from megabyte_mm.generation.continuation import SHEET
from megabyte_mm.plots.html_elements import PICTURES, SOUNDS, Budget, element
from megabyte_mm.plots.report_page import Plot, Samples, Shown
from megabyte_mm.training.run_folder import Points, Run, best_point, common_prefix_length, evenly_spaced

Metrics = Mapping[str, Points]

STEPS, PER_STEP = 6, 8
"""Validations whose samples are shown, and samples of each source that are shown of one."""
PART = "val/bpb/"


def facts(run: Run, metrics: Metrics, bundle: Bundle | None, data_path: str) -> list[tuple[str, str]]:
    """What the page begins with, as name and value; what is not known is left out."""
    told: dict[str, str] = {}
    if lowest := best_point(metrics.get("val/bpb", ())):
        told |= {"best val/bpb": f"{lowest[1]:.4f}", "reached at update": f"{lowest[0]:,}"}
    if metrics:
        told["updates"] = f"{max(points[-1][0] for points in metrics.values()):,}"
    if seen := metrics.get("train/bytes", ()):
        told["bytes trained on"] = f"{seen[-1][1]:,.0f}"
    if bundle is not None:
        told["model"] = bundle.config.name
        told["parameters"] = f"{sum(weight.numel() for weight in bundle.model.parameters()):,}"
        told["window"] = f"{bundle.window:,} bytes"
    if len(run.versions) > 1:
        told["started"] = f"{len(run.versions)} times"
    written = [path.stat().st_mtime for version in run.versions if (path := version / "metrics.csv").is_file()]
    if written:
        told["trained until"] = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(max(written)))
    told["data"] = data_path
    return [(name, value) for name, value in told.items() if value]


def plots(metrics: Metrics) -> list[Plot]:
    """The curves of what was logged."""
    # Matplotlib takes its time to import.
    from megabyte_mm.plots import bits_curves, metric_curve, style
    from megabyte_mm.plots.html_elements import inline_svg

    variables = {style.INK: "--soft", style.RULE: "--rule", style.TRAIN: "--other", style.VAL: "--model"}
    variables |= {color: f"--part-{number}" for number, color in enumerate(style.SOURCES)}
    found = []
    train, val = metrics.get("train/bpb", ()), metrics.get("val/bpb", ())
    if train or val:
        parts = {name.removeprefix(PART): its for name, its in metrics.items() if name.startswith(PART)}
        caption = "Bits per byte of training batches (strong: their running mean), and of validation."
        svg = inline_svg(bits_curves(train, val, parts), "bits", caption, variables)
        found.append(Plot(caption, svg, wide=True))
    rate = next((its for name, its in metrics.items() if name.startswith("lr-")), ())
    speed = metrics.get("train/bytes_per_s", ())
    for name, points, label, caption in (
        ("rate", rate, "learning rate", "Learning rate."),
        ("speed", speed, "bytes per second", "Speed of training; time spent validating does not count."),
    ):
        if points:
            found.append(Plot(caption, inline_svg(metric_curve(points, label), name, caption, variables)))
    return found


def samples(run: Run, metrics: Metrics, budget: Budget) -> tuple[list[Samples], list[str]]:
    """The samples of an even selection of validations, and what a reader should know of them."""
    steps = list(run.samples)
    chosen = [steps[index] for index in evenly_spaced(len(steps), STEPS)]
    if not chosen:
        return [], []
    val = dict(metrics.get("val/bpb", ()))
    sources = {step: dict(_sources(run.samples[step])) for step in chosen}
    given = _given([files for its in sources.values() for files in its.values()])
    found = []
    for step in chosen:
        told = f"val/bpb {val[step]:.4f}" if step in val else ""
        shown = [(source, _shown(files, given, budget)) for source, files in sources[step].items()]
        found.append(Samples(step, told, shown))
    return found, list(_remarks(len(steps), sources, given))


def _remarks(
    steps: int, sources: Mapping[int, Mapping[str, Sequence[Path]]], given: Mapping[str, int]
) -> Iterator[str]:
    yield "Continuations of validation files, as the run wrote them at its validations."
    if steps > len(sources):
        yield f"{len(sources)} of its {steps} validations are shown, evenly spread."
    files = [file for its in sources.values() for some in its.values() for file in some]
    if any(file.name == SHEET for file in files):
        yield "In a row of a sheet: what the model was given of a picture, what it made of it, and the original."
    if any(given.values()):
        yield "The grey beginning of a text is the same at all of these validations: it is what the model was given."


def _sources(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """The samples of each source of a mix, or under "" those of the only one: a sheet stands for its pictures."""
    here = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if here:
        sheet = [path for path in here if path.name == SHEET]
        yield "", sheet or here[:PER_STEP]
    for below in sorted(path for path in folder.iterdir() if path.is_dir()):
        yield from ((below.name, files) for _, files in _sources(below))


def _given(groups: Sequence[Sequence[Path]]) -> dict[str, int]:
    """File name with its folder's -> how many bytes all of its versions begin with alike, of texts."""
    versions: dict[str, list[bytes]] = {}
    for path in (path for files in groups for path in files if _kind(path) == "text"):
        versions.setdefault(_key(path), []).append(path.read_bytes())
    return {key: common_prefix_length(its) for key, its in versions.items()}


def _key(path: Path) -> str:
    return path.name if path.parent.name.startswith("step-") else f"{path.parent.name}/{path.name}"


def _shown(files: Sequence[Path], given: Mapping[str, int], budget: Budget) -> list[Shown]:
    return [
        Shown(
            path.name,
            element(path.read_bytes(), path.suffix, path.name, budget, given.get(_key(path), 0)),
            "sheet" if path.name == SHEET else _kind(path),
        )
        for path in files
    ]


def _kind(path: Path) -> str:
    return kind_of(path.suffix)


def kind_of(suffix: str) -> str:
    """image, audio or text, by the ending of a file's name: how it is laid out on the page."""
    return "image" if suffix.lower() in PICTURES else "audio" if suffix.lower() in SOUNDS else "text"
