"""Files on the disk to containers and back: which files, under which names, and every check before the coding."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath

from data_adapters import read_bytes, write_bytes
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.compression.container import MODEL, SUFFIX, CodingSettings, Container, Entry, unpack
from megabyte_mm.compression.packing import PackedFile, SourceFile, make_container, pack_files, unpack_files
from megabyte_mm.compression.recipes import is_whole_file
from megabyte_mm.compression.settings import check_settings
from megabyte_mm.errors import check_absent

MAX_NAME = 255
"""Bytes of a file's name that all common file systems accept."""

NamedContainer = tuple[str, Container]
"""A container and the path that it was read from."""


def find_sources(bundle: Bundle, paths: Sequence[str], condition: str | None) -> list[SourceFile]:
    """The files to compress, of folders all below. condition: the class, or the modality, of all files.

    Raises ValueError for a path that does not exist, an empty folder, and two files of one name.
    """
    roots: dict[Path, tuple[Path, str]] = {}
    for path in map(Path, paths):
        if path.is_dir():
            roots |= {file: (path, file.relative_to(path).as_posix()) for file in _files_below(path)}
        elif path.exists():
            roots[path] = (path.parent, path.name)
        else:
            raise ValueError(f"{path}: no such file or folder")
    by_name: dict[str, Path] = {}
    for path, (_, name) in roots.items():
        if name in by_name:
            raise ValueError(f"{path} and {by_name[name]} would both be stored as {name}: compress them one by one")
        by_name[name] = path
    return [_source(bundle, path, root, name, condition) for path, (root, name) in roots.items()]


