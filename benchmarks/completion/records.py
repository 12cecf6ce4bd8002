"""Records of several parts: is the last part, generated behind the others, the one that belongs to them?"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.completion.judge import Judge, check_judgeable, train_judge
from benchmarks.harness.report import Cell, Table
from data_adapters import Adapter, ByteStream, ImageAdapter, TextAdapter
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.cli.score_records import join_folder
from megabyte_mm.data.joined import Joined
from megabyte_mm.evaluation.completion import mean_defined
from megabyte_mm.generation import RecordRequest, SamplingParams, complete_records

MOST_LABELS = 100
"""Of texts in front of pictures: more are captions, and no classes."""
LIGHT = 128
"""A pixel of a mask belongs to it from this value on."""


@dataclass(frozen=True)
class _Order:
    """An order of parts with the records that are completed, and those of the training."""

    parts: tuple[str, ...]
    val: Joined
    train: Joined


def record_table(
    bundle: Bundle,
    path: str,
    count: int,
    sampling: SamplingParams,
    guidance: float,
    seed: int,
    out: Path | None = None,
) -> Table:
    """A row for each order of the model, and one for each text in front of judged pictures.

    path: a folder with train/ and val/. count: validation records, evenly spaced. out: also write what is generated
    there. Raises ValueError where a folder is missing, and for orders of which no last part can be compared.
    """
    for split in ("train", "val"):
        if not (Path(path) / split).is_dir():
            raise ValueError(f"{path}: has no folder {split}; records are compared with those of train and val")
    adapters = {name: modality.adapter for name, modality in bundle.modalities.items()}
    names = [order for order in bundle.orders[1:] if len(order) > 1 and _is_compared(adapters, order)]
    if not names:
        raise ValueError("no order of this model ends with a text, or with a picture behind a text or a picture")
    orders = [
        _Order(parts, _read(bundle, path, "val", parts, count), _read(bundle, path, "train", parts)) for parts in names
    ]
    # Before anything is generated: a judge may turn out to be impossible.
    judges = [_judge(adapters, order, seed) for order in orders]
    title = f"records of {path}, temperature {sampling.temperature:g}, guidance {guidance:g}"
    table = Table(title, ("order", "given", "records", "exact", "judged right", "originals", "mask IoU"))
    for order, judge in zip(orders, judges, strict=True):
        _add_rows(table, bundle, order, judge, sampling, guidance, seed, out)
    table.notes.append(
        "exact: generated texts that equal the original. judged right: generated pictures that a classifier, trained "
        "on the real training pictures and their texts, gives the text that they were made from; originals: the same "
        "of the real ones. mask IoU: intersection over union with the original of the pixels from 128 up."
    )
    return table


def _is_compared(adapters: dict[str, Adapter], order: tuple[str, ...]) -> bool:
    last, first = adapters[order[-1]], adapters[order[0]]
    return isinstance(last, TextAdapter) or (isinstance(last, ImageAdapter) and isinstance(first, _COMPARED))


_COMPARED = (TextAdapter, ImageAdapter)


def _read(bundle: Bundle, path: str, split: str, parts: tuple[str, ...], count: int | None = None) -> Joined:
    joined = join_folder(bundle, str(Path(path) / split), parts)
    return joined if count is None else joined.take(joined.evenly_spaced(count))


def _streams(joined: Joined, part: int) -> list[ByteStream]:
    return [joined.stream(part, record) for record in range(len(joined))]


def _judge(adapters: dict[str, Adapter], order: _Order, seed: int) -> Judge | None:
    """A judge of pictures by the texts in front of them; None for other orders, and for captions."""
    text, picture = adapters[order.parts[0]], adapters[order.parts[-1]]
    if not (isinstance(text, TextAdapter) and isinstance(picture, ImageAdapter)):
        return None
    labels = [text.decode(stream.data) for stream in _streams(order.train, 0)]
    if not 1 < len(set(labels)) <= MOST_LABELS:
        return None
    last = len(order.parts) - 1
    pictures = [picture.pixels(stream) for stream in _streams(order.train, last)]
    judged = [picture.pixels(stream) for stream in _streams(order.val, last)]
    check_judgeable(pictures + judged, set(labels), {text.decode(stream.data) for stream in _streams(order.val, 0)})
    print(f"training a judge of {len(set(labels))} classes ...", file=sys.stderr, flush=True)
    return train_judge(pictures, labels, seed)


def _add_rows(
    table: Table,
    bundle: Bundle,
    order: _Order,
    judge: Judge | None,
    sampling: SamplingParams,
    guidance: float,
    seed: int,
    out: Path | None,
) -> None:
    name = "+".join(order.parts)
    print(f"completing {len(order.val)} records {name} ...", file=sys.stderr, flush=True)
    last = len(order.parts) - 1
    adapter, first = bundle.modalities[order.parts[-1]].adapter, bundle.modalities[order.parts[0]].adapter
    made = _complete(bundle, order, sampling, guidance, seed)
    originals = _streams(order.val, last)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for number, stream in enumerate(made):
            adapter.write(stream, out / f"{name}-{number:04d}{adapter.output_suffix}")
    if isinstance(adapter, TextAdapter):
        exact = [adapter.decode(a.data) == adapter.decode(b.data) for a, b in zip(made, originals, strict=True)]
        table.rows.append((name, "all", len(made), _share(exact), None, None, None))
    elif judge is not None:
        assert isinstance(adapter, ImageAdapter)
        assert isinstance(first, TextAdapter)
        labels = [first.decode(stream.data) for stream in _streams(order.val, 0)]
        right, real = (
            [
                found == label
                for found, label in zip(judge.labels([adapter.pixels(x) for x in some]), labels, strict=True)
            ]
            for some in (made, originals)
        )
        for given in ("all", *sorted(set(labels))):
            rows = [row for row, label in enumerate(labels) if given in ("all", label)]
            shares = (_share([each[row] for row in rows]) for each in (right, real))
            table.rows.append((name, given, len(rows), None, *shares, None))
    else:
        assert isinstance(adapter, ImageAdapter)
        iou = [_overlap(adapter.pixels(a), adapter.pixels(b)) for a, b in zip(made, originals, strict=True)]
        shown = mean_defined(iou) if isinstance(first, ImageAdapter) else None
        table.rows.append((name, "all", len(made), None, None, None, shown))


def _complete(bundle: Bundle, order: _Order, sampling: SamplingParams, guidance: float, seed: int) -> list[ByteStream]:
    """The last part of each record, generated behind the others.

    Equal records are samples of one request: of several requests, they would all have the same random numbers.
    """
    given = [
        tuple(order.val.stream(part, record) for part in range(len(order.parts) - 1))
        for record in range(len(order.val))
    ]
    keys = [b"".join(stream.data.tobytes() for stream in streams) for streams in given]
    counts = Counter(keys)
    first = dict(zip(keys, given, strict=True))
    requests = [RecordRequest(order.parts, first[key], count=number) for key, number in counts.items()]
    guided = guidance if order.parts[1:] in bundle.orders else 1.0
    completed = complete_records(bundle, requests, sampling, seed, guidance=guided)
    left = {key: iter(records) for key, records in zip(counts, completed, strict=True)}
    return [next(left[key]).parts[order.parts[-1]] for key in keys]


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of the light pixels; 1 where neither has any."""
    in_a, in_b = a >= LIGHT, b >= LIGHT
    union = int((in_a | in_b).sum())
    return float((in_a & in_b).sum() / union) if union else 1.0


def _share(right: Sequence[bool]) -> Cell:
    return sum(right) / len(right)
