"""`megabyte-mm generate`: files from nothing, and continuations of files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from data_adapters import TextAdapter, load_class
from megabyte_mm.checkpoint import Bundle, load_model
from megabyte_mm.cli.arguments import check_positive, pick_device
from megabyte_mm.cli.files import check_modality, select_modality, unique_stems
from megabyte_mm.cli.live_text import LiveText
from megabyte_mm.generation import (
    GenerationInterrupted,
    GenerationRequest,
    SamplingParams,
    generate_batch,
    num_truncated,
)
from megabyte_mm.generation.continuation import (
    Continuations,
    choose_length,
    cut_prefix,
    cut_to_units,
    file_names,
    write_continuations,
)
from megabyte_mm.models import Backend, Execution
from megabyte_mm.progress import speedometer


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
    window: int | None = None,
    batch_size: int = 64,
    device: str = "auto",
    backend: Backend = "auto",
    precision: Literal["float32", "bfloat16", "int8"] = "float32",
    adapter: str | None = None,
    overwrite: bool = False,
) -> None:
    """Generate files from nothing, or continue files.

    The first text is shown as it is drawn, and the files are named on stdout. Ctrl-C writes what there is.

    Args:
        checkpoint: A checkpoint of a training run, such as runs/image/best.ckpt, an exported folder, or a hub id.
        out: The folder that receives the files, and for pictures a contact sheet in place of that of the run before.
        prefix: Files to continue; each gives its name to its continuations.
        keep: The share of each prefix file that is kept, cut at a pixel, frame or character: by default half of a
            picture, and all of anything else.
        length: Bytes drawn after each prefix, rounded up to whole pixels or frames; by default the rest of a picture,
            and one window of anything else.
        num_samples: Continuations of each prefix, or files from nothing.
        condition: The class to draw, for a model that was trained with classes; the modality, for one that was trained
            on several, which files to continue tell too.
        temperature: Below 1 safer, above 1 wilder, 0 always the likeliest byte.
        top_k: Draw among the k likeliest bytes only.
        top_p: Draw among the likeliest bytes that together hold this probability.
        seed: The same seed draws the same bytes.
        window: Bytes that the model has in sight at most; by default as in training. Rotary positions allow more.
        batch_size: Samples drawn at the same time.
        device: auto, cpu, cuda, cuda:1, mps, ...
        backend: How steps are computed: native by C++ code that is built on first use (CPU alone), eager by torch's
            operations, compile by what torch.compile makes of them; auto takes native where it can be had, else eager.
        precision: Round weights to bfloat16 or int8, which are read faster than float32.
        adapter: Import path of your own adapter class, for a model that was trained with one.
        overwrite: Replace files of the same names in `out`.
    """
    check_positive(num_samples=num_samples, batch_size=batch_size, length=length, window=window)
    bundle = load_model(checkpoint, pick_device(device), load_class(adapter) if adapter else None)
    bundle = select_modality(bundle, prefix, condition)
    number = bundle.condition_number(condition)
    window = _window(bundle, window)
    starts = _read_prefixes(bundle, prefix, keep, window) if prefix else [_nothing(bundle, keep)]
    lengths = [choose_length(bundle.adapter, start, length, window) for start in starts]
    requests = [
        GenerationRequest(start.prefix, its, num_samples, number) for start, its in zip(starts, lengths, strict=True)
    ]
    known_size = all(bundle.adapter.length_in(start.format) is not None for start in starts)
    sampling = SamplingParams(temperature, top_k, top_p, allow_end=not known_size)
    names = [name for start in starts for name in file_names(start.stem, num_samples, bundle.adapter, start.format)]
    _prepare(Path(out), names, overwrite)
    live = LiveText(sys.stdout) if isinstance(bundle.adapter, TextAdapter) else None
    total, interrupted = sum(request.length * request.count for request in requests), False
    watch = _ignore if live is None else live.write
    execution = Execution(backend, None if precision == "float32" else precision)
    try:
        with speedometer(total, "drew", bar=live is None) as on_bytes, closing(live) if live else nullcontext():
            arguments = (bundle.model, requests, sampling, seed, batch_size, on_bytes, window)
            drawn = generate_batch(*arguments, execution, watch)
    except GenerationInterrupted as stop:
        drawn, interrupted = stop.results, True
    made = [replace(start, continuations=rows) for start, rows in zip(starts, drawn, strict=True)]
    if interrupted:
        made = [found for start in made if (found := _what_there_is(bundle, start)).continuations]
    for file in write_continuations(Path(out), bundle.adapter, made) if made else []:
        print(file)
    if interrupted:
        raise KeyboardInterrupt


def _window(bundle: Bundle, asked: int | None) -> int:
    try:
        return bundle.model.check_length(asked or bundle.window)
    except ValueError as error:
        raise ValueError(f"--window {asked}: {error}") from error


def _nothing(bundle: Bundle, keep: float | None) -> Continuations:
    if keep is not None:
        raise ValueError("--keep says how much of a --prefix is kept, and there is none")
    try:
        format = dict(bundle.adapter.default_format())
    except ValueError as error:
        raise ValueError(f"nothing says what a file from nothing looks like: {error}; give a --prefix") from error
    return Continuations("sample", format, np.empty(0, np.uint8), continuations=())


def _read_prefixes(bundle: Bundle, files: Sequence[str], keep: float | None, window: int) -> list[Continuations]:
    """What is kept of each file, and nothing drawn yet. What was converted, or cannot be seen, is said on stderr."""
    found: list[Continuations] = []
    sight = bundle.model.decoder(1, capacity=window, execution=Execution("eager"))
    try:
        stems = unique_stems(files)
    except ValueError as error:
        raise ValueError(f"--prefix {error}") from error
    for file, stem in zip(files, stems, strict=True):
        if Path(file).is_dir():
            raise ValueError(f"{file}: is a folder; --prefix takes files")
        check_modality(bundle.adapter, file)
        stream = bundle.adapter.read(file)
        found.append(start := cut_prefix(bundle.adapter, stream, stem, keep))
        kept = start.prefix
        left_out = 0 if bundle.adapter.single_window else num_truncated(len(kept), sight)
        seen = f"only the last {len(kept) - left_out} of {len(kept)} bytes are seen: the window holds {window}"
        for note in (*stream.notes, *([seen] if left_out else [])):
            print(f"{file}: {note}", file=sys.stderr)
    return found


def _prepare(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    """Make the folder, before minutes of drawing end in vain. Raises ValueError where it cannot take the files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {folder}: cannot be made a folder ({error.strerror})") from error
    existing = [name for name in names if (folder / name).exists()]
    if existing and not overwrite:
        raise ValueError(f"{folder / existing[0]} exists already; choose another --out, or add --overwrite")


def _what_there_is(bundle: Bundle, made: Continuations) -> Continuations:
    """Of continuations that Ctrl-C cut short, those that have something new, in whole units."""
    whole = [cut_to_units(bundle.adapter, data, len(data), made.format) for data in made.continuations]
    return replace(made, continuations=[data for data in whole if len(data) > len(made.prefix)])


def _ignore(_: object) -> None:
    pass
