"""Records of several parts: is the last part, generated behind the others, the one that belongs to them?"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.completion.judge import Judge, train_judge
from benchmarks.completion.nearest import Captioned, caption_rows
from benchmarks.harness.report import Cell, Table
from data_adapters import Adapter, Bytes, ByteStream, ImageAdapter, TextAdapter
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.cli.score_records import join_folder
from megabyte_mm.data.joined import Joined
from megabyte_mm.generation import RecordRequest, SamplingParams, complete_records

MOST_LABELS = 100
"""Of texts in front of pictures: more are captions, and no classes."""
LIGHT = 128
"""A pixel of a mask belongs to it from this value on."""


@dataclass(frozen=True)
class _Case:
    """An order of parts with the validation records that are completed.

    judge: of pictures behind classes. real: pictures behind captions. None of both for others.
    """

    parts: tuple[str, ...]
    adapters: tuple[Adapter, ...]
    val: Joined
    judge: Judge | None = None
    real: Captioned | None = None

    @property
    def name(self) -> str:
        return "+".join(self.parts)


def record_table(
    bundle: Bundle,
    path: str,
    count: int,
    sampling: SamplingParams,
    guidance: float,
    seed: int,
    out: Path | None = None,
) -> Table:
    """A row for each order of the model, and one for each class, or word of the captions, in front of pictures.

    path: a folder with train/ and val/. count: validation records, evenly spaced. out: also write what is generated
    there. Raises ValueError where a folder is missing, and for orders of which no last part can be compared.
    """
    for split in ("train", "val"):
        if not (Path(path) / split).is_dir():
            raise ValueError(f"{path}: has no folder {split}; records are compared with those of train and val")
    orders = [order for order in bundle.orders[1:] if len(order) > 1 and _is_compared(_adapters(bundle, order))]
    if not orders:
        raise ValueError("no order of this model ends with a text, or with a picture behind a text or a picture")
    # Before anything is generated: a judge may turn out to be impossible.
    cases = [_open(bundle, path, order, count, seed) for order in orders]
    title = f"records of {path}, temperature {sampling.temperature:g}, guidance {guidance:g}"
    table = Table(title, ("order", "given", "records", "exact", "judged right", "originals", "nearest", "mask IoU"))
    for case in cases:
        print(f"completing {len(case.val)} records {case.name} ...", file=sys.stderr, flush=True)
        completed = _complete(bundle, case, sampling, guidance, seed)
        if out is not None:
            _write(out, case, completed)
        table.rows += _rows(case, completed)
    table.notes.append(
        "exact: generated texts that equal the original. judged right: generated pictures that a classifier, trained "
        "on the real training pictures and their texts, gives the text that they were made from; originals: the same "
        "of the real ones. nearest: generated pictures whose nearest real one, by the mean difference of the pixels, "
        "has the caption or word that was asked for. mask IoU: intersection over union with the original of the pixels "
        "from 128 up."
    )
    return table


def _adapters(bundle: Bundle, order: tuple[str, ...]) -> tuple[Adapter, ...]:
    return tuple(bundle.modalities[name].adapter for name in order)


def _is_compared(adapters: tuple[Adapter, ...]) -> bool:
    first, last = adapters[0], adapters[-1]
    return isinstance(last, TextAdapter) or (
        isinstance(last, ImageAdapter) and isinstance(first, TextAdapter | ImageAdapter)
    )


def _open(bundle: Bundle, path: str, order: tuple[str, ...], count: int, seed: int) -> _Case:
    """Read the validation records, and what judges pictures behind classes or captions."""
    val, _ = join_folder(bundle, str(Path(path) / "val"), order)
    val = val.take(val.evenly_spaced(count))
    adapters = _adapters(bundle, order)
    text, picture, last = adapters[0], adapters[-1], len(order) - 1
    if not (isinstance(text, TextAdapter) and isinstance(picture, ImageAdapter)):
        return _Case(order, adapters, val)
    train, _ = join_folder(bundle, str(Path(path) / "train"), order)
    labels, val_labels = _texts(text, train, 0), _texts(text, val, 0)
    if len(set(labels)) < 2:
        return _Case(order, adapters, val)
    pictures = [picture.pixels(stream) for stream in _streams(train, last)]
    judged = [picture.pixels(stream) for stream in _streams(val, last)]
    if len(set(labels)) > MOST_LABELS:
        return _Case(order, adapters, val, real=Captioned([*pictures, *judged], [*labels, *val_labels]))
    print(f"training a judge of {len(set(labels))} classes ...", file=sys.stderr, flush=True)
    return _Case(order, adapters, val, judge=train_judge(pictures, labels, judged, set(val_labels), seed))


def _streams(joined: Joined, part: int) -> list[ByteStream]:
    return [joined.stream(part, record) for record in range(len(joined))]


def _texts(adapter: TextAdapter, joined: Joined, part: int) -> list[str]:
    return [adapter.decode(stream.data) for stream in _streams(joined, part)]


def _write(out: Path, case: _Case, completed: Sequence[ByteStream]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    adapter = case.adapters[-1]
    for number, stream in enumerate(completed):
        adapter.write(stream, out / f"{case.name}-{number:04d}{adapter.output_suffix}")


def _rows(case: _Case, completed: Sequence[ByteStream]) -> list[tuple[Cell, ...]]:
    """The rows of an order: one for all records, and where pictures are judged one for each class or word."""
    first, adapter = case.adapters[0], case.adapters[-1]
    last = len(case.parts) - 1
    if isinstance(adapter, TextAdapter):
        texts = (adapter.decode(stream.data) for stream in completed)
        exact = [text == original for text, original in zip(texts, _texts(adapter, case.val, last), strict=True)]
        return [(case.name, "all", len(exact), fmean(exact), None, None, None, None)]
    assert isinstance(adapter, ImageAdapter)
    pictures, originals = ([adapter.pixels(x) for x in some] for some in (completed, _streams(case.val, last)))
    if case.judge is not None:
        assert isinstance(first, TextAdapter)
        labels = _texts(first, case.val, 0)
        right, real = (
            [label == judged for label, judged in zip(labels, case.judge.labels(some), strict=True)]
            for some in (pictures, originals)
        )
        rows: list[tuple[Cell, ...]] = []
        for text in ("all", *sorted(set(labels))):
            chosen = [row for row, label in enumerate(labels) if text in ("all", label)]
            shares = (fmean(each[row] for row in chosen) for each in (right, real))
            rows.append((case.name, text, len(chosen), None, *shares, None, None))
        return rows
    if case.real is not None:
        assert isinstance(first, TextAdapter)
        nearest = [case.real.nearest(pixels) for pixels in pictures]
        return [
            (case.name, given, number, None, None, None, share, None)
            for given, number, share in caption_rows(_texts(first, case.val, 0), nearest)
        ]
    iou = None
    if isinstance(first, ImageAdapter):
        iou = fmean(_overlap(a, b) for a, b in zip(pictures, originals, strict=True))
    return [(case.name, "all", len(pictures), None, None, None, None, iou)]


def _complete(bundle: Bundle, case: _Case, sampling: SamplingParams, guidance: float, seed: int) -> list[ByteStream]:
    """The last part of each record, generated behind the others.

    Equal records are samples of one request: of several requests, they would all have the same random numbers.
    """
    prefixes = list(zip(*(_streams(case.val, part) for part in range(len(case.parts) - 1)), strict=True))
    keys = [b"".join(stream.data.tobytes() for stream in prefix) for prefix in prefixes]
    counts, by_key = Counter(keys), dict(zip(keys, prefixes, strict=True))
    requests = [RecordRequest(case.parts, by_key[key], count=number) for key, number in counts.items()]
    guided = guidance if case.parts[1:] in bundle.orders else 1.0
    completed = complete_records(bundle, requests, sampling, seed, guidance=guided)
    left = {key: iter(records) for key, records in zip(counts, completed, strict=True)}
    return [next(left[key]).parts[case.parts[-1]] for key in keys]


def _overlap(a: Bytes, b: Bytes) -> float:
    """Intersection over union of the light pixels; 1 where neither has any, which `shape_iou` leaves open."""
    in_a, in_b = a >= LIGHT, b >= LIGHT
    union = int((in_a | in_b).sum())
    return float((in_a & in_b).sum() / union) if union else 1.0
