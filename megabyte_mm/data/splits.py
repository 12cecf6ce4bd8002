"""Splits and classes, read from the names of files."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from megabyte_mm.errors import FieldError

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""By the names of folders and files that people give to them, in lower case."""
_SPLIT_NAME = re.compile(rf"({'|'.join(SPLIT_NAMES)})(?:[_-]?(?:set|split|data))?(?:[_-]?\d{{4}})?")
"""Also train2017 and training_set."""


def split_called(name: str) -> str | None:
    """The split that a folder, or a file without its suffix, is called as: train of Train, train2017, training_set."""
    matched = _SPLIT_NAME.fullmatch(name.lower())
    return SPLIT_NAMES[matched[1]] if matched else None


def named_splits(names: Sequence[str]) -> dict[str, str]:
    """The split of each name by its folder or file name; empty where names define no splits.

    Folders and files are called as in SPLIT_NAMES, in any case: valid/a.png, Train/a.png, dev.txt. The names of files
    may have more words, as wiki.train.txt and wiki.valid.txt. They are splits where `train` and `val` exist, as
    folders or files, and where the folders `train` and `test` exist. Only folders in the second case: beside a
    train.py, a test.py is no test data; unless there are no other files at all.
    """
    splits = {name: split for name in names if (split := _split_of(name))}
    if not {"train", "val"} <= set(splits.values()):
        folders = {name: split for name, split in splits.items() if "/" in name}
        whole = splits if len(splits) == len(names) else folders
        splits = whole if {"train", "test"} <= set(whole.values()) else {}
    return splits or _splits_of_series(names)


def _split_of(name: str) -> str | None:
    """train/a.png and train.txt belong to the split `train`."""
    top, slash, _ = name.partition("/")
    return split_called(top if slash else PurePosixPath(top).stem)


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


def split_rows(names: Sequence[str], val_share: float, group: str | None = None) -> dict[str, list[int]]:
    """The indices into `names` of "train", "val" and "test"; test is val where there are no test files.

    The splits are those of `named_splits`. Without a "val", it is held out of "train", or of all names: a file is
    validation when the sha256 of its name, read as a number in [0, 1), is below `val_share`, so that new files move no
    old one. Should this leave a side empty, the file with the smallest number validates, or the file with the largest
    one trains. A lone file trains, and "val" stays empty.

    group: a regular expression that finds what files of one group share, as a speaker's name; the hash is then that of
    the group, and all its files are on one side. Raises FieldError as `_groups_of`, and for a group in several splits.
    """
    named = named_splits(names) or dict.fromkeys(names, "train")
    rows = {split: [i for i, name in enumerate(names) if named.get(name) == split] for split in SPLITS}
    groups = names if group is None else _groups_of(names, group)
    if group is not None:
        _check_apart(rows, groups)
    if not rows["val"]:
        rows["train"], rows["val"] = _held_out(groups, rows["train"], val_share)
    return {**rows, "test": rows["test"] or rows["val"]}


def _groups_of(names: Sequence[str], group: str) -> list[str]:
    """What the groups of the expression find in each name. Raises FieldError for one that finds nothing in a name."""
    try:
        expression = re.compile(group)
    except re.error as error:
        raise FieldError("group", f"{group!r} is no regular expression: {error}") from error
    if not expression.groups:
        raise FieldError("group", f"{group!r} has no part in parentheses, which finds the group: as in '_([a-z]+)_'")
    groups = []
    for name in names:
        matched = expression.search(name)
        if matched is None:
            raise FieldError("group", f"{group!r} finds nothing in {name}")
        groups.append("/".join(part or "" for part in matched.groups()))
    return groups


def _check_apart(rows: Mapping[str, Sequence[int]], groups: Sequence[str]) -> None:
    split_of: dict[str, str] = {}
    for split, chosen in rows.items():
        for group in sorted({groups[row] for row in chosen}):
            if split_of.setdefault(group, split) != split:
                raise FieldError("group", f": {group} has files in {split_of[group]} and in {split}: choose one split")
    if len(split_of) < 2:
        raise FieldError("group", f": all files are of one group, {next(iter(split_of), '')}, and cannot be split")


def _held_out(groups: Sequence[str], rows: Sequence[int], share: float) -> tuple[list[int], list[int]]:
    """The rows that train and those that validate. groups: of all rows; each is on one side."""
    numbers = {groups[row]: _number(groups[row]) for row in rows}
    order = sorted(numbers, key=numbers.__getitem__)
    held_out = set(order[: min(max(sum(number < share for number in numbers.values()), 1), len(order) - 1)])
    sides = [[row for row in rows if (groups[row] in held_out) is wanted] for wanted in (False, True)]
    return sides[0], sides[1]


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
