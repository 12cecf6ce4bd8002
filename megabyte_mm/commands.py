"""The commands that are not Lightning's. Signatures and docstrings are their command lines and help."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from data_adapters import Adapter, ByteStream, load_class
from megabyte_mm.checkpoint import Bundle, load_model
from megabyte_mm.generation import Request, Sampling, continue_all
from megabyte_mm.writing import Continuations, file_names, write_continuations


def samples(folder: str, seed: int = 0) -> None:
    """Make small pictures, melodies and texts to try everything on.

    Args:
        folder: Where images/, audio/ and text/ are put; a new or empty folder.
        seed: Other seeds make other pictures and melodies.
    """
    from megabyte_mm.samples import make_samples

    for name, count in make_samples(Path(folder), seed).items():
        print(f"{Path(folder, name)}: {count} files")


def generate(
    checkpoint: str,
    out: str,
    prefix: Sequence[str] = (),
    keep: float | None = None,
    length: int | None = None,
    num_samples: int = 4,
    condition: str | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    batch_size: int = 64,
    device: str = "auto",
    adapter: str | None = None,
    overwrite: bool = False,
) -> None:
    """Generate files from nothing, or continue files.

    Args:
        checkpoint: A checkpoint of a training run, such as runs/image/best.ckpt.
        out: The folder that receives the files, and for pictures a contact sheet.
        prefix: Files to continue; each gives its name to its continuations.
        keep: The share of each prefix file that is kept, cut at a pixel, frame or character: by default half of a
            picture, and all of anything else.
        length: Bytes drawn after each prefix; pictures are always drawn to their end, by default the rest one window.
        num_samples: Continuations of each prefix, or files from nothing.
        condition: The class to draw, for a model that was trained with classes.
        temperature: Below 1 safer, above 1 wilder, 0 always the likeliest byte.
        top_k: Draw among the k likeliest bytes only.
        top_p: Draw among the likeliest bytes that together hold this probability.
        seed: The same seed draws the same bytes.
        batch_size: Samples drawn at the same time.
        device: auto, cpu, cuda, cuda:1, mps, ...
        adapter: Import path of your own adapter class, for a model that was trained with one.
        overwrite: Replace files of the same names in `out`.
    """
    _check(num_samples=num_samples, batch_size=batch_size, length=length)
    bundle = load_model(checkpoint, _device(device), load_class(adapter) if adapter else None)
    sampling = Sampling(temperature, top_k, top_p, allow_end=not bundle.fixed_length)
    number = _condition(bundle, condition)
    streams = _read_prefixes(bundle.adapter, prefix) or [ByteStream(np.empty(0, np.uint8), _format(bundle))]
    stems = _stems(prefix) or ["sample"]
    kept = [_cut(bundle, stream, keep) if prefix else stream.data for stream in streams]
    requests = [
        Request(data, _length(bundle, stream, len(data), length), num_samples, number)
        for data, stream in zip(kept, streams, strict=True)
    ]
    for stem, stream in zip(stems, streams, strict=True):
        _refuse_existing(Path(out), file_names(stem, num_samples, bundle.adapter, stream.format), overwrite)
    total = sum(request.length * request.count for request in requests)
    with _speedometer(total) as on_bytes:
        drawn = continue_all(bundle.model, requests, sampling, seed, batch_size, on_bytes)
    made = [
        Continuations(stem, stream.format, data, rows, stream.data if prefix else None)
        for stem, stream, data, rows in zip(stems, streams, kept, drawn, strict=True)
    ]
    for file in write_continuations(Path(out), bundle.adapter, made):
        print(file)


def _check(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"--{name} is {count}; it must be at least 1")


def _device(name: str) -> str:
    """`auto` is the first accelerator there is. Raises ValueError for one that this machine or torch lacks."""
    import torch

    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if found is None else found.type
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: not available here ({str(error).splitlines()[0]})") from error
    return name


def _condition(bundle: Bundle, name: str | None) -> int:
    classes = ", ".join(bundle.conditions[1:])
    if name is None and classes:
        raise ValueError(f"this model was trained with classes; choose one with --condition: {classes}")
    if name is not None and name not in bundle.conditions:
        known = f"it knows {classes}" if classes else "it was trained without classes"
        raise ValueError(f"--condition {name}: unknown to this model; {known}")
    return 0 if name is None else bundle.conditions.index(name)


def _format(bundle: Bundle) -> dict[str, int | str]:
    try:
        return dict(bundle.adapter.default_format())
    except ValueError as error:
        raise ValueError(f"nothing says what a file from nothing looks like: {error}; give a --prefix") from error


def _read_prefixes(adapter: Adapter, files: Sequence[str]) -> list[ByteStream]:
    """The files as streams; what reading had to convert is said on stderr."""
    streams = []
    for file in files:
        if adapter.suffixes and Path(file).suffix.lower() not in adapter.suffixes:
            known = " ".join(adapter.suffixes)
            raise ValueError(f"{file}: this model continues {adapter.name} files ({known})")
        stream = adapter.read(file)
        for note in stream.notes:
            print(f"{file}: {note}", file=sys.stderr)
        streams.append(stream)
    return streams


def _stems(files: Sequence[str]) -> list[str]:
    """The files' names without ending; where two are alike, with the folders that tell them apart."""
    stems = [Path(file).stem for file in files]
    if len(set(stems)) == len(stems):
        return stems
    whole = [Path(file).resolve().with_suffix("") for file in files]
    shared = os.path.commonpath([path.parent for path in whole])
    stems = ["_".join(path.relative_to(shared).parts) for path in whole]
    if len(set(stems)) < len(stems):
        raise ValueError("--prefix names a file twice, or two that differ in their ending only")
    return stems


def _cut(bundle: Bundle, stream: ByteStream, keep: float | None) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    share = (0.5 if bundle.adapter.whole else 1.0) if keep is None else keep
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"--keep is {share}; it must be between 0 and 1")
    return stream.data[: bundle.adapter.cut(stream.data, round(share * len(stream.data)))]


def _length(bundle: Bundle, stream: ByteStream, kept: int, asked: int | None) -> int:
    """How many bytes to draw: the rest of a picture, or what was asked for in whole units."""
    unit = bundle.adapter.unit
    if not bundle.adapter.whole:
        return -(-(asked or bundle.window) // unit) * unit
    rest = (len(stream.data) or bundle.window) - kept
    if kept + rest > bundle.window:
        raise ValueError(f"the prefix's picture has {kept + rest} bytes, and this model ends at {bundle.window}")
    if asked is not None and asked > rest:
        raise ValueError(f"--length {asked}: only {rest} bytes are left to the end of the picture")
    if rest == 0:
        raise ValueError("--keep leaves nothing to draw; choose a smaller share")
    return asked or rest


def _refuse_existing(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    existing = [name for name in names if (folder / name).exists()]
    if existing and not overwrite:
        raise ValueError(f"{folder / existing[0]} exists already; choose another --out, or add --overwrite")


@contextmanager
def _speedometer(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar with bytes a second where stderr is a terminal, and a closing line with the speed."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.completed:,.0f} of {task.total:,.0f} bytes"), TextColumn("{task.speed:,.0f} bytes/s")
    console = Console(stderr=True)
    began, drawn = time.perf_counter(), 0
    with Progress(BarColumn(), *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def on_bytes(count: int) -> None:
            nonlocal drawn
            drawn += count
            bar.update(task, completed=drawn)

        yield on_bytes
    seconds = time.perf_counter() - began
    print(f"drew {drawn:,} bytes in {seconds:.1f} s, {drawn / seconds:,.0f} bytes/s", file=sys.stderr)
