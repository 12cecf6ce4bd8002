"""Records of several parts: what follows the parts that are given, part by part."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_adapters import Adapter, ByteStream, Format, TextAdapter
from megabyte_mm.alphabet import fill_parts
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.errors import ArgumentValueError, check_positive
from megabyte_mm.generation.batching import new_bytes
from megabyte_mm.generation.continuation import check_share, cut_prefix
from megabyte_mm.generation.engine import fetch, generate_rows, make_decoder, row_seeds, sync_interval
from megabyte_mm.generation.guidance import GuidedDecoder
from megabyte_mm.generation.sampling import SamplingParams
from megabyte_mm.models import DEFAULT_EXECUTION, Decoder, Execution, Megabyte, PartConfig

SEED_STEP = 0x9E3779B97F4A7C15
"""Between the seeds of the parts of a record: far from those of other rows."""


@dataclass(frozen=True)
class RecordRequest:
    """Complete a record `count` times.

    order: the names of its parts. given: the streams of the first parts; of the last of these a prefix, where `open`.
    """

    order: tuple[str, ...]
    given: tuple[ByteStream, ...]
    open: bool = False
    count: int = 1

    @property
    def generated(self) -> tuple[str, ...]:
        """The names of the parts that are generated, or continued."""
        return self.order[len(self.given) - self.open :]


@dataclass(frozen=True)
class CompletedRecord:
    """The parts of a record by their names, the given ones included; generated: the names of the others."""

    parts: Mapping[str, ByteStream]
    generated: tuple[str, ...]


def find_order(
    bundle: Bundle, given: Sequence[str], to: str | None = None, argument: str = "condition"
) -> tuple[str, ...]:
    """The order of a model's parts that begins with the given ones, and with another behind them.

    to: the whole order, or the name of its last part; of several such orders the longest. argument: the caller's
    name of `to`, for the message. Raises ArgumentValueError where there is not exactly one.
    """
    orders = [order for order in bundle.orders[1:] if order[: len(given)] == tuple(given)]
    if to is not None:
        exact = [order for order in orders if "+".join(order) == to]
        orders = exact or [order for order in orders if order[-1] == to]
    longest = [order for order in orders if len(order) == max(map(len, orders))]
    if len(longest) != 1 or not (to or given or len(orders) == 1):
        known = ", ".join(bundle.conditions[1:])
        behind = f" behind {' and '.join(given)}" if given else ""
        several = f"several kinds of records{behind}"
        wanted = several if longest else (f"no {to}{behind}" if to else f"nothing{behind}")
        raise ArgumentValueError(argument, f": this model generates {wanted}; choose one of {known}")
    return longest[0]


def convert(
    bundle: Bundle,
    parts: Mapping[str, str | os.PathLike[str] | ByteStream],
    to: str | None = None,
    count: int = 4,
    keep: float | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    guidance: float = 1.0,
    seed: int = 0,
) -> list[CompletedRecord]:
    """Generate what follows the first parts of a record: `megabyte-mm generate` from Python.

    parts: by their names, in their order: files, or for a text the text itself, where no file has that name. to: the
    part to end with. keep: the share of the last given part that is kept, where it is to be continued. guidance: above
    1, samples follow the first part more closely; the model must have been trained with data.drop_part. Raises
    ValueError for arguments that do not fit the model, MediaError for a file that cannot be read.
    """
    check_positive(count=count)
    order = find_order(bundle, list(parts), to, argument="to")
    given = [_stream(bundle.modalities[name].adapter, part) for name, part in parts.items()]
    request = record_request(bundle, order, given, keep, count)
    sampling = SamplingParams(temperature, top_k, top_p)
    [completed] = complete_records(bundle, [request], sampling, seed, guidance=guidance)
    return completed


def record_request(
    bundle: Bundle, order: tuple[str, ...], given: Sequence[ByteStream], keep: float | None = None, count: int = 1
) -> RecordRequest:
    """The request to complete a record.

    keep: the share of the last given part that is kept; by default half of a picture behind which nothing follows, else
    all of it. Raises ValueError for a part that does not fit into the model, or where nothing is left to generate.
    """
    check_positive(count=count)
    check_share(keep)
    for name, stream in zip(order, given, strict=False):
        room = bundle.window_of(name)
        if len(stream.data) > room:
            raise ValueError(f"the {name} has {len(stream.data)} bytes, and this model reads {room} of it")
    is_open = len(given) == len(order) or (keep is not None and keep < 1)
    if not is_open or not given:
        return _checked(bundle, RecordRequest(order, tuple(given), count=count))
    last, adapter = given[-1], bundle.modalities[order[len(given) - 1]].adapter
    prefix = cut_prefix(adapter, last, keep)
    if len(given) == len(order) and len(prefix) == len(last.data) and adapter.length_in(last.format) is not None:
        raise ArgumentValueError("keep", f"leaves nothing to generate of the {order[-1]}; choose a smaller share")
    request = RecordRequest(order, (*given[:-1], ByteStream(prefix, last.format)), open=True, count=count)
    return _checked(bundle, request)


def bytes_to_generate(bundle: Bundle, request: RecordRequest) -> int:
    """The bytes of one completion of a record, at most."""
    rooms = sum(bundle.window_of(name) for name in request.generated)
    return rooms - (len(request.given[-1].data) if request.open else 0)


def _checked(bundle: Bundle, request: RecordRequest) -> RecordRequest:
    """The same request. Raises ValueError for one that generates a part that the model has not learned."""
    name = "+".join(request.order)
    for part in request.generated:
        if part in bundle.unlearned.get(name, ()):
            raise ValueError(
                f"this model has not learned the {part} of {name}, whose data.part_weights is 0: begin with all of it"
            )
    return request


def complete_records(
    bundle: Bundle,
    requests: Sequence[RecordRequest],
    sampling: SamplingParams,
    seed: int = 0,
    batch_size: int = 64,
    guidance: float = 1.0,
    execution: Execution = DEFAULT_EXECUTION,
    on_bytes: Callable[[int], object] = lambda count: None,
) -> list[list[CompletedRecord]]:
    """Complete each request `count` times, part by part; rows of one order and the same next part share batches.

    guidance: scale of the first part's influence, 1 for none. on_bytes: called with each new number of bytes. Raises
    ValueError for guidance of a model without orders that lack the first part, and RecordsInterrupted on Ctrl-C.
    """
    rows = _rows(bundle, requests, seed, guidance)
    try:
        for step in _stream_rows(bundle, rows, sampling, batch_size, guidance, execution):
            on_bytes(sum(len(new_bytes(ids_T)) for ids_T in step.symbols))
    except KeyboardInterrupt:
        raise RecordsInterrupted(_completed(requests, rows)) from None
    return _completed(requests, rows)


@dataclass(frozen=True)
class RecordStep:
    """New symbols of one part of some records.

    records: their numbers, counted over all requests. part: its name. symbols: the new ones of each, (B, t) int64, with
    END and NO_SYMBOL; `new_bytes` reads a row.
    """

    records: Sequence[int]
    part: str
    symbols: NDArray[np.int64]


def stream_records(
    bundle: Bundle,
    requests: Sequence[RecordRequest],
    sampling: SamplingParams,
    seed: int = 0,
    batch_size: int = 64,
    guidance: float = 1.0,
    execution: Execution = DEFAULT_EXECUTION,
) -> Generator[RecordStep, None, list[list[CompletedRecord]]]:
    """Yield each step of `complete_records`, whose arguments and errors these are, and return the completed records.

    Nothing is computed before the caller asks for the next step.
    """
    rows = _rows(bundle, requests, seed, guidance)
    yield from _stream_rows(bundle, rows, sampling, batch_size, guidance, execution)
    return _completed(requests, rows)


class RecordsInterrupted(KeyboardInterrupt):
    """Ctrl-C; `records` holds those that were complete, as `complete_records` returns them."""

    def __init__(self, records: list[list[CompletedRecord]]) -> None:
        super().__init__()
        self.records = records


def _rows(bundle: Bundle, requests: Sequence[RecordRequest], seed: int, guidance: float) -> list[_Row]:
    """A row for each record. Raises ValueError for guidance that is not possible."""
    if guidance != 1.0:
        for request in requests:
            _check_guidance(bundle, request.order, guidance)
    seeded = [(request, row_seed) for request in requests for row_seed in row_seeds(seed, request.count)]
    return [_Row(number, request, list(request.given), row_seed) for number, (request, row_seed) in enumerate(seeded)]


def _stream_rows(
    bundle: Bundle,
    rows: Sequence[_Row],
    sampling: SamplingParams,
    batch_size: int,
    guidance: float,
    execution: Execution,
) -> Iterator[RecordStep]:
    """Complete the rows, part by part, and yield each step."""
    while pending := [row for row in rows if row.next_part < len(row.request.order)]:
        first = pending[0]
        group = [row for row in pending if row.group(bundle) == first.group(bundle)][:batch_size]
        yield from _generate_part(bundle, group, sampling, guidance, execution)


def _completed(requests: Sequence[RecordRequest], rows: Sequence[_Row]) -> list[list[CompletedRecord]]:
    """The complete rows of each request."""
    each = iter(rows)
    groups = [[next(each) for _ in range(request.count)] for request in requests]
    return [[row.completed for row in group if row.next_part == len(row.request.order)] for group in groups]


@dataclass
class _Row:
    number: int
    request: RecordRequest
    streams: list[ByteStream]
    seed: int
    started: bool = False

    @property
    def next_part(self) -> int:
        """The number in the order of the part to generate."""
        is_open = self.request.open and not self.started
        return len(self.streams) - is_open

    @property
    def part_seed(self) -> int:
        """That of the next part: the parts of a record must not share random numbers."""
        number = self.next_part - len(self.request.order) + len(self.request.generated)
        return (self.seed + number * SEED_STEP) % 2**63

    def group(self, bundle: Bundle) -> tuple[tuple[str, ...], int, bool]:
        """What rows of a batch share: their order, the next part, and whether END may end it."""
        return self.request.order, self.next_part, self.length(bundle) is None

    def format(self, bundle: Bundle) -> Format:
        """That of the next part."""
        if len(self.streams) > self.next_part:
            return self.streams[self.next_part].format
        return bundle.modalities[self.request.order[self.next_part]].adapter.default_format()

    def length(self, bundle: Bundle) -> int | None:
        """Bytes of the next part, where its format fixes them."""
        return bundle.modalities[self.request.order[self.next_part]].adapter.length_in(self.format(bundle))

    @property
    def completed(self) -> CompletedRecord:
        parts = dict(zip(self.request.order, self.streams, strict=True))
        return CompletedRecord(parts, self.request.generated)


def _generate_part(
    bundle: Bundle,
    rows: Sequence[_Row],
    sampling: SamplingParams,
    guidance: float,
    execution: Execution,
) -> Iterator[RecordStep]:
    """Yield the steps of the next part of rows of one order, and add it to their streams."""
    model, (order, number, is_open) = bundle.model, rows[0].group(bundle)
    assert isinstance(model, Megabyte)
    condition, name = bundle.orders.index(order, 1), order[number]
    modality, parts = bundle.modalities[name], model.config.order(condition)
    room = bundle.window_of(name)
    begun = [row.streams[number] if len(row.streams) > number else None for row in rows]
    prefixes = [_prefix(row.streams[:number], stream, parts) for row, stream in zip(rows, begun, strict=True)]
    ends = [min(room, row.length(bundle) or room) for row in rows]
    lengths = [end - (0 if stream is None else len(stream.data)) for end, stream in zip(ends, begun, strict=True)]
    formats, seeds = [row.format(bundle) for row in rows], [row.part_seed for row in rows]
    decoder = _decoder(bundle, len(rows), condition, guidance if number else 1.0, execution)
    conditions_B = torch.full((len(rows),), condition, device=decoder.conditions.device)
    prefixes = [prefix.to(conditions_B.device) for prefix in prefixes]
    sampling = replace(sampling, allow_end=is_open)
    chunks = [np.empty((len(rows), 0), np.int64)]
    blocks = generate_rows(decoder, prefixes, lengths, sampling, seeds, conditions_B)
    for ids_Bt in fetch(blocks, sync_interval(decoder)):
        chunks.append(ids_Bt)
        yield RecordStep([row.number for row in rows], name, ids_Bt)
    ids_BT = np.concatenate(chunks, axis=1)
    for row, stream, format, ids_T in zip(rows, begun, formats, ids_BT, strict=True):
        new = new_bytes(ids_T)
        data = new if stream is None else np.concatenate([stream.data, new])
        unit = modality.adapter.unit_in(format)
        row.streams[number:] = [ByteStream(modality.adapter.cut_to_units(data, len(data), unit), format)]
        row.started = True


def _decoder(bundle: Bundle, rows: int, condition: int, guidance: float, execution: Execution) -> Decoder:
    if guidance == 1.0:
        return make_decoder(bundle.model, rows, None, execution)
    order = bundle.orders[condition]
    assert isinstance(bundle.model, Megabyte)
    skipped = bundle.model.config.order(condition)[0].max_len
    decoder = make_decoder(bundle.model, 2 * rows, None, execution)
    return GuidedDecoder(decoder, guidance, skipped, bundle.orders.index(order[1:], 1))


def _check_guidance(bundle: Bundle, order: tuple[str, ...], guidance: float) -> None:
    """Raise ArgumentValueError for a scale that is no number, and an order that guidance cannot be of."""
    reason = ""
    if not math.isfinite(guidance):
        reason = "it must be a number"
    elif len(order) < 2:
        reason = f"there is no part in front of the {order[0]} to follow"
    elif order[1:] not in bundle.orders[1:]:
        reason = f"this model was not trained without {order[0]} (drop_part)"
    if reason:
        raise ArgumentValueError("guidance", f"is {guidance}; {reason}")


def _prefix(complete: Sequence[ByteStream], begun: ByteStream | None, parts: Sequence[PartConfig]) -> Tensor:
    """The symbols of a row up to where its next part goes on: whole parts in their rooms, END behind their bytes."""
    streams = [*complete, *([] if begun is None else [begun])]
    sizes = [part.max_len for part in parts[: len(complete)]] + ([] if begun is None else [len(begun.data)])
    ids_T = np.empty(sum(sizes), np.int64)
    fill_parts(ids_T, [stream.data for stream in streams], sizes)
    return torch.from_numpy(ids_T)


def _stream(adapter: Adapter, part: str | os.PathLike[str] | ByteStream) -> ByteStream:
    if isinstance(part, ByteStream):
        return part
    if isinstance(part, str) and isinstance(adapter, TextAdapter) and not os.path.isfile(part):  # noqa: PTH113 (long texts)
        return adapter.stream_of(part)
    return adapter.read(part)
