"""Files to blocks of a container and back, in memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_adapters import Bytes, MediaError, printable
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.compression.coding import Coded, Window, decode, encode
from megabyte_mm.compression.container import MODEL, CodingSettings, Container, Entry, pack_block, unpack_block
from megabyte_mm.compression.recipes import (
    SplitFile,
    filler_masks,
    is_whole_file,
    library_versions,
    rebuild_file,
    split_file,
)
from megabyte_mm.compression.recipes.tiles import Mask
from megabyte_mm.compression.settings import execution_of

_BAD_RECIPE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
"""Errors from a recipe that `split_file` never writes."""


@dataclass(frozen=True)
class SourceFile:
    """A file to compress. name: its path in the container. modality, condition: as the model reads it."""

    path: Path
    name: str
    modality: str
    condition: int


@dataclass(frozen=True)
class PackedFile:
    """A compressed file with its extra bytes.

    model_nats, model_bytes: the cost of the blocks that the model coded, by its own probabilities, and their size.
    """

    entry: Entry
    blocks: list[bytes]
    extra: bytes
    model_nats: float
    model_bytes: int

    @property
    def size(self) -> int:
        """Bytes of its blocks, without its share of the container's header."""
        return sum(self.entry.sizes)


def pack_files(
    bundle: Bundle,
    sources: Sequence[SourceFile],
    settings: CodingSettings,
    batch_size: int,
    content_only: bool = False,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> list[PackedFile]:
    """Compress files, their windows in common batches. Raises MediaError for a file that cannot be read."""
    selected = [bundle.for_modality(source.modality) for source in sources]
    splits = [
        split_file(one.adapter, source.path, one.window, content_only)
        for one, source in zip(selected, sources, strict=True)
    ]
    windows: list[tuple[Window, Bytes]] = []
    for one, source, split in zip(selected, sources, splits, strict=True):
        masks, unit = filler_masks(one.adapter, split.recipe, len(split.windows))
        windows += [
            (Window(len(data), source.condition, mask, unit), data)
            for data, mask in zip(split.windows, masks, strict=True)
        ]
    coded = iter(encode(bundle.model, windows, batch_size, execution_of(settings), on_bytes))
    return [
        _packed(source, split, [next(coded) for _ in split.windows])
        for source, split in zip(sources, splits, strict=True)
    ]


def make_container(settings: CodingSettings, files: Sequence[PackedFile]) -> Container:
    """The container of these files."""
    return Container(
        settings, [file.entry for file in files], [file.blocks for file in files], [file.extra for file in files]
    )


def unpack_files(
    bundle: Bundle,
    container: Container,
    batch_size: int,
    content_only: bool = False,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> list[bytes]:
    """The contents of all files of a container, each compared with its checksum.

    content_only: accept the right windows where other libraries rebuild another file from them. Raises ValueError,
    naming the file, for one that differs from the compressed file.
    """
    masks = [_filler_masks(bundle, entry) for entry in container.entries]
    windows = [
        (Window(length, entry.condition, mask, unit), block)
        for entry, (fillers, unit), blocks in zip(container.entries, masks, container.blocks, strict=True)
        for length, mask, kind, block in zip(entry.lengths, fillers, entry.kinds, blocks, strict=True)
        if kind == MODEL
    ]
    decoded = iter(decode(bundle.model, windows, batch_size, execution_of(container.settings), on_bytes))
    contents = []
    for entry, blocks, extra in zip(container.entries, container.blocks, container.extras, strict=True):
        data = [
            next(decoded) if kind == MODEL else np.frombuffer(unpack_block(kind, block, length), np.uint8)
            for kind, block, length in zip(entry.kinds, blocks, entry.lengths, strict=True)
        ]
        contents.append(_content(bundle, container.settings, entry, data, extra, content_only))
    return contents


def _filler_masks(bundle: Bundle, entry: Entry) -> tuple[list[Mask | None], int]:
    """`filler_masks` of an entry. Raises ValueError for one that this model never writes."""
    coded = [length for length, kind in zip(entry.lengths, entry.kinds, strict=True) if kind == MODEL]
    if max(coded, default=0) > bundle.window or entry.condition >= len(bundle.conditions):
        raise ValueError(f"{printable(entry.name)}: damaged: of a window or a condition that this model does not have")
    try:
        return filler_masks(bundle.for_modality(entry.modality).adapter, entry.recipe, len(entry.lengths))
    except _BAD_RECIPE as error:
        raise ValueError(f"{printable(entry.name)}: damaged: the recipe is invalid ({error})") from error


def _packed(source: SourceFile, split: SplitFile, coded: Sequence[Coded]) -> PackedFile:
    blocks = [_shortest(data, window) for data, window in zip(split.windows, coded, strict=True)]
    kind, whole = pack_block(split.content)
    if is_whole_file(split.recipe) and len(whole) < sum(len(block) for _, block in blocks) + len(split.extra):
        # The file itself is shorter, such as a picture that its PNG compresses better.
        data = [np.frombuffer(split.content, np.uint8)] if split.content else []
        split = SplitFile({"kind": "bytes"}, data, content=split.content)
        blocks, coded = [(kind, whole)] * len(data), [Coded(b"", 0.0)] * len(data)
    by_model = [(window, block) for window, (kind, block) in zip(coded, blocks, strict=True) if kind == MODEL]
    entry = Entry(
        name=source.name,
        size=len(split.content),
        crc=zlib.crc32(split.content),
        read_crc=zlib.crc32(split.stream),
        modality=source.modality,
        condition=source.condition,
        recipe=split.recipe,
        lengths=[len(data) for data in split.windows],
        kinds="".join(kind for kind, _ in blocks),
        sizes=[len(block) for _, block in blocks],
        extra=len(split.extra),
    )
    return PackedFile(
        entry,
        [block for _, block in blocks],
        split.extra,
        model_nats=sum(window.nats for window, _ in by_model),
        model_bytes=sum(len(block) for _, block in by_model),
    )


def _shortest(data: Bytes, coded: Coded) -> tuple[str, bytes]:
    """The kind and the bytes of a window's block: by the model, unless it is shorter without it."""
    kind, block = pack_block(data.tobytes())
    return (MODEL, coded.data) if len(coded.data) < len(block) else (kind, block)


def _content(
    bundle: Bundle, settings: CodingSettings, entry: Entry, windows: Sequence[Bytes], extra: bytes, content_only: bool
) -> bytes:
    name = printable(entry.name)
    if zlib.crc32(b"".join(data.tobytes() for data in windows)) != entry.read_crc:
        raise ValueError(
            f"{name}: the decompressed content does not match its checksum, so it was not written: this machine "
            "computes different probabilities from the one that compressed it"
        )
    try:
        content = rebuild_file(bundle.for_modality(entry.modality).adapter, entry.recipe, windows, extra)
    except MediaError:
        raise  # from the disk that it is written to
    except _BAD_RECIPE as error:
        raise ValueError(f"{name}: damaged: the recipe is invalid ({error})") from error
    same = (len(content), zlib.crc32(content)) == (entry.size, entry.crc)
    if not same and is_whole_file(entry.recipe) and not content_only:
        raise ValueError(
            f"{name}: the decoded content is correct, but {library_versions()} encode it as a different file from the "
            f"original, which was written with {settings.writers}: use those versions, or add --content_only to accept "
            "a different file with the same content"
        )
    return content
