"""A run's samples against the validation files that they continue."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_adapters import Adapter, MediaError, TextAdapter
from megabyte_mm.data.module import ByteData
from megabyte_mm.data.records import Records
from megabyte_mm.evaluation.completion import completion_figures, summary, words
from megabyte_mm.generation import FileRequest, file_names
from megabyte_mm.training.samples import SampleWriter

MAX_WORD_BYTES = 20 * 10**6
"""Bytes from the start of the training text whose words count as known."""


@dataclass(frozen=True)
class Originals:
    """The validation files of a source that a run continues, with their prefixes, and the words that it was trained on.

    known_words: empty for anything but text.
    """

    adapter: Adapter
    requests: Sequence[FileRequest]
    known_words: Collection[str]

    def compare(self, folder: Path) -> str:
        """Return the figures of the samples in a folder in a line; "" where none continues a known file.

        A sample that does not begin with the prefix is of other data or settings, and left out.
        """
        figures = []
        for request in self.requests:
            (name,) = file_names(request.stem, 1, self.adapter, request.format)
            try:
                sample = self.adapter.read(folder / name)
            except MediaError:
                continue
            length = len(request.prefix)
            if request.original is None or sample.data[:length].tobytes() != request.prefix.tobytes():
                continue
            if sample.format == request.format:
                known = self.known_words
                figures.append(
                    completion_figures(self.adapter, request.format, request.original, sample.data, length, known)
                )
        return summary([each for each in figures if each is not None])


def sample_originals(samples: SampleWriter, data: ByteData) -> dict[str, Originals]:
    """Return the files that a run with such settings continues at validations, by source."""
    originals = {}
    for (source, val, window), train in zip(data.opened.windowed("val"), data.records("train"), strict=True):
        requests = samples.requests(source, val, window)
        known = training_words(source.adapter, train, MAX_WORD_BYTES)
        originals[source.name] = Originals(source.adapter, requests, known)
    return originals


def training_words(adapter: Adapter, records: Records, max_bytes: int) -> set[str]:
    """Return the words of the first `max_bytes` of training text; none for anything but text."""
    known: set[str] = set()
    if isinstance(adapter, TextAdapter):
        for record in range(len(records)):
            data = records.read(record, 0, max_bytes)
            known |= words([adapter.decode(data)])
            max_bytes -= len(data)
            if max_bytes <= 0:
                break
    return known
