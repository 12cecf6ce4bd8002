"""`megabyte-mm score`: bits per byte of files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

from data_adapters import printable, write_atomically
from megabyte_mm.checkpoint import Bundle, load_model
from megabyte_mm.cli.arguments import pick_device
from megabyte_mm.cli.files import (
    MediaFile,
    Skipped,
    check_output,
    group_by_modality,
    make_folder,
    read_files,
    unique_stems,
)
from megabyte_mm.cli.score_records import score_folder
from megabyte_mm.cli.standard_streams import STANDARD, print_beside, write_json
from megabyte_mm.errors import DIVERGED, check_positive
from megabyte_mm.evaluation import (
    METHODS,
    Curves,
    FileResult,
    Method,
    Score,
    check_method,
    format_table,
    heatmap_files,
    score_streams,
    to_json,
    write_heatmap,
)
from megabyte_mm.progress import byte_progress

FIGURES = (".png", ".svg", ".pdf")


def score(
    checkpoint: str,
    path: Sequence[str],
    method: Sequence[str] = ("plain",),
    json: str | None = None,
    curves: str | None = None,
    heatmap: str | None = None,
    overwrite: bool = False,
    window: int | None = None,
    condition: str | None = None,
    batch_size: int = 16,
    device: str = "auto",
    adapter: str | None = None,
    precision: Literal["float32", "bf16-mixed"] = "float32",
) -> None:
    """Print the bits per byte of files under a model.

    Prints a line for each file, and the total. docs/evaluation.md explains the methods.

    Args:
        checkpoint: A checkpoint of a run, such as runs/image/best.ckpt, an exported folder, demo:image, or a hub id.
        path: Files, and folders with all files below them.
        method: How the model is read, one or several of plain, sliding, strided, sliding+strided, or all.
        json: A file for all figures; - prints them on stdout, and all else on stderr.
        curves: A picture (png, svg or pdf) of the mean bits by position in the patch and in the window.
        heatmap: A folder for a picture of each file with the bits of its pixels, samples, characters or bytes, and for
            text a page of HTML too, by the first of several methods.
        overwrite: Replace heatmaps of the same names.
        window: Bytes read at once; by default as in training.
        condition: The class of all files, for a model that was trained with classes; by default that of the nearest
            folder above each file with the name of a class, up to the given folder.
        batch_size: Windows read at the same time.
        device: auto, cpu, cuda, cuda:1, mps, ...
        adapter: Import path of your own adapter class, for a model that was trained with one.
        precision: bf16-mixed computes products in bfloat16, as training on a GPU does: faster there, and the last of
            three or four digits of a figure may differ.
    """
    check_positive(window=window, batch_size=batch_size)
    methods = _methods(method)
    _check_outputs(json, curves, heatmap)
    bundle = load_model(checkpoint, pick_device(device), adapter)
    if bundle.reads_records:
        if methods != ("plain",) or curves or window:
            raise ValueError("records of several parts are scored plain, without --curves and --window")
        if precision != "float32":
            raise ValueError("records of several parts are scored in float32, without --precision")
        if json == STANDARD:
            raise ValueError("--json -: scores of records of several parts are written to a file; name one")
        score_folder(bundle, path, condition, batch_size, json, heatmap, overwrite)
        return
    groups = group_by_modality(bundle, path, condition)
    windows = [window or selected.window for selected, _ in groups]
    stems = _heatmap_stems(Path(heatmap), groups, overwrite) if heatmap else {}
    sums = _curves(groups, windows, methods) if curves else {}
    results: dict[str, list[FileResult]] = {}
    skipped: Skipped = []
    for (selected, paths), size in zip(groups, windows, strict=True):
        for name in methods:
            check_method(name, selected.model, selected.adapter.unit)
        files, unread = read_files(selected, paths, size, condition)
        skipped += unread
        nats: dict[Path, dict[str, float]] = {file.path: {} for file in files}
        for name, file, file_score in _scores(selected, files, methods, size, batch_size, precision == "bf16-mixed"):
            nats[file.path][name] = file_score.total_nats
            if name in sums:
                sums[name].add(file_score)
            if heatmap and name == methods[0]:
                title = printable(file.path.name)
                write_heatmap(Path(heatmap), stems[file.path], selected.adapter, file.stream, file_score.bits, title)
        results[selected.modality_name] = [
            FileResult(str(file.path), len(file.stream.data), nats[file.path]) for file in files
        ]
    all_results = [result for group in results.values() for result in group]
    modalities = results if len(bundle.modalities) > 1 else None
    if all_results:
        print_beside(json, "\n".join(format_table(all_results, methods, modalities or {})))
    if json:
        header = {"checkpoint": checkpoint, "window": max(windows), "skipped": skipped}
        write_json(json, header | to_json(all_results, methods, sums or None, modalities))
    if curves:
        _plot(curves, sums)
    _check_complete(all_results, skipped)


def _methods(names: Sequence[str]) -> tuple[Method, ...]:
    """Return the methods in the given order, each once. Raises ValueError for an unknown name."""
    if "all" in names:
        return METHODS
    for name in names:
        if name not in METHODS:
            raise ValueError(f"--method {name}: known are {', '.join(METHODS)} and all")
    return cast("tuple[Method, ...]", tuple(dict.fromkeys(names)))


def _check_outputs(json: str | None, curves: str | None, heatmap: str | None) -> None:
    check_output("json", None if json == STANDARD else json)
    check_output("curves", curves)
    if curves is not None and Path(curves).suffix.lower() not in FIGURES:
        raise ValueError(f"--curves {curves}: the name must end in {', '.join(FIGURES)}")
    if heatmap is not None and Path(heatmap).exists() and not Path(heatmap).is_dir():
        raise ValueError(f"--heatmap {heatmap}: is a file; name a folder")


def _curves(
    groups: Sequence[tuple[Bundle, Mapping[Path, Path]]], windows: Sequence[int], methods: Sequence[Method]
) -> dict[str, Curves]:
    """Empty sums by method. Raises ValueError for modalities whose patches or windows differ."""
    shapes = {(bundle.model.patch_size, window) for (bundle, _), window in zip(groups, windows, strict=True)}
    if len(shapes) > 1:
        raise ValueError("--curves: patches and windows of these modalities differ; select one with --condition")
    return {name: Curves(*shapes.copy().pop()) for name in methods}


def _heatmap_stems(
    folder: Path, groups: Sequence[tuple[Bundle, Mapping[Path, Path]]], overwrite: bool
) -> dict[Path, str]:
    """Make the folder of heatmaps, and return the first part of their names, by file."""
    adapters = {file: bundle.adapter for bundle, paths in groups for file in paths}
    stems = dict(zip(adapters, unique_stems(f"--heatmap {folder}: PATH", list(adapters)), strict=True))
    files = [file for path, adapter in adapters.items() for file in heatmap_files(folder, stems[path], adapter)]
    make_folder("heatmap", folder, files, overwrite)
    return stems


def _scores(
    bundle: Bundle, files: Sequence[MediaFile], methods: Sequence[Method], window: int, batch_size: int, mixed: bool
) -> Iterator[tuple[Method, MediaFile, Score]]:
    """Yield the score of each file by each method, with a progress bar. Raises ValueError for a window of no units."""
    unit = bundle.adapter.common_unit(file.stream.format for file in files)
    if window % unit:
        nearest = max(round(window / unit), 1) * unit
        raise ValueError(f"a window of {window} bytes cuts units of {unit} bytes; choose one with --window {nearest}")
    streams = [(file.stream.data, file.condition) for file in files]
    with byte_progress(sum(len(data) for data, _ in streams) * len(methods), "scored") as on_bytes:
        for method in methods:
            arguments = (bundle.model, streams, window, unit, bundle.fixed_length, method, batch_size, on_bytes, mixed)
            for file, file_score in zip(files, score_streams(*arguments), strict=True):
                yield method, file, file_score


def _plot(file: str, curves: Mapping[str, Curves]) -> None:
    # Imported here because matplotlib takes long to import.
    from megabyte_mm.plots.scores import position_curves

    figure = position_curves({method: curve.plottable for method, curve in curves.items()})
    write_atomically(file, lambda temporary: figure.savefig(temporary, dpi=150))


def _check_complete(results: Sequence[FileResult], skipped: Skipped) -> None:
    """Raise ValueError where a file has no figure."""
    if lost := [result.path for result in results if not all(map(math.isfinite, result.nats.values()))]:
        raise ValueError(f"{lost[0]}: {DIVERGED}")
    if skipped:
        first = f"{skipped[0]['path']}: {skipped[0]['reason']}"
        raise ValueError(f"{len(skipped)} of {len(results) + len(skipped)} files could not be scored, such as {first}")
