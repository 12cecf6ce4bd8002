"""`megabyte-mm score` for a model of records of several parts: bits per byte of each part, given those before it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from data_adapters.io import write_bytes
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.data.dataset import Batch, WindowDataset
from megabyte_mm.data.encode import first_reasons
from megabyte_mm.data.joined import Joined, JoinedWindows, PartRoom, join
from megabyte_mm.data.order import WindowRequest
from megabyte_mm.data.part_files import PartRule, find_parts
from megabyte_mm.data.storage.encoded_cache import load_or_encode
from megabyte_mm.errors import DIVERGED
from megabyte_mm.evaluation.records import PartScore, score_records
from megabyte_mm.models import Megabyte
from megabyte_mm.progress import byte_progress


def score_folder(
    bundle: Bundle, paths: Sequence[str], condition: str | None, batch_size: int, json_file: str | None
) -> None:
    """Print a line for each part of each order, and write the figures of each record as JSON.

    Raises ValueError for anything but one folder of records, and for an unknown order.
    """
    if len(paths) != 1:
        raise ValueError("this model reads records of several parts: give one folder that holds them")
    known = [order for order in bundle.orders[1:] if len(order) > 1]
    orders = [order for order in known if condition in (None, "+".join(order))]
    if not orders:
        raise ValueError(f"--condition {condition}: the records of this model are {', '.join(map('+'.join, known))}")
    results = {}
    for order in orders:
        results["+".join(order)] = _score(bundle, paths[0], order, batch_size)
    width = max(len(f"{name}/{part}") for name, records in results.items() for part in next(iter(records.values())))
    print(f"{'part':{width}}  {'records':>8}  {'bytes':>12}  bits per byte  bits per record")
    for name, records in results.items():
        for part in next(iter(records.values())):
            total = sum((scores[part] for scores in records.values()), PartScore(0.0, 0))
            if not math.isfinite(total.nats):
                raise ValueError(DIVERGED)
            each = total.nats / math.log(2) / len(records)
            label = f"{name}/{part}"
            print(f"{label:{width}}  {len(records):8,}  {total.bytes:12,}  {total.bits_per_byte:13.4f}  {each:15.2f}")
    if json_file:
        figures = {
            name: {key: {part: vars(score) for part, score in scores.items()} for key, scores in records.items()}
            for name, records in results.items()
        }
        write_bytes(json_file, (json.dumps({"orders": figures}, indent=1, allow_nan=False) + "\n").encode())


def join_folder(bundle: Bundle, path: str, order: tuple[str, ...]) -> Joined:
    """The records of a folder with the parts of an order, read as in training; prints how many are left out, and why.

    Raises FieldError where there are none.
    """
    rules = {name: PartRule(modality.adapter, **modality.files) for name, modality in bundle.modalities.items()}
    readers = {name: load_or_encode(files) for name, files in find_parts(path, rules, order).items()}
    joined, skipped = join(readers, {name: bundle.window_of(name) for name in order})
    if skipped:
        print(f"{len(skipped)} of {path} left out: {first_reasons(skipped)}", file=sys.stderr)
    return joined


def _score(bundle: Bundle, path: str, order: tuple[str, ...], batch_size: int) -> dict[str, dict[str, PartScore]]:
    """The scores of the records of a folder in one order, by their keys."""
    assert isinstance(bundle.model, Megabyte)
    joined = join_folder(bundle, path, order)
    condition = bundle.orders.index(order, 1)
    sizes = dict(zip(order, (part.max_len for part in bundle.model.config.order(condition)), strict=True))
    rooms = [PartRoom(sizes[name], bundle.window_of(name), bundle.modalities[name].fixed_length) for name in order]
    rows = JoinedWindows(joined, tuple(range(len(order))), tuple(rooms), condition)
    ends = np.cumsum(list(sizes.values())).tolist()
    parts = {name: slice(end - sizes[name], end) for name, end in zip(order, ends, strict=True)}
    scores: dict[str, dict[str, PartScore]] = {}
    with byte_progress(sum(int(reader.lengths.sum()) for reader in joined.readers), "scored") as on_bytes:
        for number, score in enumerate(score_records(bundle.model, _batches(rows, batch_size), parts)):
            on_bytes(sum(each.bytes for each in score.values()))
            scores[_name(joined.key(number), scores)] = score
    return scores


def _batches(rows: JoinedWindows, batch_size: int) -> Iterator[Batch]:
    dataset = WindowDataset([rows])
    for start in range(0, len(rows), batch_size):
        items = np.arange(start, min(start + batch_size, len(rows)))
        yield dataset[WindowRequest(np.zeros_like(items), np.zeros_like(items), items)]


def _name(key: str, taken: dict[str, dict[str, PartScore]]) -> str:
    """A record's key; numbered where several records have it, as pictures with several captions."""
    number, name = 1, key
    while name in taken:
        number += 1
        name = f"{key}#{number}"
    return name
