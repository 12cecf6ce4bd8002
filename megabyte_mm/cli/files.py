"""Input files of commands: their modality, class and content. Output files: their names, and checks before the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_adapters import Adapter, ByteStream, MediaError
from megabyte_mm.checkpoint import Bundle, check_suffix, modality_of_file, read_stream, select_modality
from megabyte_mm.data.files import walk
from megabyte_mm.errors import check_absent

Skipped = list[dict[str, str]]
"""{"path", "reason"} of each file that could not be read."""


@dataclass(frozen=True)
class MediaFile:
    """A file as the model's adapter reads it; condition: the number of its class, 0 for none."""

    path: Path
    stream: ByteStream
    condition: int


# Input files


def group_by_modality(
    bundle: Bundle, paths: Sequence[str], condition: str | None
) -> list[tuple[Bundle, dict[Path, Path]]]:
    """Return the model for each modality with its files, as `find_media` returns them.

    condition: the modality of all files of a mix; by default their suffixes decide. Raises ValueError as `find_media`.
    """
    if len(bundle.modalities) == 1 or condition is not None:
        selected = select_modality(bundle, paths, condition)
        return [(selected, find_media(selected.adapter, paths))]
    bundles = {name: bundle.for_modality(name) for name in bundle.modalities}
    grouped: dict[str, list[str]] = {name: [] for name in bundles}
    for file in (path for path in paths if not Path(path).is_dir()):
        grouped[modality_of_file(bundle, file)].append(file)
    for folder in (path for path in paths if Path(path).is_dir()):
        readers = [name for name, one in bundles.items() if _media_below(one.adapter, folder)]
        if not readers:
            raise ValueError(f"{folder}: no file of {', '.join(bundle.modalities)} in it")
        for name in readers:
            grouped[name].append(folder)
    return [(bundles[name], find_media(bundles[name].adapter, group)) for name, group in grouped.items() if group]


def find_media(adapter: Adapter, paths: Sequence[str]) -> dict[Path, Path]:
    """Return the files that the adapter reads, among `paths` and in the folders among them; each once.

    Returns {file: root}: the folder argument that contains the file, or the file's own folder. Raises ValueError for
    a path that does not exist, a file of another modality, and a folder with nothing to read.
    """
    roots: dict[Path, Path] = {}
    for path in paths:
        if Path(path).is_dir():
            files = _media_below(adapter, path)
            if not files:
                known = f" ({' '.join(adapter.suffixes)})" if adapter.suffixes else ""
                raise ValueError(f"{path}: no file of {adapter.name}{known} in it")
            roots |= dict.fromkeys(sorted(files), Path(path))
        elif Path(path).exists():
            check_suffix(adapter, path)
            roots[Path(path)] = Path(path).parent
        else:
            raise ValueError(f"{path}: no such file or folder")
    return roots


def _media_below(adapter: Adapter, folder: str) -> list[Path]:
    return [file for file in walk(Path(folder)) if not adapter.suffixes or file.suffix.lower() in adapter.suffixes]


def read_files(
    bundle: Bundle, paths: Mapping[Path, Path], window: int, condition: str | None = None
) -> tuple[list[MediaFile], Skipped]:
    """Read files, and return with them those that could not be read; prints these and conversions to stderr.

    paths: as of `find_media`. condition: the class of all files; by default each has that of the nearest folder with a
    class's name. Raises ValueError for a class that the model does not know.
    """
    shared = None if condition is None else bundle.condition_number(condition)
    if bundle.modality_name:
        shared = bundle.conditions.index(bundle.modality_name)
    files, skipped = [], []
    for path, root in paths.items():
        try:
            stream = read_stream(bundle.adapter, path, None if bundle.fixed_length else window)
        except MediaError as error:
            print(error, file=sys.stderr)
            skipped.append({"path": str(path), "reason": error.reason})
            continue
        number = bundle.condition_from_folder(path, root) if shared is None else shared
        files.append(MediaFile(path, stream, number))
    _warn_converted(files)
    if shared is None and len(bundle.conditions) > 1:
        _warn_without_class(bundle, files)
    return files, skipped


def _warn_converted(files: Sequence[MediaFile]) -> None:
    converted = [file for file in files if file.stream.notes]
    if converted:
        first = f"{converted[0].path}: {converted[0].stream.notes[0]}"
        print(f"{len(converted)} of {len(files)} files were converted, such as {first}", file=sys.stderr)


def _warn_without_class(bundle: Bundle, files: Sequence[MediaFile]) -> None:
    without = [file for file in files if not file.condition]
    if without:
        which = f"{len(without)} of {len(files)} files, such as {without[0].path}"
        classes = ", ".join(bundle.conditions[1:])
        print(f"{which}: not in a class folder ({classes}), so read without a class", file=sys.stderr)


# Output files


def check_output(option: str, file: str | os.PathLike[str] | None) -> None:
    """Raise ValueError for a file that cannot be written, before long work is lost; None is accepted."""
    if file is None:
        return
    target = Path(os.path.realpath(file))  # of a link, what it leads to
    if os.fspath(file).endswith("/") or target.is_dir() or target.is_symlink() or not target.parent.is_dir():
        raise ValueError(f"--{option} {file}: no file can be written there; name one in a folder that exists")


def make_folder(option: str, folder: Path, files: Iterable[Path], overwrite: bool) -> None:
    """Make the folder of an option. Raises ValueError where that fails, or one of its files exists already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--{option} {folder}: cannot create this folder ({error.strerror})") from error
    for file in files:
        check_absent(file, option, overwrite)


def unique_stems(option: str, files: Sequence[str | Path]) -> list[str]:
    """Return the files' names without suffix; where two are equal, with their folders, their suffixes, or a number.

    Raises ValueError where the same file is named twice.
    """
    stems = [Path(file).stem for file in files]
    if len(set(stems)) == len(files):
        return stems
    paths = [Path(file).absolute() for file in files]
    if len(set(paths)) < len(files):
        raise ValueError(f"{option} names a file twice")
    shared = os.path.commonpath([path.parent for path in paths])
    parts = [path.relative_to(shared).parts for path in paths]
    stems = ["_".join((*folders, Path(name).stem)) for *folders, name in parts]
    if len(set(stems)) < len(files):
        stems = ["_".join((*folders, name.replace(".", "_"))) for *folders, name in parts]
    if len(set(stems)) < len(files):
        stems = [f"{number}_{stem}" for number, stem in enumerate(stems)]
    return stems
