"""`megabyte-mm generate`: files without a prefix, and continuations of files."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Literal, NamedTuple

from data_adapters import ByteStream, TextAdapter
from megabyte_mm.checkpoint import Bundle, check_suffix, load_model, select_modality
from megabyte_mm.cli.arguments import pick_device
from megabyte_mm.cli.files import make_folder, unique_stems
from megabyte_mm.cli.generate_records import first_parts, generate_records, text_stems
from megabyte_mm.cli.live_text import LiveText
from megabyte_mm.cli.standard_streams import STANDARD, read_standard_input, write_standard_output
from megabyte_mm.errors import check_positive
from megabyte_mm.generation import (
    Continuations,
    FileRequest,
    GenerationInterrupted,
    SamplingParams,
    complete_units,
    empty_request,
    file_names,
    generate_continuations,
    num_truncated,
    prefix_request,
    write_continuations,
)
from megabyte_mm.models import Backend, Execution
from megabyte_mm.progress import byte_progress


class Prefix(NamedTuple):
    """What is continued, under its name in messages; stem: the first part of the names of its continuations."""

    name: str
    stem: str
    stream: ByteStream


def generate(
    checkpoint: str,
    out: str,
    prefix: Sequence[str] = (),
    text: Sequence[str] = (),
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
    guidance: float = 1.0,
    overwrite: bool = False,
) -> None:
    """Generate files without a prefix, or continue files.

    Prints the first text as it is generated, and the names of the files. Ctrl-C writes what is complete.

    Args:
        checkpoint: A checkpoint of a run, such as runs/image/best.ckpt, an exported folder, demo:image, or a hub id.
        out: The folder for the files, and for pictures a contact sheet, which replaces that of an earlier run. A single
            file goes to standard output with -.
        prefix: Files to continue; the continuations are named after them; - is standard input. For a model of records
            of several parts, their first parts, whatever follows is generated: captions make pictures. Files of two
            parts, as in --prefix a.txt half.png, are parts of one record.
        text: Texts to continue, or first parts of records, that are no files.
        keep: The share of each prefix file that is kept, cut at a pixel, frame or character: by default half of a
            picture, and all of anything else.
        length: Bytes generated after each prefix, rounded up to whole pixels or frames; by default the rest of a
            picture, and one window of anything else.
        num_samples: Continuations of each prefix, or files without a prefix.
        condition: The class to generate, for a model that was trained with classes; the modality, for one that was
            trained on several, unless the prefix files imply it; the part or order of parts to generate, for one that
            was trained on records of several parts.
        temperature: Below 1 safer, above 1 wilder, 0 always the likeliest byte.
        top_k: Sample among the k likeliest bytes only.
        top_p: Sample among the likeliest bytes that together have this probability.
        seed: The same seed generates the same bytes.
        window: Bytes in the model's context at most; by default as in training. Rotary positions allow more.
        batch_size: Samples generated at the same time.
        device: auto, cpu, cuda, cuda:1, mps, ...
        backend: How steps are computed: native by C++ code that is built on first use (CPU only), eager by torch's
            operations, compile by torch.compile; auto is the fastest that works here.
        precision: Round weights to bfloat16 or int8, which are read faster than float32.
        adapter: Import path of your own adapter class, for a model that was trained with one.
        guidance: Above 1, what follows the first part of a record follows it more closely. The model must have been
            trained with data.drop_part.
        overwrite: Replace files of the same names in `out`.
    """
    check_positive(num_samples=num_samples, batch_size=batch_size, length=length, window=window)
    if out == STANDARD:
        if num_samples > 1 or max(len(prefix), len(text)) > 1:
            raise ValueError("--out - takes one file: add --num_samples 1, and give one --prefix or --text at most")
        arguments = {name: value for name, value in locals().items() if name != "out"}
        write_standard_output(lambda folder: generate(out=folder, **arguments))
        return
    bundle = load_model(checkpoint, pick_device(device), adapter)
    execution = Execution(backend, None if precision == "float32" else precision)
    if bundle.reads_records:
        if unused := [name for name, value in {"length": length, "window": window}.items() if value is not None]:
            raise ValueError(f"--{unused[0]}: parts of records have lengths of their own: leave it out")
        sampling = SamplingParams(temperature, top_k, top_p)
        options = {"seed": seed, "batch_size": batch_size, "guidance": guidance, "execution": execution}
        firsts = first_parts(bundle, prefix, text, condition)
        generate_records(bundle, Path(out), firsts, condition, keep, num_samples, overwrite, sampling, **options)
        return
    if guidance != 1.0:
        raise ValueError(f"--guidance {guidance}: is for models of records of several parts")
    bundle = select_modality(bundle, [file for file in prefix if file != STANDARD], condition)
    number, window = bundle.condition_number(condition), _check_window(bundle, window)
    if prefix or text:
        named = [*_read_prefixes(bundle, prefix), *_read_texts(bundle, text)]
        requests = _prefix_requests(bundle, named, window, keep, length, num_samples, number)
    else:
        requests = [_empty_request(bundle, window, keep, length, num_samples, number)]
    sampling = SamplingParams(temperature, top_k, top_p)
    names = [
        name for request in requests for name in file_names(request.stem, request.count, bundle.adapter, request.format)
    ]
    make_folder("out", Path(out), [Path(out, name) for name in names], overwrite)
    live = LiveText(sys.stdout) if isinstance(bundle.adapter, TextAdapter) else None
    total = sum(request.length * request.count for request in requests)
    try:
        with byte_progress(total, "generated", bar=live is None) as on_bytes, closing(live) if live else nullcontext():
            results = generate_continuations(
                bundle.model,
                bundle.adapter,
                requests,
                sampling,
                seed,
                batch_size=batch_size,
                on_bytes=on_bytes,
                window=window,
                execution=execution,
                on_first_row=live.write if live else _ignore,
            )
    except GenerationInterrupted as interrupt:
        _write(Path(out), bundle, complete_units(bundle.adapter, requests, interrupt.results))
        raise KeyboardInterrupt from None
    _write(Path(out), bundle, results)


def _check_window(bundle: Bundle, window: int | None) -> int:
    try:
        return bundle.model.check_length(window or bundle.window)
    except ValueError as error:
        raise ValueError(f"--window {window}: {error}") from error


def _empty_request(
    bundle: Bundle, window: int, keep: float | None, length: int | None, count: int, condition: int
) -> FileRequest:
    if keep is not None:
        raise ValueError("--keep is the share of a --prefix that is kept; add --prefix, or leave out --keep")
    try:
        bundle.adapter.default_format()
    except ValueError as error:
        raise ValueError(f"{error}; give a --prefix") from error
    return empty_request(bundle.adapter, "sample", window, length, count, condition)


def _read_prefixes(bundle: Bundle, files: Sequence[str]) -> Iterator[Prefix]:
    """Each file as a prefix; - is what comes from standard input. Prints conversions to stderr."""
    for file, stem in zip(files, unique_stems("--prefix", files), strict=True):
        if file == STANDARD:
            yield Prefix("stdin", "stdin", read_standard_input(bundle.adapter))
            continue
        if Path(file).is_dir():
            raise ValueError(f"{file}: is a folder; --prefix takes files")
        check_suffix(bundle.adapter, file)
        stream = bundle.adapter.read(file)
        for note in stream.notes:
            print(f"{file}: {note}", file=sys.stderr)
        yield Prefix(file, stem, stream)


def _read_texts(bundle: Bundle, texts: Sequence[str]) -> Iterator[Prefix]:
    """Each text as a prefix. Raises ValueError for a model of anything else."""
    if texts and not isinstance(bundle.adapter, TextAdapter):
        raise ValueError(f"--text: this model continues {bundle.adapter.name} files: give them as --prefix")
    for text, stem in zip(texts, text_stems(texts), strict=True):
        assert isinstance(bundle.adapter, TextAdapter)
        yield Prefix(text, stem, bundle.adapter.stream_of(text))


def _prefix_requests(
    bundle: Bundle,
    prefixes: Sequence[Prefix],
    window: int,
    keep: float | None,
    length: int | None,
    count: int,
    condition: int,
) -> list[FileRequest]:
    """Cut the prefixes; prints truncations to stderr."""
    decoder = bundle.model.decoder(1, capacity=window, execution=Execution("eager"))
    requests = []
    for name, stem, stream in prefixes:
        request = prefix_request(bundle.adapter, stream, stem, window, keep, length, count, condition)
        requests.append(request)
        size = len(request.prefix)
        truncated = 0 if bundle.adapter.single_window else num_truncated(size, decoder)
        if truncated:
            seen = f"only the last {size - truncated} of {size} bytes are seen: the window holds {window}"
            print(f"{name}: {seen}", file=sys.stderr)
    return requests


def _write(folder: Path, bundle: Bundle, results: Sequence[Continuations]) -> None:
    for file in write_continuations(folder, bundle.adapter, results) if results else []:
        print(file)


def _ignore(_: object) -> None:
    pass
