"""`megabyte-mm score`: what files cost a model, in bits per byte."""

from __future__ import annotations

import json as json_text
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from data_adapters import Adapter, TextAdapter, load_class, printable, write_atomically
from megabyte_mm.checkpoint import Bundle, load_model
from megabyte_mm.cli.arguments import check_positive, pick_device
from megabyte_mm.cli.files import MediaFile, Skipped, check_output, group_by_modality, read_files, unique_stems
from megabyte_mm.evaluation.curves import Curves
from megabyte_mm.evaluation.files import common_unit
from megabyte_mm.evaluation.heatmaps import heatmap, split
from megabyte_mm.evaluation.methods import METHODS, Method, check_method
from megabyte_mm.evaluation.scoring import DIVERGED, Score, score_streams
from megabyte_mm.evaluation.table import FileResult, table, to_json
from megabyte_mm.progress import speedometer


@dataclass(frozen=True)
class Heatmaps:
    """A folder that receives the heatmaps of files. stems: begin the names of each file's heatmaps."""

    folder: Path
    stems: Mapping[Path, str]

    def write(self, adapter: Adapter, file: MediaFile, score: Score) -> None:
        """Write the heatmaps of one file, each whole or not at all; none where the model's output is not finite.

        Raises MediaError where the folder is full or not permitted.
        """
        bits = score.bits
        if not np.isfinite(bits).all():
            return
        name, stem = printable(file.path.name), self.stems[file.path]
        figure = heatmap(adapter, file.stream, bits, name)
        write_atomically(self.folder / f"{stem}.png", lambda temporary: figure.savefig(temporary))
        if isinstance(adapter, TextAdapter):
            from megabyte_mm.plots import text_page

            its, end = split(file.stream, bits)
            page = text_page(file.stream.data.tobytes(), its, name, end)
            write_atomically(self.folder / f"{stem}.html", lambda temporary: temporary.write_text(page, "utf-8"))


def prepare_heatmaps(folder: str, files: Mapping[Path, Adapter], overwrite: bool) -> Heatmaps:
    """The heatmaps of some files, with their folder made, before minutes of scoring end in vain.

    files: each with the adapter that reads it. Raises ValueError where the folder cannot be made, or holds one already.
    """
    try:
        stems = dict(zip(files, unique_stems(list(files)), strict=True))
    except ValueError as error:
        raise ValueError(f"--heatmap {folder}: PATH {error}") from error
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--heatmap {folder}: cannot be made a folder ({error.strerror})") from error
    for path, adapter in files.items():
        for suffix in (".png", ".html") if isinstance(adapter, TextAdapter) else (".png",):
            target = Path(folder) / f"{stems[path]}{suffix}"
            if target.exists() and not overwrite:
                raise ValueError(f"{target} exists already; choose another --heatmap, or add --overwrite")
    return Heatmaps(Path(folder), stems)


FIGURES = (".png", ".svg", ".pdf")

