"""How well files and texts, or files and classes, go together, in bits.

Legend: N files, C candidates, R rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from data_adapters import Bytes, TextAdapter
from megabyte_mm.alphabet import fill_parts
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.models import Megabyte, StepOptions

Floats64 = NDArray[np.float64]


def text_part(bundle: Bundle) -> str:
    """The first part of a model's records that is text. Raises ValueError where there is none."""
    for name, modality in bundle.modalities.items():
        if isinstance(modality.adapter, TextAdapter):
            return name
    raise ValueError(f"this model reads no text; its parts are {', '.join(bundle.modalities)}")


def part_of_files(bundle: Bundle) -> str:
    """The part of a model's records beside their text. Raises ValueError unless there is exactly one."""
    others = [name for name in bundle.modalities if name != text_part(bundle)]
    if len(others) != 1:
        raise ValueError(f"this model reads {', '.join(bundle.modalities)}: texts go with one other part only")
    return others[0]


def text_bits(
    bundle: Bundle,
    part: str,
    files: Sequence[Bytes],
    texts: Sequence[str],
    batch_size: int = 64,
    relative: bool = False,
) -> Floats64:
    """The bits of each pair of a file and a text, fewer where they belong together: (N, C).

    They are those of the text behind the file, where the model has learned that order, and those of the file behind
    the text otherwise. part: that of the files. relative: files are to be compared with each other: bits of a file are
    then less those that it costs by itself. Raises ValueError for a model that has not learned what this takes.
    """
    text = text_part(bundle)
    orders = bundle.orders[1:]
    coded = [bundle.modalities[text].adapter.stream_of(each).data for each in texts]  # type: ignore[attr-defined]
    if (part, text) in orders:
        rows = ((file, words) for file in files for words in coded)
        return record_bits(bundle, (part, text), rows, batch_size).reshape(len(files), len(texts))
    if (text, part) not in orders or (relative and (part,) not in orders):
        wanted = f"[[{part}, {text}]]"
        raise ValueError(
            f"this model, of {', '.join(bundle.conditions[1:])}, does not compare files and texts: train with "
            f"--data.parts '{wanted}'"
        )
    rows = ((words, file) for file in files for words in coded)
    bits = record_bits(bundle, (text, part), rows, batch_size).reshape(len(files), len(texts))
    return bits - record_bits(bundle, (part,), ((file,) for file in files), batch_size)[:, None] if relative else bits


@torch.no_grad()
def record_bits(
    bundle: Bundle,
    order: tuple[str, ...],
    records: Iterator[tuple[Bytes, ...]],
    batch_size: int = 64,
) -> Floats64:
    """The bits of the last part of each record behind those before it, with its END where it has one: (R,).

    order: one of the model's. Raises ValueError for a part that is longer than the model reads.
    """
    model, condition = bundle.model, bundle.orders.index(order, 1)
    assert isinstance(model, Megabyte)
    sizes = [part.max_len for part in model.config.order(condition)]
    rooms = [bundle.window_of(name) for name in order]
    start, ends = sum(sizes[:-1]), not bundle.modalities[order[-1]].fixed_length
    # The local model reads the last part alone.
    skipped = frozenset((condition, sum(sizes[:number])) for number in range(len(sizes) - 1))
    device = next(model.parameters()).device
    bits: list[float] = []
    while batch := list(islice(records, batch_size)):
        for record in batch:
            _check_rooms(order, rooms, record)
        rows_RT = np.empty((len(batch), sum(sizes)), np.int64)
        for row_T, record in zip(rows_RT, batch, strict=True):
            fill_parts(row_T, record, sizes)
        ids_RT = torch.from_numpy(rows_RT).to(device)
        condition_R = torch.full((len(batch),), condition, device=device)
        nats_RT = model.nll(ids_RT, condition_R, StepOptions(unlearned=skipped)).double().cpu().numpy()
        for nats_T, record in zip(nats_RT, batch, strict=True):
            count = len(record[-1]) + (ends and len(record[-1]) < rooms[-1])
            bits.append(float(nats_T[start : start + count].sum()) / math.log(2))
    return np.array(bits)


def _check_rooms(order: Sequence[str], rooms: Sequence[int], record: Sequence[Bytes]) -> None:
    for name, room, data in zip(order, rooms, record, strict=True):
        if len(data) > room:
            raise ValueError(f"the {name} has {len(data)} bytes, and this model reads {room} of it")


def nearest(query_D: NDArray[np.float32], vectors_ND: NDArray[np.float32]) -> Floats64:
    """The cosine of a query and each file's features, both less the mean of the files: (N,)."""
    mean = vectors_ND.mean(axis=0)
    centred, query = vectors_ND.astype(np.float64) - mean, query_D.astype(np.float64) - mean
    norms = np.linalg.norm(centred, axis=1) * np.linalg.norm(query)
    cosines: Floats64 = centred @ query / np.maximum(norms, 1e-12)
    return cosines
