"""Which files a command is given, and what they hold; names for what is made of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_adapters import ADAPTERS, Adapter, ByteStream, MediaError
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.data.files import walk


def unique_stems(files: Sequence[str | Path]) -> list[str]:
    """The files' names without ending; where two are alike, with what tells them apart.

    First their folders, then the ending too, then a number. Raises ValueError where the same file is named twice.
    """
    stems = [Path(file).stem for file in files]
    if len(set(stems)) == len(files):
        return stems
    whole = [Path(file).absolute() for file in files]
    if len(set(whole)) < len(files):
        raise ValueError("names a file twice")
    shared = os.path.commonpath([path.parent for path in whole])
    parts = [path.relative_to(shared).parts for path in whole]
    stems = ["_".join((*folders, Path(name).stem)) for *folders, name in parts]
    if len(set(stems)) < len(files):
        stems = ["_".join((*folders, name.replace(".", "_"))) for *folders, name in parts]
    if len(set(stems)) < len(files):
        stems = [f"{number}_{stem}" for number, stem in enumerate(stems)]
    return stems


Skipped = list[dict[str, str]]


@dataclass(frozen=True)
class MediaFile:
    """A file as a model reads it; condition: the number of its class, 0 for none."""

    path: Path
    stream: ByteStream
    condition: int


def check_modality(adapter: Adapter, file: str) -> None:
    """Raise ValueError for a file that another adapter reads; one whose ending nobody knows may be tried."""
    suffix = Path(file).suffix.lower()
    if not adapter.suffixes or suffix in adapter.suffixes:
        return
    for other in ADAPTERS.values():
        if suffix in other.suffixes:
            known = " ".join(adapter.suffixes)
            raise ValueError(f"{file}: a file of {other.name}; this model reads {adapter.name} ({known})")


def group_by_modality(
    bundle: Bundle, paths: Sequence[str], condition: str | None
) -> list[tuple[Bundle, dict[Path, Path]]]:
    """The files of each of a model's modalities, as `find_files` gives them, with the model for that modality.

    condition: the modality of all files of a mix; left out, their endings tell. Raises ValueError as `find_files`.
    """
    if len(bundle.modalities) == 1 or condition is not None:
        chosen = select_modality(bundle, paths, condition)
        return [(chosen, find_files(chosen.adapter, paths))]
    files = [path for path in paths if not Path(path).is_dir()]
    asked = {name: [path for path in files if modality_of_file(bundle, path) == name] for name in bundle.modalities}
    found = []
    for folder in (path for path in paths if Path(path).is_dir()):
        readers = [name for name in bundle.modalities if _readable(bundle.for_modality(name).adapter, folder)]
        if not readers:
            raise ValueError(f"{folder}: no file of {', '.join(bundle.modalities)} in it")
        for name in readers:
            asked[name].append(folder)
    for name, its in asked.items():
        if its:
            found.append((bundle.for_modality(name), find_files(bundle.for_modality(name).adapter, its)))
    return found


def find_files(adapter: Adapter, paths: Sequence[str]) -> dict[Path, Path]:
    """The files among `paths`, and of the folders among them all files below that the adapter reads; each file once.

    With each file comes the folder by which it was named: the given one, or that of a file that was given itself.
    Raises ValueError for a path that does not exist, a file of another modality, and a folder with nothing to read.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if Path(path).is_dir():
            found |= dict.fromkeys(_below(adapter, path), Path(path))
        elif Path(path).exists():
            check_modality(adapter, path)
            found[Path(path)] = Path(path).parent
        else:
            raise ValueError(f"{path}: no such file or folder")
    return found


def _below(adapter: Adapter, folder: str) -> list[Path]:
    files = _readable(adapter, folder)
    if not files:
        known = f" ({' '.join(adapter.suffixes)})" if adapter.suffixes else ""
        raise ValueError(f"{folder}: no file of {adapter.name}{known} in it")
    return sorted(files)


def _readable(adapter: Adapter, folder: str) -> list[Path]:
    return [file for file in walk(Path(folder)) if not adapter.suffixes or file.suffix.lower() in adapter.suffixes]