OnScore = Callable[[Method, MediaFile, Score], None]


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
) -> None:
    """Tell how many bits each byte of your files costs a model.

    One line for each file and the total are printed. docs/evaluation.md explains the methods.

    Args:
        checkpoint: A checkpoint of a training run, such as runs/image/best.ckpt, an exported folder, or a hub id.
        path: Files, and folders with all that lies below them.
        method: How the model is read, one or several of plain, sliding, strided, sliding+strided, or all.
        json: A file that receives all figures.
        curves: A picture (png, svg or pdf) that receives the mean bits by position in the patch and in the window.
        heatmap: A folder that receives a picture of each file with the bits of its pixels, samples, characters or
            bytes, and for text a page of HTML too; of several methods the first is drawn.
        overwrite: Replace heatmaps of the same names.
        window: Bytes read at once; by default what the model was trained on.
        condition: The class of all files, for a model that was trained with classes; by default that of the nearest
            folder above each file that bears the name of one, up to the given folder.
        batch_size: Windows read at the same time.
        device: auto, cpu, cuda, cuda:1, mps, ...
        adapter: Import path of your own adapter class, for a model that was trained with one.
    """
    check_positive(window=window, batch_size=batch_size)
    methods = _methods(method)
    _check_outputs(json, curves, heatmap)
    bundle = load_model(checkpoint, pick_device(device), load_class(adapter) if adapter else None)
    window = window or bundle.window
    places: dict[str, Curves] = {name: Curves(bundle.model.patch_size, window) for name in methods} if curves else {}
    costs: list[FileResult] = []
    parts: dict[str, list[FileResult]] = {}
    skipped: Skipped = []
    found = group_by_modality(bundle, path, condition)
    readers = {file: one.adapter for one, paths in found for file in paths}
    heatmaps = prepare_heatmaps(heatmap, readers, overwrite) if heatmap else None

    def on_score(method: Method, file: MediaFile, score: Score) -> None:
        if method in places:
            places[method].add(score)
        if heatmaps and method == methods[0]:
            heatmaps.write(readers[file.path], file, score)

    for one, paths in found:
        for name in methods:
            check_method(name, one.model, one.adapter.unit)
        files, unread = read_files(one, paths, window, condition)
        unit = _unit(one.adapter, files, window)
        parts[one.modality_name] = _measure(one, files, methods, window, unit, batch_size, on_score)
        costs += parts[one.modality_name]
        skipped += unread
    if costs:
        print("\n".join(table(costs, methods, parts if len(bundle.modalities) > 1 else {})))
    if json:
        about = {"checkpoint": checkpoint, "window": window, "skipped": skipped}
        figures = to_json(costs, methods, places or None, parts if len(bundle.modalities) > 1 else None)
        text = json_text.dumps(about | figures, indent=1, allow_nan=False) + "\n"
        write_atomically(json, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    if curves:
        _draw(curves, places)
    _refuse_gaps(costs, skipped)


def _methods(asked: Sequence[str]) -> tuple[Method, ...]:
    """The methods in the order that they were asked for. Raises ValueError for a name that there is not."""
    if "all" in asked:
        return METHODS
    for name in asked:
        if name not in METHODS:
            raise ValueError(f"--method {name}: known are {', '.join(METHODS)} and all")
    return cast("tuple[Method, ...]", tuple(dict.fromkeys(asked)))


def _refuse_gaps(costs: Sequence[FileResult], skipped: Skipped) -> None:
    """Raise ValueError where a file has no figure."""
    if lost := [cost.path for cost in costs if not all(map(math.isfinite, cost.nats.values()))]:
        raise ValueError(f"{lost[0]}: {DIVERGED}")
    if skipped:
        told = f"{skipped[0]['path']}: {skipped[0]['reason']}"
        raise ValueError(f"{len(skipped)} of {len(costs) + len(skipped)} files could not be scored, such as {told}")


def _check_outputs(json: str | None, curves: str | None, heatmap: str | None) -> None:
    """Raise ValueError, before minutes of scoring end in vain, for a file that could not be written."""
    check_output("json", json)
    check_output("curves", curves)
    if curves is not None and Path(curves).suffix.lower() not in FIGURES:
        raise ValueError(f"--curves {curves}: the name must end in {', '.join(FIGURES)}")
    if heatmap is not None and Path(heatmap).exists() and not Path(heatmap).is_dir():
        raise ValueError(f"--heatmap {heatmap}: is a file; name a folder")


def _unit(adapter: Adapter, files: Sequence[MediaFile], window: int) -> int:
    """Bytes that are whole units of every file. Raises ValueError where the window would cut through one."""
    unit = common_unit(adapter, [file.stream for file in files])
    if window % unit:
        nearest = max(round(window / unit), 1) * unit
        raise ValueError(f"a window of {window} bytes cuts units of {unit} bytes; choose one with --window {nearest}")
    return unit


def _measure(
    bundle: Bundle,
    files: Sequence[MediaFile],
    methods: Sequence[Method],
    window: int,
    unit: int,
    batch_size: int,
    on_score: OnScore,
) -> list[FileResult]:
    """What each file costs by every method, with a progress bar. on_score: hears each score; nobody keeps them."""
    streams = [(file.stream.data, file.condition) for file in files]
    nats: dict[str, list[float]] = {method: [] for method in methods}
    with speedometer(sum(len(data) for data, _ in streams) * len(methods), "scored") as on_bytes:
        for method in methods:
            arguments = (bundle.model, streams, window, unit, bundle.fixed_length, method, batch_size, on_bytes)
            for file, score in zip(files, score_streams(*arguments), strict=True):
                nats[method].append(score.total_nats)
                on_score(method, file, score)
    return [
        FileResult(str(file.path), len(file.stream.data), {method: nats[method][i] for method in methods})
        for i, file in enumerate(files)
    ]


def _draw(file: str, curves: Mapping[str, Curves]) -> None:
    # Matplotlib takes its time to import.
    from megabyte_mm.plots import position_curves

    figure = position_curves({method: its.plottable for method, its in curves.items()})
    write_atomically(file, lambda temporary: figure.savefig(temporary, dpi=150))
