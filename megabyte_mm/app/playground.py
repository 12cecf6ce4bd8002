"""A model with all that the playground does with it: from what a user gives to requests of the generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data_adapters import Adapter, AudioAdapter, ByteStream, ImageAdapter, TextAdapter
from megabyte_mm.app.limits import Limits, check_count, check_range
from megabyte_mm.app.reading import Reader
from megabyte_mm.checkpoint import Bundle, check_fits, check_suffix, select_modality
from megabyte_mm.errors import ArgumentValueError
from megabyte_mm.generation import (
    FileRequest,
    RecordRequest,
    SamplingParams,
    empty_request,
    find_order,
    order_of_given,
    part_of_file,
    prefix_request,
    record_request,
    text_part,
)

STEM = "sample"
"""First part of the names of generated files that continue no file."""


@dataclass(frozen=True)
class Job:
    """What a user asks for; the fields are those of `megabyte-mm generate`.

    file: its path on this machine. text: a typed text, "" for none. keep: the share of the file or text that is kept,
    by default as of `generate`. condition: "" where the file decides.
    """

    file: str | None = None
    text: str = ""
    condition: str = ""
    keep: float | None = None
    length: int | None = None
    count: int = 4
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    guidance: float = 1.0

    @property
    def sampling(self) -> SamplingParams:
        """Raises ArgumentValueError for a value outside its range."""
        check_range("temperature", self.temperature, 0.0, 10.0)
        check_range("top_p", self.top_p, 0.0, 1.0)
        return SamplingParams(float(self.temperature), None, float(self.top_p) if self.top_p < 1.0 else None)

    @property
    def stem(self) -> str:
        """First part of the names of the continuations."""
        return (Path(self.file).stem if self.file else "") or STEM

    @property
    def file_name(self) -> str:
        """The file's name, without the folder in which an upload lies; "text" for none."""
        return Path(self.file).name if self.file else "text"


@dataclass(frozen=True)
class Given:
    """What a user gave, as the model reads it. name: of its modality or part. kept: the bytes that are continued."""

    name: str
    adapter: Adapter
    stream: ByteStream
    kept: int


