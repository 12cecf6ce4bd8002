"""The validation files that are continued, with their classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from data_adapters import Adapter, AudioAdapter, ByteStream, TextAdapter
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.data.files import classes_of
from megabyte_mm.data.module import ByteData
from megabyte_mm.data.records import Records
from megabyte_mm.evaluation.completion import words
from megabyte_mm.generation import FileRequest, cut_prefix, prefix_request


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


def open_cases(bundle: Bundle, path: str, count: int, keep: float, max_bytes: int | None) -> Cases:
    """Open a folder as `fit` does, and choose `count` evenly spaced validation files.

    max_bytes: used of each file that is not of a fixed size; by default one window, of sounds two seconds. Raises
    ValueError for data that the model's adapter cannot read, or that leave nothing to continue.
    """
    adapter = bundle.adapter
    data = ByteData(path, adapter, window=bundle.window)
    data.setup()
    val, train = data.val, data.train
    labels = classes_of([train.name(record) for record in range(len(train))] + [val.name(r) for r in range(len(val))])
    cases = []
    for number, record in enumerate(val.evenly_spaced(count)):
        stream, label = val.stream(record), labels[len(train) + record]
        if adapter.length_in(stream.format) is None:
            used = max_bytes or _default_bytes(adapter, stream, bundle.window)
            stream = ByteStream(adapter.cut_to_units(stream.data, used, adapter.unit_in(stream.format)), stream.format)
        condition = bundle.condition_number(label if label in bundle.conditions else None)
        stem = f"{number:04d}-{PurePosixPath(val.name(record)).stem}"
        if rest := len(stream.data) - len(cut_prefix(adapter, stream, keep)):
            request = prefix_request(adapter, stream, stem, bundle.window, keep, rest, condition=condition)
            cases.append(Case(request, label))
    if not cases:
        raise ValueError(f"{path}: no validation file leaves anything to continue")
    texts = [adapter.decode(train.read(r)) for r in range(len(train))] if isinstance(adapter, TextAdapter) else []
    return Cases(cases, train, labels[: len(train)], frozenset(words(texts)))


def _default_bytes(adapter: Adapter, stream: ByteStream, window: int) -> int:
    if isinstance(adapter, AudioAdapter):
        return 2 * int(stream.format["rate"]) * adapter.unit_in(stream.format)
    return window
