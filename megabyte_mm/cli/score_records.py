"""`megabyte-mm score` for a model of records of several parts: bits per byte of each part, given those before it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import numpy as np

from data_adapters import printable
from data_adapters.io import write_bytes
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.cli.files import make_folder, unique_stems
from megabyte_mm.data.dataset import Batch, WindowDataset
from megabyte_mm.data.encode import first_reasons
from megabyte_mm.data.joined import Joined, JoinedWindows, PartRoom, join
from megabyte_mm.data.order import WindowRequest
from megabyte_mm.data.part_files import PartRule, find_parts
from megabyte_mm.data.records import Skipped
from megabyte_mm.data.storage.encoded_cache import load_or_encode
from megabyte_mm.errors import DIVERGED
from megabyte_mm.evaluation import heatmap_files, write_heatmap
from megabyte_mm.evaluation.records import PartScore, ScoredPart, score_records
from megabyte_mm.models import Megabyte
from megabyte_mm.progress import byte_progress


@dataclass(frozen=True)
class _Records:
    """The records of a folder in one order. names: of the records, all different."""

    order: tuple[str, ...]
    joined: Joined
    names: tuple[str, ...]

    @property
    def title(self) -> str:
        """Of the order, as the conditions of a model are named."""
        return "+".join(self.order)


@dataclass(frozen=True)
class _Heatmaps:
    """The folder for heatmaps. stems: the first part of their names, by the name of the record."""

    folder: Path
    stems: dict[str, str]

    def stem(self, record: str, order: str, part: str) -> str:
        """The name, without its suffix, of the heatmap of a part."""
        return f"{self.stems[record]}.{order}.{part}"


def score_folder(
    bundle: Bundle,
    paths: Sequence[str],
    condition: str | None,
    batch_size: int,
    json_file: str | None,
    heatmap: str | None,
    overwrite: bool,
) -> None:
    """Print a line for each part of each order; write the figures of each record as JSON, and a heatmap of each part.

    Raises ValueError for anything but one folder of records, for an unknown order, and for heatmaps that exist already.
    """
    if len(paths) != 1:
        raise ValueError("this model reads records of several parts: give one folder that holds them")
    known = _orders(bundle)
    orders = [order for order in known if condition in (None, "+".join(order))]
    if not orders:
        raise ValueError(f"--condition {condition}: the records of this model are {', '.join(map('+'.join, known))}")
    folders, skipped = [], dict[str, Skipped]()
    for order in orders:
        joined, left_out = join_folder(bundle, paths[0], order)
        folders.append(_Records(order, joined, _names(joined)))
        skipped[folders[-1].title] = left_out
    heatmaps = _heatmaps(bundle, Path(heatmap), folders, overwrite) if heatmap else None
    results = {records.title: _score(bundle, records, batch_size, heatmaps) for records in folders}
    width = max(len(f"{name}/{part}") for name, records in results.items() for part in next(iter(records.values())))
    print(f"{'part':{width}}  {'records':>8}  {'bytes':>12}  bits per byte  bits per record")
    for name, records in results.items():
        for part in next(iter(records.values())):
            total = sum((scores[part] for scores in records.values()), PartScore(0.0, 0))
            if not math.isfinite(total.nats):
                raise ValueError(DIVERGED)
            each = total.nats / math.log(2) / len(records)
            figures = f"{total.bits_per_byte:13.4f}  {each:15.2f}"
            if part in bundle.unlearned.get(name, ()):
                figures = f"{'not learned':>13}"
            print(f"{f'{name}/{part}':{width}}  {len(records):8,}  {total.bytes:12,}  {figures}")
    if json_file:
        by_record = {
            name: {key: {part: vars(score) for part, score in scores.items()} for key, scores in records.items()}
            for name, records in results.items()
        }
        content = {"orders": by_record, "skipped": skipped}
        write_bytes(json_file, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    _check_complete(skipped, folders)


def score_parts(bundle: Bundle, path: str, batch_size: int = 16) -> dict[str, tuple[PartScore, int]]:
    """The scores of the learned parts of a folder's records, by names such as text+image/image, and their number.

    Raises FieldError where there are no records.
    """
    totals: dict[str, tuple[PartScore, int]] = {}
    for order in _orders(bundle):
        joined, _ = join_folder(bundle, path, order)
        records = _Records(order, joined, _names(joined))
        scores = _score(bundle, records, batch_size, None)
        for part in order:
            if part not in bundle.unlearned.get(records.title, ()):
                total = sum((each[part] for each in scores.values()), PartScore(0.0, 0))
                if not math.isfinite(total.nats):
                    raise ValueError(DIVERGED)
                totals[f"{records.title}/{part}"] = total, len(scores)
    return totals


def join_folder(bundle: Bundle, path: str, order: tuple[str, ...]) -> tuple[Joined, Skipped]:
    """The records of a folder with the parts of an order, read as in training, and why others are left out.

    Raises FieldError where there are none.
    """
    rules = {name: PartRule(modality.adapter, **modality.files) for name, modality in bundle.modalities.items()}
    readers = {name: load_or_encode(files) for name, files in find_parts(path, rules, order).items()}
    return join(readers, {name: bundle.window_of(name) for name in order})


def _orders(bundle: Bundle) -> list[tuple[str, ...]]:
    """The orders of several parts."""
    return [order for order in bundle.orders[1:] if len(order) > 1]


def _check_complete(skipped: Mapping[str, Skipped], folders: Sequence[_Records]) -> None:
    """Raise ValueError where a record has no figures."""
    for records in folders:
        if left_out := skipped[records.title]:
            count = len(left_out) + len(records.names)
            raise ValueError(
                f"{len(left_out)} of {count} records of {records.title} could not be scored: {first_reasons(left_out)}"
            )


def _heatmaps(bundle: Bundle, folder: Path, folders: Sequence[_Records], overwrite: bool) -> _Heatmaps:
    """Make the folder of heatmaps. Raises ValueError where one of them exists already."""
    names = list(dict.fromkeys(name for records in folders for name in records.names))
    # What `unique_stems` takes for a suffix is cut off: a key has none, and may have a dot.
    stems = unique_stems(f"--heatmap {folder}: PATH", [f"{name}.record" for name in names])
    heatmaps = _Heatmaps(folder, dict(zip(names, stems, strict=True)))
    files = [
        file
        for records in folders
        for name in records.names
        for part in records.order
        for file in heatmap_files(folder, heatmaps.stem(name, records.title, part), bundle.modalities[part].adapter)
    ]
    make_folder("heatmap", folder, files, overwrite)
    return heatmaps


def _score(
    bundle: Bundle, records: _Records, batch_size: int, heatmaps: _Heatmaps | None
) -> dict[str, dict[str, PartScore]]:
    """The scores of records by their names; writes their heatmaps."""
    assert isinstance(bundle.model, Megabyte)
    order, joined = records.order, records.joined
    condition = bundle.orders.index(order, 1)
    sizes = dict(zip(order, (part.max_len for part in bundle.model.config.order(condition)), strict=True))
    rooms = [PartRoom(sizes[name], bundle.window_of(name), bundle.modalities[name].fixed_length) for name in order]
    rows = JoinedWindows(joined, tuple(range(len(order))), tuple(rooms), condition)
    ends = np.cumsum(list(sizes.values())).tolist()
    parts = {name: slice(end - sizes[name], end) for name, end in zip(order, ends, strict=True)}
    scores: dict[str, dict[str, PartScore]] = {}
    total = sum(int(reader.lengths[chosen].sum()) for reader, chosen in zip(joined.readers, joined.rows, strict=True))
    with byte_progress(total, "scored") as on_bytes:
        for number, scored in enumerate(score_records(bundle.model, _batches(rows, batch_size), parts)):
            on_bytes(sum(part.bytes for part in scored.values()))
            scores[records.names[number]] = {name: part.score for name, part in scored.items()}
            if heatmaps is not None:
                _write_heatmaps(bundle, records, number, scored, heatmaps)
    return scores


def _write_heatmaps(
    bundle: Bundle, records: _Records, number: int, scored: dict[str, ScoredPart], heatmaps: _Heatmaps
) -> None:
    record = records.names[number]
    for index, (name, part) in enumerate(scored.items()):
        stream, bits = records.joined.stream(index, number), part.nats / math.log(2)
        stem, title = heatmaps.stem(record, records.title, name), f"{printable(record)}: {name}"
        write_heatmap(heatmaps.folder, stem, bundle.modalities[name].adapter, stream, bits, title)


def _batches(rows: JoinedWindows, batch_size: int) -> Iterator[Batch]:
    dataset = WindowDataset([rows])
    for start in range(0, len(rows), batch_size):
        items = np.arange(start, min(start + batch_size, len(rows)))
        yield dataset[WindowRequest(np.zeros_like(items), np.zeros_like(items), items)]


def _names(joined: Joined) -> tuple[str, ...]:
    """The keys of the records; numbered where several have the same, as pictures with several captions."""
    names: dict[str, None] = {}
    for record in range(len(joined)):
        key = joined.key(record)
        numbered = chain((key,), (f"{key}#{number}" for number in count(2)))
        names[next(name for name in numbered if name not in names)] = None
    return tuple(names)
