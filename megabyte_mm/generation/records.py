"""Records of several parts: what follows the parts that are given, part by part."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_adapters import Adapter, Bytes, ByteStream, TextAdapter
from megabyte_mm.alphabet import END, to_ids
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.errors import ArgumentValueError, check_positive
from megabyte_mm.generation.continuation import cut_prefix
from megabyte_mm.generation.engine import NO_SYMBOL, generate_rows, make_decoder, row_seeds
from megabyte_mm.generation.guidance import GuidedDecoder
from megabyte_mm.generation.sampling import SamplingParams
from megabyte_mm.models import DEFAULT_EXECUTION, Decoder, Execution, Megabyte, PartConfig


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


def find_order(bundle: Bundle, given: Sequence[str], to: str | None = None) -> tuple[str, ...]:
    """The order of a model's parts that begins with the given ones, and with another behind them.

    to: the name of the last part, or of the whole order. Raises ArgumentValueError where there is no such order.
    """
    orders = [order for order in bundle.orders[1:] if order[: len(given)] == tuple(given)]
    if to is not None:
        orders = [order for order in orders if to in (order[-1], "+".join(order))]
    longest = sorted(orders, key=len)
    if not longest or not (to or given or len(orders) == 1):
        known = ", ".join(bundle.conditions[1:])
        behind = f" behind {' and '.join(given)}" if given else ""
        wanted = f"no {to}{behind}" if to else (f"nothing{behind}" if given else "several kinds of records")
        raise ArgumentValueError("condition", f": this model generates {wanted}; choose one of {known}")
    return longest[-1]


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

    parts: by their names, in their order: files, or for a text the text itself. to: the part to end with. keep: the
    share of the last given part that is kept, where it is to be continued. guidance: above 1, samples follow the first
    part more closely; the model must have been trained with data.drop_part. Raises ValueError for arguments that do not
    fit the model, MediaError for a file that cannot be read.
    """
    check_positive(count=count)
    order = find_order(bundle, list(parts), to)
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
    for name, stream in zip(order, given, strict=False):
        room = bundle.modalities[name].window or bundle.window
        if len(stream.data) > room:
            raise ValueError(f"the {name} has {len(stream.data)} bytes, and this model reads {room} of it")
    is_open = len(given) == len(order) or (keep is not None and keep < 1)
    if not is_open or not given:
        return RecordRequest(order, tuple(given), count=count)
    last, adapter = given[-1], bundle.modalities[order[len(given) - 1]].adapter
    prefix = cut_prefix(adapter, last, keep)
    if len(given) == len(order) and len(prefix) == len(last.data) and adapter.length_in(last.format) is not None:
        raise ArgumentValueError("keep", f"leaves nothing to generate of the {order[-1]}; choose a smaller share")
    return RecordRequest(order, (*given[:-1], ByteStream(prefix, last.format)), open=True, count=count)


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
    ValueError for guidance of a model without orders that lack the first part.
    """
    rows = [
        _Row(request, list(request.given), row_seed)
        for request in requests
        for row_seed in row_seeds(seed, request.count)
    ]
    while pending := [row for row in rows if row.next_part < len(row.request.order)]:
        first = pending[0]
        group = [row for row in pending if row.group == first.group][:batch_size]
        _generate_part(bundle, group, sampling, guidance, execution, on_bytes)
    completed = iter(rows)
    return [[next(completed).completed for _ in range(request.count)] for request in requests]


@dataclass
class _Row:
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
    def group(self) -> tuple[tuple[str, ...], int]:
        return self.request.order, self.next_part

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
    on_bytes: Callable[[int], object],
) -> None:
    """Generate the next part of rows of one order, and add it to their streams."""
    model, (order, number) = bundle.model, rows[0].group
    assert isinstance(model, Megabyte)
    condition, name = bundle.orders.index(order, 1), order[number]
    modality, parts = bundle.modalities[name], model.config.order(condition)
    room = modality.window or bundle.window
    begun = [row.streams[number] if len(row.streams) > number else None for row in rows]
    prefixes = [_prefix(row.streams[:number], stream, parts) for row, stream in zip(rows, begun, strict=True)]
    lengths = [room - (0 if stream is None else len(stream.data)) for stream in begun]
    decoder = _decoder(bundle, len(rows), condition, guidance if number else 1.0, execution)
    conditions_B = torch.full((len(rows),), condition, device=decoder.conditions.device)
    prefixes = [prefix.to(conditions_B.device) for prefix in prefixes]
    sampling = replace(sampling, allow_end=not modality.fixed_length)
    columns = []
    for ids_B in generate_rows(decoder, prefixes, lengths, sampling, [row.seed for row in rows], conditions_B):
        columns.append(ids_B)
        on_bytes(int(((ids_B != NO_SYMBOL) & (ids_B != END)).sum()))
    ids_BT = torch.stack(columns, dim=1).cpu().numpy() if columns else np.empty((len(rows), 0), np.int64)
    for row, stream, ids_T in zip(rows, begun, ids_BT, strict=True):
        new: Bytes = ids_T[(ids_T != NO_SYMBOL) & (ids_T != END)].astype(np.uint8)
        known = ByteStream(np.empty(0, np.uint8), modality.adapter.default_format()) if stream is None else stream
        data = np.concatenate([known.data, new])
        unit = modality.adapter.unit_in(known.format)
        row.streams[number:] = [ByteStream(modality.adapter.cut_to_units(data, len(data), unit), known.format)]
        row.started = True


def _decoder(bundle: Bundle, rows: int, condition: int, guidance: float, execution: Execution) -> Decoder:
    if guidance == 1.0:
        return make_decoder(bundle.model, rows, None, execution)
    order = bundle.orders[condition]
    if order[1:] not in bundle.orders[1:]:
        raise ArgumentValueError(
            "guidance", f"is {guidance}; this model was not trained without {order[0]} (drop_part)"
        )
    assert isinstance(bundle.model, Megabyte)
    skipped = bundle.model.config.order(condition)[0].max_len
    decoder = make_decoder(bundle.model, 2 * rows, None, execution)
    return GuidedDecoder(decoder, guidance, skipped, bundle.orders.index(order[1:], 1))


def _prefix(complete: Sequence[ByteStream], begun: ByteStream | None, parts: Sequence[PartConfig]) -> Tensor:
    """The symbols of a row up to where its next part goes on: whole parts in their rooms, END behind their bytes."""
    pieces = [torch.empty(0, dtype=torch.int64)]
    for stream, part in zip(complete, parts, strict=False):
        ids_T = to_ids(stream.data)
        pieces.append(torch.nn.functional.pad(ids_T, (0, part.max_len - len(ids_T)), value=END))
    if begun is not None:
        pieces.append(to_ids(begun.data))
    return torch.cat(pieces)


def _stream(adapter: Adapter, part: str | os.PathLike[str] | ByteStream) -> ByteStream:
    if isinstance(part, ByteStream):
        return part
    if isinstance(part, str) and isinstance(adapter, TextAdapter) and not Path(part).is_file():
        return adapter.stream_of(part)
    return adapter.read(part)
