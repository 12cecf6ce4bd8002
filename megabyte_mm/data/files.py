"""The files of a path: the adapter that reads them, their splits and their classes."""

from __future__ import annotations

import glob
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_adapters import TextAdapter, registry
from data_adapters.base import Adapter
from megabyte_mm.data.documents import Documents, holds_documents
from megabyte_mm.data.labels import Described
from megabyte_mm.data.splits import named_splits, split_called
from megabyte_mm.errors import FieldError, PathNotFoundError

_MAX_VISITS = 100
"""Ways that may lead a walk to one folder."""


@dataclass(frozen=True)
class Files:
    """The files of a data set: `path(name)` for each of `names`, which are sorted, unique, and written with '/'.

    root: what they lie in, for messages and as the name of the data set.
    """

    root: Path
    names: tuple[str, ...]
    adapter: Adapter
    unused: int = 0
    """Number of media files beside `train`, `val` and `test`, which belong to no split."""
    keys: Mapping[str, str] | None = None
    """By name, what all parts of one record share; None where records have one part."""
    texts: Mapping[str, str] | None = None
    """By name, texts that are no files, such as a column of a table; None for files."""
    unread: Mapping[str, int] = field(default_factory=dict)
    """By suffix, the number of files of the folder that the adapter does not read."""
    paths: Mapping[str, Path] | None = None
    """By name, where the file lies; None where that is `root / name`."""

    def path(self, name: str) -> Path:
        """Where a file lies."""
        return self.root / name if self.paths is None else self.paths[name]


def find_files(path: str, adapter: Adapter | None = None) -> Files:
    """The files of a folder (recursive, hidden ones ignored), of a glob, or one file, and the adapter that reads them.

    From a folder, the files whose suffix `adapter` knows are taken, all of them where it knows every suffix; a file or
    a glob is taken as written. Without an adapter the registry chooses it, and files of unknown suffixes are left out.
    Labels and lists in a folder become part of the names of its files, see `labels`.
    Raises PathNotFoundError for a missing path, FieldError for one without usable files or with mixed modalities.
    """
    if not path:
        raise FieldError("path", "is empty: give a folder, a file or a glob of media files")
    root, listed = _listing(path)
    described = Described(root, listed if local_path(path).is_dir() else ())
    names = described.without_sources(listed)
    adapter, chosen = _chosen(path, names, adapter)
    used = described.labelled(_in_splits(path, described.split(chosen)))
    paths = {name: root / file for name, file in sorted(used.items())}
    unused = len(chosen) - len(used)
    unread = Counter(map(_suffix, names)) - Counter(map(_suffix, chosen))
    if isinstance(adapter, TextAdapter) and holds_documents(paths):
        texts = Documents(paths)
        return Files(root, tuple(texts), adapter, unused=unused, texts=texts, unread=unread)
    return Files(root, tuple(paths), adapter, unused=unused, unread=unread, paths=paths)


def unread_by_all(files: Mapping[str, int], adapters: Iterable[Adapter]) -> dict[str, int]:
    """By suffix, the files that one source leaves out, without those that another reads."""
    known = {suffix for adapter in adapters for suffix in adapter.suffixes}
    return {suffix: count for suffix, count in sorted(files.items()) if suffix not in known}


def describe_unread(path: str, files: Mapping[str, int]) -> str:
    """A line such as: not read of photos/: 5 .cr2, 30 .heic."""
    return f"not read of {path}: " + ", ".join(f"{count} {suffix or 'of no suffix'}" for suffix, count in files.items())


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def is_url(path: str) -> bool:
    """True for a path outside this machine's file system."""
    return "://" in path and not path.startswith("file://")


def local_path(path: str) -> Path:
    """The path on this machine that a user means."""
    return Path(path.removeprefix("file://")).expanduser()


def _listing(path: str) -> tuple[Path, list[str]]:
    local = local_path(path)
    if local.is_dir():
        return local, [file.relative_to(local).as_posix() for file in walk(local)]
    if os.path.lexists(local):
        return local.parent, [local.name]
    # A folder that exists is no pattern, even if its name has brackets.
    above = next((parent for parent in local.parents if parent.exists()), Path(local.anchor))
    parts = local.relative_to(above).parts
    if not any(map(glob.has_magic, parts)):
        raise PathNotFoundError("path", f"{path}: no such file or folder")
    matches = glob.glob(str(Path(*parts)), root_dir=above, recursive=True)  # noqa: PTH207 (finds hidden files)
    root = above.joinpath(*itertools.takewhile(lambda part: not glob.has_magic(part), parts))
    files = [file for file in (above / match for match in matches) if not file.is_dir()]
    if not files:
        raise PathNotFoundError("path", f"{path}: the pattern matches no file")
    return root, sorted({file.relative_to(root).as_posix() for file in files})


