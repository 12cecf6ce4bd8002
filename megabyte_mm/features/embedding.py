"""Features of files: the global model's states, pooled over the patches of each file.

Legend: F files, K patches, D width of a state, R rows, T symbols of a row.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from data_adapters import Bytes, ByteStream, ImageAdapter
from megabyte_mm.alphabet import fill_window
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.errors import ArgumentValueError, check_positive
from megabyte_mm.models import ByteModel, global_states

Floats = NDArray[np.float32]
Layer = int | Literal["bytes"] | None
POOLINGS = ("sections", "squares", "mean", "max", "last", "patches")
"""Of the states of a file: one vector, or with `patches` a vector for each patch. `sections` are the means of its
SECTIONS sections, one behind the other; `squares` those of SIDE x SIDE parts of a picture."""
SECTIONS = 16
SIDE = 4


def embed(
    bundle: Bundle,
    files: Sequence[str | os.PathLike[str]],
    layer: Layer = None,
    pooling: str = "sections",
    batch_size: int = 64,
) -> list[Floats]:
    """The features of files: (D,) each, or (K, D) with the pooling `patches`; `megabyte-mm embed` from Python.

    bundle: of one modality (`Bundle.for_modality` selects it in a mix). layer: as of `stream_states`. Raises ValueError
    for a layer or a pooling that does not exist, MediaError for a file that cannot be read.
    """
    streams = [bundle.adapter.read(file) for file in files]
    return list(embed_streams(bundle, streams, layer, pooling, batch_size))


def embed_streams(
    bundle: Bundle,
    streams: Sequence[ByteStream],
    layer: Layer = None,
    pooling: str = "sections",
    batch_size: int = 64,
    on_bytes: Callable[[int], object] = lambda count: None,
) -> Iterator[Floats]:
    """Yield the features of each stream, as of `embed`. on_bytes: called with each number of bytes that were read.

    With the layer `bytes` they are the bytes themselves, (n,): what any features should be compared with. Raises
    ArgumentValueError for `squares` of what are no pictures, or of some that are longer than the window.
    """
    check_positive(batch_size=batch_size)
    if pooling not in POOLINGS:
        raise ArgumentValueError("pooling", f"{pooling}: known are {', '.join(POOLINGS)}")
    if layer == "bytes":
        yield from (stream.data.astype(np.float32) for stream in streams)
        return
    data = [stream.data for stream in streams]
    states = stream_states(bundle.model, data, bundle.window, layer, batch_size, on_bytes)
    if pooling == "squares":
        pictures = _pictures(bundle)
        if max(map(len, data), default=0) > bundle.window:
            raise ArgumentValueError("pooling", f"squares: a picture is longer than the window, {bundle.window} bytes")
        for stream, states_KD in zip(streams, states, strict=True):
            weights_SK = _square_weights(pictures, stream, bundle.model.patch_size, len(states_KD))
            yield (weights_SK @ states_KD).reshape(-1)
        return
    for states_KD in states:
        yield pool(states_KD, pooling)


def _pictures(bundle: Bundle) -> ImageAdapter:
    if not isinstance(bundle.adapter, ImageAdapter):
        raise ArgumentValueError("pooling", f"squares: of pictures alone, and this model reads {bundle.adapter.name}")
    return bundle.adapter


def _square_weights(adapter: ImageAdapter, stream: ByteStream, patch_size: int, patches: int) -> Floats:
    """The share of each patch in each of the SIDE * SIDE parts of a picture: (S, K), rows summing to 1."""
    # The last patch of a full window has no state: the one before stands for it.
    of_byte_n = np.minimum(np.arange(len(stream.data)) // patch_size, patches - 1)
    patch_HWC = adapter.unscan(of_byte_n, stream.format)
    rows, columns = (_spans(side) for side in patch_HWC.shape[:2])
    counts = [np.bincount(patch_HWC[row, column].ravel(), minlength=patches) for row in rows for column in columns]
    weights_SK = np.stack(counts).astype(np.float32)
    shares_SK: Floats = weights_SK / weights_SK.sum(axis=1, keepdims=True)
    return shares_SK


def _spans(length: int, parts: int = SIDE) -> list[slice]:
    """That many parts of a length, none empty; a short one's overlap."""
    borders = np.linspace(0, length, parts + 1)
    return [slice(int(start), math.ceil(stop)) for start, stop in pairwise(borders)]


def pool(states_KD: Floats, pooling: str) -> Floats:
    """The states of a file as one vector, (K, D) -> (D,) or (16 D,); all of them for `patches`."""
    if pooling == "patches":
        return states_KD
    if pooling == "last":
        last: Floats = states_KD[-1]
        return last
    if pooling == "sections":
        spans = _spans(len(states_KD), SECTIONS)
        joined: Floats = np.concatenate([pool(states_KD[span], "mean") for span in spans])
        return joined
    vector: Floats = states_KD.mean(axis=0) if pooling == "mean" else states_KD.max(axis=0)
    return vector


def stream_states(
    model: ByteModel,
    streams: Sequence[Bytes],
    window: int,
    layer: int | None = None,
    batch_size: int = 64,
    on_bytes: Callable[[int], object] = lambda count: None,
) -> Iterator[Floats]:
    """Yield the states of the patches of each stream, in order: (K, D).

    window: symbols read at once; longer streams are read window by window. layer: 0 for the patches as the global model
    reads them, n for the output of its block n; by default that of the last block. The model should be in eval
    mode. Raises ValueError for a layer that the model does not have.
    """
    size, device = model.patch_size, next(model.parameters()).device
    rows = ((number, start) for number, data in enumerate(streams) for start in range(0, max(len(data), 1), window))
    parts: list[Floats] = []
    current = 0
    while batch := list(islice(rows, batch_size)):
        pieces = [streams[number][start : start + window] for number, start in batch]
        longest = max(map(len, pieces))
        length = max(-(-longest // size), 1) * size
        ids_RT = torch.from_numpy(np.stack([fill_window(piece, length) for piece in pieces])).to(device)
        with torch.no_grad():
            states_RKD = layer_of(global_states(model, ids_RT), layer).float().cpu().numpy()
        for (number, _), piece, states_KD in zip(batch, pieces, states_RKD, strict=True):
            if number != current:
                yield np.concatenate(parts)
                parts, current = [], number
            parts.append(states_KD[: max(-(-len(piece) // size), 1)])
            on_bytes(len(piece))
    if parts:
        yield np.concatenate(parts)


def layer_of(states: Sequence[torch.Tensor], layer: int | None = None) -> torch.Tensor:
    """A layer of `global_states`, as of `stream_states`."""
    blocks = len(states) - 2
    if layer is None:
        return states[blocks]
    if not 0 <= layer <= blocks:
        raise ArgumentValueError("layer", f"{layer}: the global model of this checkpoint has layers 0 to {blocks}")
    return states[layer]
