"""Files to containers and back: what `compress` and `decompress` do between reading and writing."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data_adapters import Bytes, MediaError, printable, registry, write_atomically
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.compression.coding import Coded, Window, decode, encode
from megabyte_mm.compression.container import MODEL, CodingSettings, Container, Entry, pack_block, unpack_block
from megabyte_mm.compression.exact import SplitFile, is_whole_file, known_bytes, rebuild_file, split_file, writers
from megabyte_mm.compression.fingerprint import model_fingerprint, numbers_fingerprint
from megabyte_mm.compression.tiles import Mask
from megabyte_mm.models import ByteModel, Execution

_NONSENSE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What comes of a recipe that nobody wrote."""


@dataclass(frozen=True)
class SourceFile:
    """A file to compress. name: what it is called in a container. modality and condition: how the model reads it."""

    path: Path
    name: str
    modality: str
    condition: int


@dataclass(frozen=True)
class PackedFile:
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


def coding_settings(bundle: Bundle, execution: Execution) -> CodingSettings:
    """By what this machine codes with a model. Raises ValueError for steps that it does not have."""
    adapters = {name: registry.spec(its.adapter) for name, its in bundle.modalities.items()}
    execution = _resolved(bundle.model, execution)
    return CodingSettings(
        model=model_fingerprint(bundle.model, {"window": bundle.window, "adapters": adapters}),
        numbers=numbers_fingerprint(bundle.model, execution),
        device=next(bundle.model.parameters()).device.type,
        backend=execution.backend,
        precision=execution.precision,
        torch=torch.__version__.partition("+")[0],
        writers=writers(),
    )


def _resolved(model: ByteModel, execution: Execution) -> Execution:
    """What `auto` comes to here: two machines may find different things, whose numbers differ."""
    if execution.backend != "auto":
        return execution
    native = Execution("native", execution.precision)
    try:
        model.decoder(1, execution=native)
    except ValueError:  # no compiler, no CPU, or no such steps of this architecture
        return Execution("eager", execution.precision)
    return native


def execution_of(settings: CodingSettings) -> Execution:
    """How steps were computed. Raises ValueError for a way that is not known."""
    return Execution(settings.backend, settings.precision)  # type: ignore[arg-type] # checked there


def pack_files(
    bundle: Bundle,
    sources: Sequence[SourceFile],
    execution: Execution,
    batch_size: int,
    content_only: bool = False,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> list[PackedFile]:
    """The files compressed, their windows in common batches. Raises MediaError for one that cannot be read."""
    taken = [
        split_file(bundle.for_modality(source.modality).adapter, source.path, bundle.window, content_only)
        for source in sources
    ]
    windows = [
        (Window(len(piece), source.condition, known, parts.unit), piece)
        for source, parts in zip(sources, taken, strict=True)
        for piece, known in zip(parts.pieces, parts.known, strict=True)
    ]
    coded = iter(encode(bundle.model, windows, batch_size, execution, on_bytes))
    return [
        _packed(source, parts, [next(coded) for _ in parts.pieces])
        for source, parts in zip(sources, taken, strict=True)
    ]


def unpack_files(
    bundle: Bundle,
    container: Container,
    batch_size: int,
    content_only: bool = False,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> list[bytes]:
    """The contents of all files of a container, each compared with its checksum.

    content_only: take what the model read as right, where other libraries make another file of it. Raises ValueError,
    naming the file, where one is not what was compressed.
    """
    plans = [_plan(bundle, entry) for entry in container.entries]
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
        contents.append(_content(bundle, container.settings, entry, pieces, extra, content_only))
    return contents


def write_content(target: Path, content: bytes) -> None:
    """Write a file whole or not at all, in a folder that is made where it is missing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, lambda temporary: temporary.write_bytes(content))


def _plan(bundle: Bundle, entry: Entry) -> tuple[list[Mask | None], int]:
    """What of its blocks is known, and how far back. Raises ValueError for an entry that this model never gives."""
    coded = [length for length, kind in zip(entry.lengths, entry.kinds, strict=True) if kind == MODEL]
    if max(coded, default=0) > bundle.window or entry.condition >= len(bundle.conditions):
        raise ValueError(f"{printable(entry.name)}: damaged: of a window or a condition that this model does not have")
    try:
        adapter = bundle.for_modality(entry.modality).adapter
        return known_bytes(adapter, entry.recipe, len(entry.lengths))
    except _NONSENSE as error:
        raise ValueError(f"{printable(entry.name)}: damaged: its recipe makes no sense ({error})") from error


def _packed(source: SourceFile, parts: SplitFile, coded: Sequence[Coded]) -> PackedFile:
    given, read = parts.given, b"".join(piece.tobytes() for piece in parts.pieces)
    kept = [_shortest(piece, its) for piece, its in zip(parts.pieces, coded, strict=True)]
    kind, whole = pack_block(given)
    if parts.whole_file and len(whole) < sum(len(block) for _, block in kept) + len(parts.extra):
        # The file as it lies there is shorter than what is in it, as with a picture that its PNG packs better.
        everything = [np.frombuffer(given, np.uint8)] if given else []
        parts, read = SplitFile({"kind": "bytes"}, everything, [None] * len(everything), 1), given
        kept, coded = [(kind, whole)] * len(everything), [Coded(b"", 0.0)] * len(everything)
    by_model = [(its, block) for its, (how, block) in zip(coded, kept, strict=True) if how == MODEL]
    entry = Entry(
        name=source.name,
        size=len(given),
        crc=zlib.crc32(given),
        read_crc=zlib.crc32(read),
        modality=source.modality,
        condition=source.condition,
        recipe=parts.recipe,
        lengths=[len(piece) for piece in parts.pieces],
        kinds="".join(how for how, _ in kept),
        sizes=[len(block) for _, block in kept],
        extra=len(parts.extra),
    )
    nats = sum(its.nats for its, _ in by_model)
    return PackedFile(entry, [block for _, block in kept], parts.extra, nats, sum(len(block) for _, block in by_model))


def _shortest(piece: Bytes, coded: Coded) -> tuple[str, bytes]:
    """What the model makes of a window, unless the window itself or what zstd makes of it is shorter."""
    kind, block = pack_block(piece.tobytes())
    return (MODEL, coded.data) if len(coded.data) < len(block) else (kind, block)


def _content(
    bundle: Bundle, settings: CodingSettings, entry: Entry, pieces: Sequence[Bytes], extra: bytes, content_only: bool
) -> bytes:
    name = printable(entry.name)
    if zlib.crc32(b"".join(piece.tobytes() for piece in pieces)) != entry.read_crc:
        raise ValueError(
            f"{name}: what came out is not what was compressed, and nothing is written of it: this machine computes "
            "other probabilities than the one that compressed it"
        )
    try:
        content = rebuild_file(bundle.for_modality(entry.modality).adapter, entry.recipe, pieces, extra)
    except MediaError:
        raise  # of the disk that it is written on
    except _NONSENSE as error:
        raise ValueError(f"{name}: damaged: its recipe makes no sense ({error})") from error
    same = (len(content), zlib.crc32(content)) == (entry.size, entry.crc)
    if not same and is_whole_file(entry.recipe) and not content_only:
        raise ValueError(
            f"{name}: its content is right, but {writers()} make another file of it than {settings.writers}, which "
            "compressed it: decompress it with these, or add --content_only for another file of the same content"
        )
    return content