def walk(folder: Path) -> Iterator[Path]:
    """Everything below a folder except folders themselves, in no order; hidden files are left out.

    Links are followed, also out of the folder, except to a folder that contains them. What cannot be read (broken
    links, pipes) is listed like any file, so that its reader reports the reason. Raises ValueError where links lead to
    one folder many times (each level of such folders would double the files), and for a folder of prepared data.
    """
    visits: Counter[tuple[int, int]] = Counter()
    pending: list[tuple[Path, frozenset[tuple[int, int]]]] = [(folder, frozenset())]
    while pending:
        current, ancestors = pending.pop()
        status = current.stat()
        inode = status.st_dev, status.st_ino
        if inode in ancestors:
            continue
        visits[inode] += 1
        if visits[inode] > _MAX_VISITS:
            target = current.resolve()
            raise ValueError(f"{folder}: more than {_MAX_VISITS} link paths lead to {target}; remove some links")
        with os.scandir(current) as scanned:
            entries = [entry for entry in scanned if not entry.name.startswith(".")]
        _refuse_prepared(current, {entry.name for entry in entries})
        for entry in entries:
            if Path(entry.path).is_dir():  # unlike entry.is_dir, False for a link to itself
                pending.append((Path(entry.path), ancestors | {inode}))
            else:
                yield Path(entry.path)


def _refuse_prepared(folder: Path, names: set[str]) -> None:
    """Raise ValueError for a folder of prepared data: its index would be read as text, and its shards as anything."""
    unfinished = "prepare.json" in names and b'"shard_bytes"' in (folder / "prepare.json").read_bytes()[:200]
    if unfinished or {"index.json", "shard-00000.bin"} <= names:
        raise ValueError(
            f"{folder}: holds prepared data, not files: give that folder itself as the path, finish it with "
            "megabyte-mm prepare, or move it elsewhere"
        )


def _chosen(path: str, names: Sequence[str], adapter: Adapter | None) -> tuple[Adapter, Sequence[str]]:
    """The adapter, or the one that the suffixes choose, and the files that it reads."""
    if adapter is None:
        adapter, names = _choose(names, path)
    elif local_path(path).is_dir() and adapter.suffixes:
        suffixes = tuple(adapter.suffixes)
        names = [name for name in names if name.lower().endswith(suffixes)]
        if not names:
            raise FieldError("path", f"{path}: no file of the {adapter.name} adapter ({', '.join(suffixes)}) in it")
    if not names:
        raise FieldError("path", f"{path}: no files in it")
    return adapter, names


def _choose(names: Sequence[str], path: str) -> tuple[Adapter, list[str]]:
    suffixes = Counter(map(_suffix, names))
    adapters: dict[str, Adapter] = {}
    for suffix in suffixes:
        try:
            adapters[suffix] = registry.adapter_for(f"file{suffix}")
        except ValueError:  # an unregistered suffix: a README, a label file
            continue
    modalities: Counter[str] = Counter()
    for suffix, adapter in adapters.items():
        modalities[adapter.name] += suffixes[suffix]
    if not modalities:
        seen = ", ".join(suffix or "no suffix" for suffix, _ in suffixes.most_common(5)) or "no files"
        raise FieldError("path", f"{path}: no adapter knows its files ({seen}): set `adapter`")
    if len(modalities) > 1:
        counts = ", ".join(f"{count} {name}" for name, count in modalities.most_common())
        raise FieldError("path", f"{path} holds several modalities ({counts}): set `adapter` to choose one")
    used = [name for name in names if _suffix(name) in adapters]
    return next(iter(adapters.values())), used


def _in_splits(path: str, files: Mapping[str, str]) -> Mapping[str, str]:
    """The files of the splits, all where there are none; their names begin where the splits do. files: by name."""
    used = named_splits(list(files))
    if not used and (only := _only_folder(files)) and named_splits([name.removeprefix(only) for name in files]):
        files = {name.removeprefix(only): file for name, file in files.items()}
        used = named_splits(list(files))
    if not used and (parent := _parent_of_splits(path, list(files))) is not None:
        inside = f"{parent}/"
        files = {name.removeprefix(inside): file for name, file in files.items() if name.startswith(inside)}
        used = named_splits(list(files))
    return {name: files[name] for name in used} if used else files


def _only_folder(files: Mapping[str, str]) -> str:
    """The folder, with its slash, in which all files lie; "" where there are several or none."""
    tops = {name.partition("/")[0] for name in files} if all("/" in name for name in files) else set()
    return f"{tops.pop()}/" if len(tops) == 1 else ""


def _parent_of_splits(path: str, names: Sequence[str]) -> str | None:
    """The folder that has splits below it, in which all files lie but those of no folder: media/images of media/.

    None where there is none. Raises FieldError for several, such as digits/train and letters/train: which of their
    folders are classes is not known.
    """
    below: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        folders = name.split("/")[:-1]
        depth = next((depth for depth, folder in enumerate(folders) if split_called(folder)), 0)
        if not depth and folders:
            return None
        if depth:
            below["/".join(folders[:depth])][str(split_called(folders[depth]))] = folders[depth]
    parents = [parent for parent, splits in sorted(below.items()) if "train" in splits and len(splits) > 1]
    if len(parents) == len(below) == 1:
        return parents[0]
    if parents:
        splits = below[parents[0]]
        other = splits.get("val") or splits["test"]
        raise FieldError(
            "path",
            f"{path}: {parents[0]}/{splits['train']} and {parents[0]}/{other} look like splits, and so do folders "
            f"elsewhere: give {path.rstrip('/')}/{parents[0]}, or move the folders of each split into one",
        )
    return None
