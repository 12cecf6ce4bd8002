"""The files of a run's path or paths: fetched, unpacked, found, and several paths as one data set."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from data_adapters.base import Adapter
from megabyte_mm.data.archives import unpacked
from megabyte_mm.data.files import Files, find_files
from megabyte_mm.data.splits import named_splits, split_called
from megabyte_mm.errors import FieldError

Paths = str | Sequence[str]
"""A folder, a file, a glob or a URL, or several of them."""


def path_text(paths: Paths) -> str:
    """The path or paths for a message."""
    return paths if isinstance(paths, str) else ", ".join(paths)


def collect_files(paths: Paths, adapter: Adapter | None, cache: Path) -> Files:
    """The files of a path, or of several as one data set. cache: for archives and files at a URL.

    The files of several paths are named by their split, their folders in it, and their path: those of a class are in
    one class, whatever path they come from, and files in no class folder are in one called as their path. Where some
    paths have splits, the files of the others train. Raises as `find_files`, and FieldError for paths of different
    modalities, and for a file in two of them.
    """
    if isinstance(paths, str):
        return _files_at(paths, adapter, cache)
    if not paths:
        raise FieldError("path", "is empty: give a folder, a file or a glob of media files")
    if len(set(paths)) < len(paths):
        raise FieldError("path", f"{path_text(paths)}: a path is given twice")
    each = [_files_at(path, adapter, cache) for path in paths]
    kinds = {files.adapter.name: path for files, path in zip(each, paths, strict=True)}
    if len(kinds) > 1:
        both = " and ".join(f"{path} ({kind})" for kind, path in kinds.items())
        raise FieldError("path", f": {both} are of different modalities: set `adapter`, or make each a source")
    with_texts = {files.texts is not None for files in each}
    if len(with_texts) > 1:
        raise FieldError("path", f"{path_text(paths)}: some hold documents (.jsonl, .csv), others texts: give one kind")
    origins = _merged(each, [_split_and_label(path) for path in paths])
    names = tuple(sorted(origins))
    texts = _Renamed(origins) if with_texts == {True} else None
    return Files(
        each[0].root,
        names,
        each[0].adapter,
        sum(files.unused for files in each),
        texts=texts,
        unread=sum((Counter(files.unread) for files in each), Counter()),
        paths=None if texts else _places(origins),
    )


def _files_at(path: str, adapter: Adapter | None, cache: Path) -> Files:
    """The files of one path, whose name stands in errors in place of that of its copy in the cache."""
    place = unpacked(path, cache)
    try:
        return find_files(place, adapter)
    except FieldError as error:
        reason = error.reason.replace(place, path)
        named = path in reason or reason.startswith(PurePosixPath(path).name)
        raise type(error)(error.field, reason if named else f"{path} {reason.removeprefix(': ')}") from error


def one_folder(paths: Paths, cache: Path) -> str:
    """The folder of records of several parts. Raises FieldError for several paths."""
    if not isinstance(paths, str):
        raise FieldError("data.path", f"{path_text(paths)}: records of several parts lie in one folder: give one path")
    return unpacked(paths, cache)


class _Renamed(Mapping[str, str]):
    """The texts of several data sets under their names in all of them."""

    def __init__(self, origins: Mapping[str, tuple[Files, str]]) -> None:
        self._origins = origins

    def __len__(self) -> int:
        return len(self._origins)

    def __iter__(self) -> Iterator[str]:
        return iter(self._origins)

    def __getitem__(self, name: str) -> str:
        files, own = self._origins[name]
        assert files.texts is not None
        return files.texts[own]


def _split_and_label(path: str) -> tuple[str, str]:
    """The split that a path is called as, or "", and what else it is called."""
    parts = PurePosixPath(path.rstrip("/")).parts or ("data",)
    name = parts[-1].partition(".")[0]
    split = split_called(name) or ""
    return split, parts[-2] if split and len(parts) > 1 else name


def _merged(each: Sequence[Files], called: Sequence[tuple[str, str]]) -> dict[str, tuple[Files, str]]:
    """By its name in the whole, the data set of each file and its name there. called: the split and label of each."""
    splits = [
        named_splits(files.names) or dict.fromkeys(files.names, split)
        for files, (split, _) in zip(each, called, strict=True)
    ]
    default = "train" if any(split for of_names in splits for split in of_names.values()) else ""
    origins: dict[str, tuple[Files, str]] = {}
    for files, of_names, (_, label) in zip(each, splits, called, strict=True):
        for own in itertools.chain([label], (f"{label}-{number}" for number in itertools.count(2))):
            names = {name: _name_in_whole(name, of_names[name], default, own) for name in files.names}
            if origins.keys().isdisjoint(names.values()):
                break
        origins |= {whole: (files, name) for name, whole in names.items()}
    return origins


def _name_in_whole(name: str, split: str, default: str, own: str) -> str:
    top, slash, below = name.partition("/")
    inside = PurePosixPath(below if slash and split and split_called(top) else name)
    return str(PurePosixPath(split or default) / inside.parent / own / inside.name)


def _places(origins: Mapping[str, tuple[Files, str]]) -> dict[str, Path]:
    """Where each file lies. Raises FieldError for a file under two names."""
    places = {name: files.path(own) for name, (files, own) in origins.items()}
    seen: set[Path] = set()
    for place in map(Path.resolve, places.values()):
        if place in seen:
            raise FieldError("path", f": {place} lies in two of the paths: give each file once")
        seen.add(place)
    return places