def check_targets(sources: Sequence[SourceFile], out: Path, overwrite: bool) -> None:
    """Raise ValueError, before minutes of coding, for a container that could not be written."""
    for target in [out] if out.suffix == SUFFIX else [_target(out, source.name) for source in sources]:
        if target.is_dir():
            raise ValueError(f"{target}: a folder already has this name")
        parent = next(folder for folder in target.absolute().parents if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise ValueError(f"--out {target}: nothing can be written in {parent}")
        if len(os.fsencode(target.name)) > MAX_NAME:
            raise ValueError(f"--out {target}: too long a name; choose one that ends in {SUFFIX}, to hold all files")
        check_absent(target, "out", overwrite)


def compress_files(
    bundle: Bundle,
    sources: Sequence[SourceFile],
    out: Path,
    settings: CodingSettings,
    batch_size: int,
    content_only: bool = False,
    check: bool = False,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> tuple[list[PackedFile], int]:
    """Compress files into the container `out`, or into one for each in the folder `out`.

    check: decompress before writing. Returns the files, and how many bytes were written.
    """
    packed: list[PackedFile] = []
    written = 0
    for group in _groups(sources, bundle.window * batch_size):
        files = pack_files(bundle, group, settings, batch_size, content_only, on_bytes)
        if check:
            unpack_files(bundle, make_container(settings, files), batch_size)
        if out.suffix != SUFFIX:
            written += sum(_write_container(_target(out, file.entry.name), settings, [file]) for file in files)
        packed += files
    if out.suffix == SUFFIX:
        written = _write_container(out, settings, packed)
    return packed, written


def read_container(path: str) -> Container:
    """Read a container. Raises ValueError, naming the file, for any other or a damaged one."""
    content = read_bytes(path)
    try:
        return unpack(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def find_targets(containers: Sequence[NamedContainer], out: Path, overwrite: bool) -> list[list[Path]]:
    """The path of each file in each container. Raises ValueError for a name outside the folder, taken or twice."""
    taken: dict[Path, str] = {}
    targets = []
    for path, container in containers:
        targets.append([out / _relative_path(path, entry) for entry in container.entries])
        for target in targets[-1]:
            if target in taken:
                raise ValueError(
                    f"{path} and {taken[target]} both hold a {target.relative_to(out)}: take one at a time"
                )
            check_absent(target, "out", overwrite)
            taken[target] = path
    for target, path in taken.items():
        if target.is_dir() or set(target.parents) & set(taken):
            raise ValueError(f"{path}: holds a file {target.relative_to(out)}, which collides with a folder or a file")
    return targets


def check_containers(bundle: Bundle, containers: Sequence[NamedContainer], out: Path) -> None:
    """Raise ValueError if this model, this machine or the disk of `out` cannot restore the files."""
    for settings, path in {container.settings: path for path, container in containers}.items():
        try:
            check_settings(settings, bundle)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out}: is a file, not a folder")
    size = sum(entry.size for _, container in containers for entry in container.entries)
    folder = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(folder).free
    if size > free:  # a small container may claim to be enormous
        raise ValueError(f"{out}: decompression needs {size:,} bytes, and only {free:,} are free")


def coded_bytes(containers: Sequence[NamedContainer]) -> int:
    """The number of bytes that the model decodes."""
    entries = [entry for _, container in containers for entry in container.entries]
    pairs = [pair for entry in entries for pair in zip(entry.lengths, entry.kinds, strict=True)]
    return sum(length for length, kind in pairs if kind == MODEL)


def decompress_files(
    bundle: Bundle,
    containers: Sequence[NamedContainer],
    targets: Sequence[Sequence[Path]],
    batch_size: int,
    content_only: bool = False,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> Iterator[Path]:
    """Write the files of each container to its targets, and yield their paths.

    Raises ValueError, naming container and file, for a file that cannot be given back; then none of its container is
    written.
    """
    for (path, container), files in zip(containers, targets, strict=True):
        try:
            contents = unpack_files(bundle, container, batch_size, content_only, on_bytes)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        for target, content in zip(files, contents, strict=True):
            _write(target, content)
            yield target


def _files_below(folder: Path) -> list[Path]:
    """All files below a folder, hidden ones too. Raises ValueError for anything that would be left out."""
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files.append(path)
        elif path.is_symlink() or not path.is_dir():
            raise ValueError(
                f"{path}: is a pipe, a device, a broken link or a link to a folder; remove it from the folder"
            )
    if not files:
        raise ValueError(f"{folder}: no file in it")
    return files


def _source(bundle: Bundle, path: Path, root: Path, name: str, condition: str | None) -> SourceFile:
    """In a mix the modality is `condition`, else the first that reads files of this suffix, else the first of all."""
    if len(bundle.modalities) > 1:
        suffix = path.suffix.lower()
        readers = [name for name, modality in bundle.modalities.items() if suffix in modality.adapter.suffixes]
        modality = condition or next(iter([*readers, *bundle.modalities]))
        return SourceFile(path, name, modality, bundle.for_modality(modality).condition_number(None))
    number = bundle.condition_from_folder(path, root) if condition is None else bundle.condition_number(condition)
    return SourceFile(path, name, next(iter(bundle.modalities)), number)


def _groups(sources: Sequence[SourceFile], size: int) -> Iterator[list[SourceFile]]:
    """Groups of at least `size` bytes, which fill some batches: each is written before the next begins."""
    group: list[SourceFile] = []
    total = 0
    for source in sources:
        group.append(source)
        total += source.path.stat().st_size
        if total >= size:
            yield group
            group, total = [], 0
    if group:
        yield group


def _target(out: Path, name: str) -> Path:
    return out / (name + SUFFIX)


def _write_container(target: Path, settings: CodingSettings, files: Sequence[PackedFile]) -> int:
    content = make_container(settings, files).pack()
    _write(target, content)
    return len(content)


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, content)


def _relative_path(path: str, entry: Entry) -> Path:
    # As this system reads it: elsewhere a backslash or a colon may belong to a name.
    name = PurePath(entry.name)
    if name.anchor or not name.parts or ".." in name.parts or "\0" in entry.name:
        raise ValueError(f"{path}: holds a file named {entry.name!r}, which is outside --out")
    if is_whole_file(entry.recipe):
        return Path(name)
    # Content alone is written by the adapter: pictures as PNG, sounds in their container.
    suffix = ".png" if entry.recipe["kind"] == "tiles" else f".{entry.recipe.get('container', 'wav')}"
    return Path(name).with_suffix(suffix)
