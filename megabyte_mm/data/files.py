"""The files of a path: the adapter that reads them, their splits and their classes."""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_adapters import TextAdapter, registry
from data_adapters.base import Adapter
from megabyte_mm.data.documents import Documents, holds_documents
from megabyte_mm.errors import FieldError, PathNotFoundError

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""By the names of folders and files that people give to them, in lower case."""
_MAX_VISITS = 100
"""Ways that may lead a walk to one folder."""


@dataclass(frozen=True)
class Files:
    """The files of a data set: `root / name` for each of `names`, which are sorted, unique, and written with '/'."""

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


def find_files(path: str, adapter: Adapter | None = None) -> Files:
    """The files of a folder (recursive, hidden ones ignored), of a glob, or one file, and the adapter that reads them.

    From a folder, the files whose suffix `adapter` knows are taken, all of them where it knows every suffix; a file or
    a glob is taken as written. Without an adapter the registry chooses it, and files of unknown suffixes are left out.
    Raises PathNotFoundError for a missing path, FieldError for one without usable files or with mixed modalities.
    """
    if not path:
        raise FieldError("path", "is empty: give a folder, a file or a glob of media files")
    root, names = _listing(path)
    suffixes_there = Counter(map(_suffix, names))
    if adapter is None:
        adapter, names = _choose(names, path)
    elif local_path(path).is_dir() and adapter.suffixes:
        suffixes = tuple(adapter.suffixes)
        names = [name for name in names if name.lower().endswith(suffixes)]
        if not names:
            raise FieldError("path", f"{path}: no file of the {adapter.name} adapter ({', '.join(suffixes)}) in it")
    if not names:
        raise FieldError("path", f"{path}: no files in it")
    unread = suffixes_there - Counter(map(_suffix, names))
    used: Collection[str] = named_splits(names)
    outside = 0
    if not used:
        parent = _parent_of_splits(path, names)
        if parent is not None:
            root /= parent
            inside = [name.removeprefix(f"{parent}/") for name in names if name.startswith(f"{parent}/")]
            outside, names = len(names) - len(inside), inside
        used = named_splits(names) or names
    unused = len(names) - len(used) + outside
    if isinstance(adapter, TextAdapter) and holds_documents(root, sorted(used)):
        texts = Documents(root, sorted(used))
        return Files(root, tuple(texts), adapter, unused=unused, texts=texts, unread=unread)
    return Files(root, tuple(sorted(used)), adapter, unused=unused, unread=unread)


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


def named_splits(names: Sequence[str]) -> dict[str, str]:
    """The split of each name by its folder or file name; empty where names define no splits.

    Folders and files are called as in SPLIT_NAMES, in any case: valid/a.png, Train/a.png, dev.txt. The names of files
    may have more words, as wiki.train.txt and wiki.valid.txt. They are splits where `train` and `val` exist, as
    folders or files, and where the folders `train` and `test` exist. Only folders in the second case: beside a
    train.py, a test.py is no test data.
    """
    splits = {name: split for name in names if (split := _split_of(name))}
    if not {"train", "val"} <= set(splits.values()):
        folders = {name: split for name, split in splits.items() if "/" in name}
        splits = folders if {"train", "test"} <= set(folders.values()) else {}
    return splits or _splits_of_series(names)


def _split_of(name: str) -> str | None:
    """train/a.png and train.txt belong to the split `train`."""
    top, slash, _ = name.partition("/")
    return SPLIT_NAMES.get((top if slash else PurePosixPath(top).stem).lower())


def split_in_words(name: str, splits: Mapping[str, str] = SPLIT_NAMES) -> str:
    """train of x_train and of train-000.tar; "" for a name of which no word, or several, are the name of a split."""
    words = [word for word in re.split(r"[._-]", name.lower()) if word in splits]
    return splits[words[0]] if len(words) == 1 else ""


def class_folder(label: str) -> str:
    """A label as the name of a folder: without slashes, and not hidden."""
    return re.sub(r"[/\\\0]|^\.", "_", label)


def _splits_of_series(names: Sequence[str]) -> dict[str, str]:
    """Splits of files whose names are alike but for the split and numbers: wiki.train.txt and wiki.valid.txt,
    train-00000-of-00002.txt and validation-00000-of-00001.txt.
    """
    series: dict[str, dict[str, str]] = defaultdict(dict)
    for name in (name for name in names if "/" not in name):
        words = re.split(r"([._-])", name.lower())
        places = [place for place, word in enumerate(words) if word in SPLIT_NAMES]
        if len(places) == 1:
            split = SPLIT_NAMES[words[places[0]]]
            words[places[0]] = "/"
            series[re.sub(r"\d+", "0", "".join(words))][name] = split
    whole = [splits for splits in series.values() if {"train", "val"} <= set(splits.values())]
    return {name: split for splits in whole for name, split in splits.items()}


def _parent_of_splits(path: str, names: Sequence[str]) -> str | None:
    """The folder that has splits below it, in which all files lie but those of no folder: media/images of media/.

    None where there is none. Raises FieldError for several, such as digits/train and letters/train: which of their
    folders are classes is not known.
    """
    below: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        folders = name.split("/")[:-1]
        depth = next((depth for depth, folder in enumerate(folders) if folder.lower() in SPLIT_NAMES), 0)
        if not depth and folders:
            return None
        if depth:
            below["/".join(folders[:depth])][SPLIT_NAMES[folders[depth].lower()]] = folders[depth]
    parents = [parent for parent, found in sorted(below.items()) if "train" in found and len(found) > 1]
    if len(parents) == len(below) == 1:
        return parents[0]
    if parents:
        found = below[parents[0]]
        other = found.get("val") or found["test"]
        raise FieldError(
            "path",
            f"{path}: {parents[0]}/{found['train']} and {parents[0]}/{other} look like splits, and so do folders "
            f"elsewhere: give {path.rstrip('/')}/{parents[0]}, or move the folders of each split into one",
        )
    return None


def split_rows(names: Sequence[str], val_share: float) -> dict[str, list[int]]:
    """The indices into `names` of "train", "val" and "test"; test is val where there are no test files.

    The splits are those of `named_splits`. Without a "val", it is held out of "train", or of all names: a file is
    validation when the sha256 of its name, read as a number in [0, 1), is below `val_share`, so that new files move no
    old one. Should this leave a side empty, the file with the smallest number validates, or the file with the largest
    one trains. A lone file trains, and "val" stays empty.
    """
    named = named_splits(names) or dict.fromkeys(names, "train")
    rows = {split: [i for i, name in enumerate(names) if named.get(name) == split] for split in SPLITS}
    if not rows["val"]:
        rows["train"], rows["val"] = _held_out(names, rows["train"], val_share)
    return {**rows, "test": rows["test"] or rows["val"]}


def _held_out(names: Sequence[str], rows: Sequence[int], share: float) -> tuple[list[int], list[int]]:
    numbers = {row: _number(names[row]) for row in rows}
    order = sorted(rows, key=numbers.__getitem__)
    count = min(max(sum(number < share for number in numbers.values()), 1), len(rows) - 1)
    return sorted(order[count:]), sorted(order[:count])


def _number(name: str) -> float:
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8]) / 2**64


def classes_of(names: Sequence[str]) -> list[str | None]:
    """The first folder of each name below its split, in Unicode's composed form (NFC), or None for a file in none.

    Some systems write an accent as a character of its own, and two spellings of one name would be two classes.
    """
    depth = 1 if named_splits(names) else 0
    folders = [name.split("/")[depth:-1] for name in names]
    return [unicodedata.normalize("NFC", below[0]) if below else None for below in folders]


def conditions_of(labels: Sequence[str | None], train: Sequence[int]) -> tuple[str, ...]:
    """("none", then the classes of the training files in alphabetical order): labels of all files, rows that train.

    Raises FieldError for no classes, and for a class that has no training file or is called "none".
    """
    classes = sorted({label for row in train if (label := labels[row])})
    if not classes:
        raise FieldError("classes", "is set, but no training file lies in a class folder: train/cat/1.png or cat/1.png")
    if "none" in classes:
        raise FieldError("classes", ': a class folder is called "none", the name of having no class: rename it')
    if unknown := sorted({label for label in labels if label} - set(classes)):
        raise FieldError("classes", f": no training file in the class {', '.join(unknown)}, which other files have")
    return ("none", *classes)
