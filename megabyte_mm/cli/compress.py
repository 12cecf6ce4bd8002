"""`megabyte-mm compress`: a model's bits per byte as files on disk."""

from __future__ import annotations

import json as json_text
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from data_adapters import load_class, printable, write_atomically
from megabyte_mm.checkpoint import Bundle, load_model
from megabyte_mm.cli.arguments import check_positive, pick_device
from megabyte_mm.cli.files import check_output, condition_from_folder
from megabyte_mm.compression.container import MODEL, SUFFIX, CodingSettings, Container
from megabyte_mm.compression.exact import is_whole_file
from megabyte_mm.compression.packing import (
    PackedFile,
    SourceFile,
    coding_settings,
    execution_of,
    pack_files,
    unpack_files,
    write_content,
)
from megabyte_mm.models import Execution
from megabyte_mm.progress import speedometer

SHORT = 16
"""Bytes of a block below which its last byte weighs more than the coder's precision."""
LONGEST_NAME = 255
"""Bytes of a file's name that all common file systems take."""


def compress(
    checkpoint: str,
    file: Sequence[str],
    out: str,
    condition: str | None = None,
    content_only: bool = False,
    batch_size: int = 64,
    device: str = "auto",
    backend: Literal["auto", "native", "eager"] = "auto",
    precision: Literal["float32", "bfloat16", "int8"] = "float32",
    adapter: str | None = None,
    json: str | None = None,
    check: bool = False,
    overwrite: bool = False,
) -> None:
    """Compress files with a model, without loss: `decompress` gives back every byte.

    One line for each file and the total are printed. docs/compression.md says what is kept, and what must be the same
    where it is read.

    Args:
        checkpoint: A checkpoint of a training run, such as runs/image/best.ckpt. It is needed again to decompress.
        file: Files, and folders with all that lies below them; files that the model does not know are taken as bytes.
        out: A folder, which receives a file for each, or a name that ends in .mbz, for one that holds all.
        condition: The class of all files, for a model that was trained with classes; by default that of the nearest
            folder above each file that bears the name of one, up to the given folder.
        content_only: Where a file cannot be made again from what is in it, keep the same pixels or samples, to be
            written as another file, and not its own bytes.
        batch_size: Windows coded at the same time. It changes the speed alone.
        device: auto, cpu, cuda, cuda:1, mps, ... It takes the same kind to decompress.
        backend: How steps are computed: native by C++ code that is built on first use (CPU alone), eager by torch's
            operations; auto takes native where it can be had.
        precision: Round weights to bfloat16 or int8, which are read faster than float32.
        adapter: Import path of your own adapter class, for a model that was trained with one.
        json: A file that receives all figures.
        check: Decompress all at once and compare, before anything is written. It takes twice the time.
        overwrite: Replace files of the same names.
    """
    check_positive(batch_size=batch_size)
    bundle = load_model(checkpoint, pick_device(device), load_class(adapter) if adapter else None)
    sources = _sources(bundle, file, condition)
    target = Path(out)
    targets = [target] if target.suffix == SUFFIX else [target / (source.name + SUFFIX) for source in sources]
    _check_targets(targets, overwrite)
    check_output("json", json)
    settings = coding_settings(bundle, Execution(backend, None if precision == "float32" else precision))
    packed: list[PackedFile] = []
    written = 0
    with speedometer(_total(sources), "compressed") as on_bytes:
        for group in _groups(sources, bundle.window * batch_size):
            made = pack_files(bundle, group, execution_of(settings), batch_size, content_only, on_bytes)
            if check:
                unpack_files(bundle, _container(settings, made), batch_size)
            if target.suffix != SUFFIX:
                for its in made:
                    written += _write(target / (its.entry.name + SUFFIX), settings, [its])
            packed += made
    if target.suffix == SUFFIX:
        written = _write(target, settings, packed)
    print("\n".join(_table(packed, written)))
    _tell_kept_whole(packed)
    if json:
        text = json_text.dumps({"checkpoint": checkpoint} | _figures(packed, written), indent=1) + "\n"
        write_atomically(json, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _sources(bundle: Bundle, paths: Sequence[str], condition: str | None) -> list[SourceFile]:
    """The files to compress. Raises ValueError for what does not exist, holds nothing, or would have a name twice."""
    found: dict[Path, tuple[Path, str]] = {}
    for given in map(Path, paths):
        if given.is_dir():
            found |= {file: (given, file.relative_to(given).as_posix()) for file in _below(given)}
        elif given.exists():
            found[given] = (given.parent, given.name)
        else:
            raise ValueError(f"{given}: no such file or folder")
    named: dict[str, Path] = {}
    for path, (_, name) in found.items():
        if name in named:
            raise ValueError(f"{path} and {named[name]} would both be called {name}: compress them one by one")
        named[name] = path
    return [_source(bundle, path, folder, name, condition) for path, (folder, name) in found.items()]


def _below(folder: Path) -> list[Path]:
    """All files below a folder, hidden ones too. Raises ValueError for what is none and would be lost in silence."""
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files.append(path)
        elif path.is_symlink() or not path.is_dir():
            raise ValueError(
                f"{path}: is no file but a pipe, a device, or a link to a folder or to nothing: take it out"
            )
    if not files:
        raise ValueError(f"{folder}: no file in it")
    return files


def _source(bundle: Bundle, path: Path, folder: Path, name: str, condition: str | None) -> SourceFile:
    """How a file is read: of a mix, by the modality that is asked for, or that knows its ending, or by the first."""
    if len(bundle.modalities) > 1:
        suffix = path.suffix.lower()
        readers = [one for one, its in bundle.modalities.items() if suffix in its.adapter.suffixes]
        modality = condition or next(iter([*readers, *bundle.modalities]))
        return SourceFile(path, name, modality, bundle.for_modality(modality).condition_number(None))
    number = condition_from_folder(bundle, path, folder) if condition is None else bundle.condition_number(condition)
    return SourceFile(path, name, next(iter(bundle.modalities)), number)


def _check_targets(targets: Sequence[Path], overwrite: bool) -> None:
    """Raise ValueError, before minutes of coding end in vain, for what could not be written."""
    for target in targets:
        if target.is_dir():
            raise ValueError(f"{target}: a folder of that name is in the way")
        above = next(folder for folder in target.absolute().parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise ValueError(f"--out {target}: nothing can be written in {above}")
        if len(os.fsencode(target.name)) > LONGEST_NAME:
            raise ValueError(f"--out {target}: too long a name; choose one that ends in {SUFFIX}, to hold all files")
        if target.exists() and not overwrite:
            raise ValueError(f"{target} exists already: choose another --out, or add --overwrite")


def _groups(sources: Sequence[SourceFile], enough: int) -> Iterator[list[SourceFile]]:
    """The files in groups that fill some batches: each is written before the next begins."""
    group: list[SourceFile] = []
    size = 0
    for source in sources:
        group.append(source)
        size += source.path.stat().st_size
        if size >= enough:
            yield group
            group, size = [], 0
    if group:
        yield group


def _total(sources: Sequence[SourceFile]) -> int:
    return sum(source.path.stat().st_size for source in sources)


def _container(settings: CodingSettings, packed: Sequence[PackedFile]) -> Container:
    return Container(
        settings, [its.entry for its in packed], [its.blocks for its in packed], [its.extra for its in packed]
    )


def _write(target: Path, settings: CodingSettings, packed: Sequence[PackedFile]) -> int:
    content = _container(settings, packed).pack()
    write_content(target, content)
    return len(content)


def _figures(packed: Sequence[PackedFile], written: int) -> dict[str, object]:
    files = [
        {
            "name": its.entry.name,
            "bytes": its.entry.size,
            "compressed": its.size,
            "read": sum(its.entry.lengths),
            "model_bytes": its.model_bytes,
            "model_nats": its.model_nats,
            "blocks": {kind: its.entry.kinds.count(kind) for kind in sorted(set(its.entry.kinds))},
            "recipe": its.entry.recipe["kind"],
            "whole_file": is_whole_file(its.entry.recipe),
        }
        for its in packed
    ]
    return {"written": written, "files": files}


def _table(packed: Sequence[PackedFile], written: int) -> Iterator[str]:
    """A line for each file and for all, and what the range coder adds to the model's own bits."""
    names = [printable(its.entry.name) for its in packed]
    wide = max(map(len, names))
    yield f"{'file':<{wide}}  {'bytes':>12}  {'compressed':>12}  {'bits per byte read':>18}"
    for name, its in zip(names, packed, strict=True):
        read = sum(its.entry.lengths)
        bits = f"{8 * its.size / read:.4f}" if read else "-"
        yield f"{name:<{wide}}  {its.entry.size:>12,}  {its.size:>12,}  {bits:>18}"
    size, read = sum(its.entry.size for its in packed), sum(sum(its.entry.lengths) for its in packed)
    bits = f"{8 * written / read:.4f}" if read else "-"
    yield f"{'all, headers too':<{wide}}  {size:>12,}  {written:>12,}  {bits:>18}"
    said, taken = sum(its.model_nats for its in packed) / math.log(2) / 8, sum(its.model_bytes for its in packed)
    blocks = sum(its.entry.kinds.count(MODEL) for its in packed)
    total = sum(len(its.entry.kinds) for its in packed)
    # A block of a few bytes may end up as none, and then a percentage says nothing.
    more = f" ({100 * (taken / said - 1):+.2f} %)" if taken > SHORT * blocks else ""
    yield f"{blocks} of {total} blocks by the model: {taken:,} bytes, {said:,.0f} by its own probabilities{more}"


def _tell_kept_whole(packed: Sequence[PackedFile]) -> None:
    """Say of which files something else is kept than what the model's training saw, or than the file."""
    bent = [its.entry for its in packed if not is_whole_file(its.entry.recipe)]
    if bent:
        told = f"{len(bent)} of {len(packed)} files, such as {printable(bent[0].name)}"
        print(f"{told}: kept by their content alone; another file will be written of it", file=sys.stderr)
    whole = [its.entry for its in packed if its.entry.recipe["kind"] == "bytes"]
    if whole:
        told = f"{len(whole)} of {len(packed)} files, such as {printable(whole[0].name)}"
        reason = "the model does not read them, cannot make them again, or would need more"
        print(f"{told}: kept as they lie there, since {reason}", file=sys.stderr)