def read_files(
    bundle: Bundle, paths: Mapping[Path, Path], window: int, condition: str | None = None
) -> tuple[list[MediaFile], Skipped]:
    """The files that can be read, and the others as {"path", "reason"}; what a user should hear is said on stderr.

    paths: as `find_files` gives them. condition: the class of all files; left out, each has that of the nearest
    folder that bears a class's name. Raises ValueError for a class that the model does not know.
    """
    every = None if condition is None else bundle.condition_number(condition)
    if bundle.modality_name:
        every = bundle.conditions.index(bundle.modality_name)
    files, skipped = [], []
    for path, named_by in paths.items():
        try:
            stream = _read(bundle, path, window)
        except MediaError as error:
            print(error, file=sys.stderr)
            skipped.append({"path": str(path), "reason": error.reason})
            continue
        files.append(MediaFile(path, stream, condition_from_folder(bundle, path, named_by) if every is None else every))
    _tell_converted(files)
    if every is None and len(bundle.conditions) > 1:
        _tell_without_class(bundle, files)
    return files, skipped


def condition_from_folder(bundle: Bundle, path: Path, named_by: Path) -> int:
    """The number of the class of the nearest folder above the file that bears its name, or 0 where none does.

    No folder above `named_by` counts: where a user keeps his files says nothing of what is in them.
    """
    for folder in path.absolute().parents:
        if folder.name in bundle.conditions:
            return bundle.conditions.index(folder.name)
        if folder == named_by.absolute():
            break
    return 0


def _read(bundle: Bundle, path: Path, window: int) -> ByteStream:
    stream = bundle.adapter.read(path)
    size = len(stream.data)
    if bundle.adapter.single_window and not bundle.fixed_length and size > window:
        raise MediaError(path, f"its {size} bytes do not fit into the window of {window}")
    return stream


def _tell_converted(files: Sequence[MediaFile]) -> None:
    converted = [file for file in files if file.stream.notes]
    if converted:
        first = f"{converted[0].path}: {converted[0].stream.notes[0]}"
        print(f"{len(converted)} of {len(files)} files were converted, such as {first}", file=sys.stderr)


def _tell_without_class(bundle: Bundle, files: Sequence[MediaFile]) -> None:
    without = [file for file in files if not file.condition]
    if without:
        which = f"{len(without)} of {len(files)} files, such as {without[0].path}"
        classes = ", ".join(bundle.conditions[1:])
        print(f"{which}: in no folder of a class ({classes}), and read without one", file=sys.stderr)


def check_output(option: str, file: str | os.PathLike[str] | None) -> None:
    """Raise ValueError, before minutes of work end in vain, for a file that could not be written; None is fine."""
    if file is not None and (Path(file).is_dir() or not Path(file).absolute().parent.is_dir()):
        raise ValueError(f"--{option} {file}: no file can be written there; name one in a folder that exists")


def select_modality(bundle: Bundle, files: Sequence[str], condition: str | None) -> Bundle:
    """The model for one modality: its only one, or of a mix that which --condition names, or which reads the files.

    Raises ValueError where neither tells.
    """
    if len(bundle.modalities) == 1:
        return bundle
    known = ", ".join(bundle.modalities)
    if condition is not None:
        if condition not in bundle.modalities:
            raise ValueError(f"--condition {condition}: unknown to this model; it knows {known}")
        return bundle.for_modality(condition)
    if not files:
        raise ValueError(f"this model was trained on several modalities; choose one with --condition: {known}")
    names = {file: modality_of_file(bundle, file) for file in files}
    if len(set(names.values())) > 1:
        told = "; ".join(f"{name} reads {file}" for file, name in names.items())
        raise ValueError(f"these are files of several modalities: {told}; take those of one at a time")
    return bundle.for_modality(next(iter(names.values())))


def modality_of_file(bundle: Bundle, file: str) -> str:
    """The name of the modality of a mix that reads a file. Raises ValueError where none does, or several do."""
    suffix = Path(file).suffix.lower()
    names = [name for name, its in bundle.modalities.items() if suffix in its.adapter.suffixes]
    if len(names) != 1:
        told = f"{' and '.join(names)} read it" if names else "none reads it"
        raise ValueError(f"{file}: of this model's modalities, {', '.join(bundle.modalities)}, {told}; add --condition")
    return names[0]
