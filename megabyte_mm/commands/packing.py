"""Files to containers and back: what `compress` and `decompress` do between reading and writing."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data_adapters import Bytes, registry
from data_adapters.exact import Parts, given_back, is_whole_file, known_bytes, put_together, take_apart
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.compression.coding import Coded, Window, decode, encode
from megabyte_mm.compression.container import (
    MODEL,
    Container,
    Entry,
    Settings,
    pack_block,
    unpack_block,
)
from megabyte_mm.compression.fingerprint import model_fingerprint, numbers_fingerprint
from megabyte_mm.models import Execution
from megabyte_mm.models.steps import is_native


@dataclass(frozen=True)
class Source:
    """A file to compress. name: what it is called in a container. modality and condition: how the model reads it."""

    path: Path
    name: str
    modality: str
    condition: int


@dataclass(frozen=True)
class Packed:
    """A compressed file, with its extra bytes.

    model_nats: what the blocks that the model coded cost, as it says itself. model_bytes: what they take.
    """

    entry: Entry
    blocks: list[bytes]
    extra: bytes
    model_nats: float
    model_bytes: int

    @property
    def size(self) -> int:
        """Bytes of its blocks; what else it takes lies in the container's header."""
        return sum(self.entry.sizes)


def settings_of(bundle: Bundle, execution: Execution) -> Settings:
    """By what this machine codes with a model. Raises ValueError for steps that it does not have."""
    adapters = {name: registry.spec(its.adapter) for name, its in bundle.modalities.items()}
    like = next(bundle.model.parameters())
    execution = Execution("native" if is_native(execution, like) else "eager", execution.precision)
    return Settings(
        model=model_fingerprint(bundle.model, {"window": bundle.window, "adapters": adapters}),
        numbers=numbers_fingerprint(bundle.model, execution),
        device=like.device.type,
        backend=execution.backend,
        precision=execution.precision,
        torch=torch.__version__.partition("+")[0],
    )


def execution_of(settings: Settings) -> Execution:
    """How steps were computed. Raises ValueError for a way that is not known."""
    return Execution(settings.backend, settings.precision)  # type: ignore[arg-type] # checked there


def pack_files(
    bundle: Bundle,
    sources: Sequence[Source],
    execution: Execution,
    batch_size: int,
    content_only: bool = False,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> list[Packed]:
    """The files compressed, their windows in common batches. Raises MediaError for one that cannot be read."""
    adapters = [bundle.of(source.modality).adapter for source in sources]
    taken = [
        take_apart(adapter, source.path, bundle.window, content_only)
        for adapter, source in zip(adapters, sources, strict=True)
    ]
    windows = [
        (Window(len(piece), source.condition, known, parts.unit), piece)
        for source, parts in zip(sources, taken, strict=True)
        for piece, known in zip(parts.pieces, parts.known, strict=True)
    ]
    coded = iter(encode(bundle.model, windows, batch_size, execution, on_bytes))
    return [
        _packed(source, parts, given_back(adapter, parts), [next(coded) for _ in parts.pieces])
        for source, parts, adapter in zip(sources, taken, adapters, strict=True)
    ]


def unpack_files(
    bundle: Bundle,
    container: Container,
    batch_size: int,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> list[bytes]:
    """The contents of all files of a container, each compared with its checksum.

    Raises ValueError, naming the file, where one is not what was compressed.
    """
    plans = [known_bytes(bundle.of(its.modality).adapter, its.recipe, len(its.lengths)) for its in container.entries]
    windows = [
        (Window(length, entry.condition, mask, unit), block)
        for entry, (known, unit), blocks in zip(container.entries, plans, container.blocks, strict=True)
        for length, mask, kind, block in zip(entry.lengths, known, entry.kinds, blocks, strict=True)
        if kind == MODEL
    ]
    read = iter(decode(bundle.model, windows, batch_size, execution_of(container.settings), on_bytes))
    contents = []
    for entry, blocks, extra in zip(container.entries, container.blocks, container.extras, strict=True):
        pieces = [
            next(read) if kind == MODEL else np.frombuffer(unpack_block(kind, block, length), np.uint8)
            for kind, block, length in zip(entry.kinds, blocks, entry.lengths, strict=True)
        ]
        contents.append(_content(bundle, entry, pieces, extra))
    return contents


def _packed(source: Source, parts: Parts, given: bytes, coded: Sequence[Coded]) -> Packed:
    kept = [_shortest(piece, its) for piece, its in zip(parts.pieces, coded, strict=True)]
    by_model = [(its, block) for its, (how, block) in zip(coded, kept, strict=True) if how == MODEL]
    entry = Entry(
        name=source.name,
        size=len(given),
        crc=zlib.crc32(given),
        modality=source.modality,
        condition=source.condition,
        recipe=parts.recipe,
        lengths=[len(piece) for piece in parts.pieces],
        kinds="".join(how for how, _ in kept),
        sizes=[len(block) for _, block in kept],
        extra=len(parts.extra),
    )
    nats = sum(its.nats for its, _ in by_model)
    return Packed(entry, [block for _, block in kept], parts.extra, nats, sum(len(block) for _, block in by_model))


def _shortest(piece: Bytes, coded: Coded) -> tuple[str, bytes]:
    """What the model makes of a window, unless the window itself or what zstd makes of it is shorter."""
    kind, block = pack_block(piece.tobytes())
    return (MODEL, coded.data) if len(coded.data) < len(block) else (kind, block)


def _content(bundle: Bundle, entry: Entry, pieces: Sequence[Bytes], extra: bytes) -> bytes:
    wrong = (
        f"{entry.name}: what came out is not what was compressed, and nothing is written of it: this machine computes "
        "other probabilities, or other libraries write the file"
    )
    content_only = not is_whole_file(entry.recipe)
    if content_only and zlib.crc32(np.concatenate(pieces).tobytes()) != entry.crc:
        raise ValueError(wrong)
    try:
        content = put_together(bundle.of(entry.modality).adapter, entry.recipe, pieces, extra)
    except (LookupError, TypeError, ArithmeticError) as error:
        raise ValueError(f"{entry.name}: damaged: its recipe makes no sense ({error})") from error
    if not content_only and (len(content), zlib.crc32(content)) != (entry.size, entry.crc):
        raise ValueError(wrong)
    return content
