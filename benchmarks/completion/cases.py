"""The validation files that are continued, with their classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from data_adapters import Adapter, AudioAdapter, ByteStream, TextAdapter
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.data.module import ByteData
from megabyte_mm.data.records import Records
from megabyte_mm.data.splits import classes_of, named_splits
from megabyte_mm.evaluation.completion import words
from megabyte_mm.generation import FileRequest, cut_prefix, prefix_request
from megabyte_mm.training.callbacks import counts


@dataclass(frozen=True)
class Case:
    """A validation file to continue. label: its class folder, None for none."""

    request: FileRequest
    label: str | None

    @property
    def original(self) -> ByteStream:
        """The file, or the part of it that is used."""
        assert self.request.original is not None
        return ByteStream(self.request.original, self.request.format)


@dataclass(frozen=True)
class Cases:
    """Validation files, and all that the model was trained on.

    labels: the class of each training record. known_words: of training text, else empty.
    """

    val: list[Case]
    train: Records
    labels: list[str | None]
    known_words: frozenset[str]

    @property
    def classes(self) -> list[str]:
        """The classes of the training files, in alphabetical order."""
        return sorted({label for label in self.labels if label})

    @property
    def val_classes(self) -> list[str]:
        """The classes of the files that are continued, in alphabetical order."""
        return sorted({case.label for case in self.val if case.label})


def open_cases(bundle: Bundle, path: str, count: int, keep: float, max_bytes: int | None) -> Cases:
    """Open a folder with the split of the model's run, and choose `count` evenly spaced validation files.

    max_bytes: used of each file that is not of a fixed size; by default one window, of sounds two seconds. Raises
    ValueError for data that the model's adapter cannot read, whose split is unknown, or that leave nothing to continue.
    """
    adapter = bundle.adapter
    data = _open_data(bundle, path)
    val, train = data.val, data.train
    classes = classes_of(val.reader.keys)
    cases = []
    for number, record in enumerate(val.evenly_spaced(count)):
        stream, label = val.stream(record), classes[val.rows[record]]
        if adapter.length_in(stream.format) is None:
            used = max_bytes or _default_bytes(adapter, stream, bundle.window)
            stream = ByteStream(adapter.cut_to_units(stream.data, used, adapter.unit_in(stream.format)), stream.format)
        name = bundle.modality_name or label
        condition = bundle.conditions.index(name) if name in bundle.conditions else 0
        stem = f"{number:04d}-{PurePosixPath(val.name(record)).stem}"
        if rest := len(stream.data) - len(cut_prefix(adapter, stream, keep)):
            request = prefix_request(adapter, stream, stem, bundle.window, keep, rest, condition=condition)
            cases.append(Case(request, label))
    if not cases:
        raise ValueError(f"{path}: no validation file leaves anything to continue")
    texts = [adapter.decode(train.read(r)) for r in range(len(train))] if isinstance(adapter, TextAdapter) else []
    return Cases(cases, train, [classes[row] for row in train.rows], frozenset(words(texts)))


def _open_data(bundle: Bundle, path: str) -> ByteData:
    """Open a folder with the split of the model's run. Raises ValueError where the checkpoint does not determine it."""
    run = bundle.provenance
    data = ByteData(path, bundle.adapter, window=bundle.window, val_share=run.val_share or 0.5)
    data.setup()
    if "val" in named_splits(data.val.reader.keys).values():
        return data
    if run.val_share is None:
        raise ValueError(
            f"{path}: has no val folder, and the checkpoint does not hold data.val_share, by which its run split the "
            "files: put them into folders train and val as the run did"
        )
    split, of_run = {"train": counts(data.train), "val": counts(data.val)}, run.data.get(bundle.modality_name, {})
    if split != of_run:
        raise ValueError(
            f"{path}: has {_shown(split)}, but the checkpoint's run had {_shown(of_run)}: give the data of that run"
        )
    return data


def _shown(split: Mapping[str, Mapping[str, int]]) -> str:
    train, val = (
        "{files:,} files ({bytes:,} bytes)".format_map({"files": 0, "bytes": 0, **split.get(name, {})})
        for name in ("train", "val")
    )
    return f"{train} to train on and {val} to validate"


def _default_bytes(adapter: Adapter, stream: ByteStream, window: int) -> int:
    if isinstance(adapter, AudioAdapter):
        return 2 * int(stream.format["rate"]) * adapter.unit_in(stream.format)
    return window