@dataclass
class Playground:
    """A model, its name, and the files to pick from, by the names that are shown."""

    bundle: Bundle
    name: str
    limits: Limits = field(default_factory=Limits)
    files: Mapping[str, Path] = field(default_factory=dict)
    reader: Reader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = Reader(self.limits)

    @property
    def adapters(self) -> list[Adapter]:
        """Those of all modalities."""
        return [modality.adapter for modality in self.bundle.modalities.values()]

    @property
    def takes_text(self) -> bool:
        """True if one of the modalities is text."""
        return any(isinstance(adapter, TextAdapter) for adapter in self.adapters)

    @property
    def conditions(self) -> tuple[str, ...]:
        """The classes, modalities or orders that a user chooses from; empty for a model without conditions."""
        return self.bundle.conditions[1:]

    @property
    def needs_condition(self) -> bool:
        """True for a model of classes, where nothing else decides."""
        return bool(self.conditions) and len(self.bundle.modalities) == 1

    @property
    def default_keep(self) -> float:
        """The share that the page begins with: half of pictures and sounds, all of a text."""
        return 0.5 if any(isinstance(adapter, ImageAdapter | AudioAdapter) for adapter in self.adapters) else 1.0

    @property
    def default_length(self) -> int:
        """The length that the page begins with: one window, of sound as much as is allowed."""
        has_sound = any(isinstance(adapter, AudioAdapter) for adapter in self.adapters)
        return self.limits.length if has_sound else min(self.bundle.window, self.limits.length)

    @property
    def open_ended(self) -> bool:
        """True if a modality has no fixed length, so that a user may choose one."""
        return not self.bundle.reads_records and any(not adapter.single_window for adapter in self.adapters)

    @property
    def can_guide(self) -> bool:
        """True if the model was trained with `data.drop_part`."""
        orders = self.bundle.orders[1:]
        return any(len(order) > 1 and order[1:] in orders for order in orders)

    def given(self, job: Job) -> list[Given]:
        """What a job gives, with the part of it that is kept. Raises ValueError, MediaError for a refused file."""
        if not job.file and not job.text:
            return []
        if self.bundle.reads_records:
            request = self.records(job)
            kept = zip(request.order, request.given, strict=False)
            return [self._given_part(job, name, stream) for name, stream in kept]
        continued, bundle = self.continuations(job)
        return [Given(bundle.modality_name, bundle.adapter, self.stream(bundle, job), len(continued.prefix))]

    def continuations(self, job: Job) -> tuple[FileRequest, Bundle]:
        """The request of a job to a model of files, with the model of the modality that it is for."""
        self._check(job)
        bundle = self.select(job)
        number = bundle.condition_number(job.condition or None)
        keep, length = job.keep, job.length or None
        if length is None and not bundle.adapter.single_window:
            length = min(bundle.window, self.limits.length)
        stream = self._stream(bundle, job)
        if stream is None:
            return empty_request(bundle.adapter, STEM, bundle.window, length, job.count, number), bundle
        if bundle.adapter.single_window:
            length = None
        arguments = (stream, job.stem, bundle.window, keep, length, job.count, number)
        return prefix_request(bundle.adapter, *arguments), bundle

    def records(self, job: Job) -> RecordRequest:
        """The request of a job to a model of records of several parts."""
        self._check(job)
        to, streams = job.condition or None, {}
        if job.text:
            name, adapter = text_part(self.bundle)
            streams[name] = adapter.stream_of(job.text)
        if job.file:
            name = part_of_file(self.bundle, job.file, to)
            if name in streams:
                raise ValueError(f"{Path(job.file).name}: is a {name}, and there is a typed one; give one of them")
            streams[name] = self.reader.read(self.bundle.modalities[name].adapter, job.file)
        names = order_of_given(self.bundle, list(streams), to)
        order = find_order(self.bundle, names, to)
        # A share is kept only of a last part that is itself to be continued.
        keep = job.keep if len(names) == len(order) else None
        return record_request(self.bundle, order, [streams[name] for name in names], keep, job.count)

    def part(self, job: Job) -> str:
        """The part of a record that a job's file is, or its text. Raises ValueError where there is neither."""
        if job.file:
            return part_of_file(self.bundle, job.file, job.condition or None)
        if job.text:
            return text_part(self.bundle)[0]
        raise ValueError("give a file or a text first")

    def select(self, job: Job) -> Bundle:
        """The model for the modality of a job. Raises ValueError where nothing decides which one that is."""
        if len(self.bundle.modalities) > 1 and job.text and not job.file and not job.condition:
            return self.bundle.for_modality(text_part(self.bundle)[0])
        return select_modality(self.bundle, [job.file] if job.file else [], job.condition or None)

    def stream(self, bundle: Bundle, job: Job) -> ByteStream:
        """The file or the text of a job. Raises ValueError where there is neither."""
        stream = self._stream(bundle, job)
        if stream is None:
            raise ValueError("give a file or a text first")
        return stream

    def _stream(self, bundle: Bundle, job: Job) -> ByteStream | None:
        if job.file and job.text:
            raise ValueError("there are a file and a text; give one of them")
        if job.text:
            if not isinstance(bundle.adapter, TextAdapter):
                raise ValueError(f"this model continues {bundle.adapter.name} files, no text")
            return bundle.adapter.stream_of(job.text)
        if not job.file:
            return None
        name = Path(job.file_name)
        check_suffix(bundle.adapter, str(name))
        stream = self.reader.read(bundle.adapter, job.file)
        check_fits(bundle.adapter, name, stream, None if bundle.fixed_length else bundle.window)
        return stream

    def _given_part(self, job: Job, name: str, kept: ByteStream) -> Given:
        """A given part of a record; its whole stream is that of the file or text."""
        adapter = self.bundle.modalities[name].adapter
        is_typed = bool(job.text) and name == text_part(self.bundle)[0]
        whole = kept if is_typed or not job.file else self.reader.read(adapter, job.file)
        return Given(name, adapter, whole, len(kept.data))

    def _check(self, job: Job) -> None:
        check_count("count", job.count, 1, self.limits.count)
        check_count("seed", job.seed, 0, 2**53)
        check_range("guidance", job.guidance, 0.0, 20.0)
        if job.keep is not None:
            check_range("keep", job.keep, 0.0, 1.0)
        if job.length:
            check_count("length", job.length, 1, self.limits.length)
        if len(job.text) > self.limits.text:
            raise ArgumentValueError("text", f"has {len(job.text):,} characters; at most {self.limits.text:,} are used")
