"""The format of compressed files: a container of one or many, with the header that decompression needs.

    4 bytes   MBZ and the version of the format
    4 bytes   length of the header, little-endian
    4 bytes   CRC-32 of the header as stored
    4 bytes   CRC-32 of the payload
    header    compressed by zstd: the length of a JSON text (4 bytes), the text with the settings of coding and the
              entries of the files, and the extra bytes of all files
    payload   the blocks of the first file, of the second, ...

A block is a window of a file: coded by the model, compressed by zstd, or stored, whichever is shortest.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

import zstandard

MAGIC = b"MBZ"
VERSION = 1
SUFFIX = ".mbz"

MODEL, STORED, ZSTD = "m", "s", "z"
"""Kinds of blocks."""

_FIXED = struct.Struct("<3sBIII")
_LENGTH = struct.Struct("<I")
_FREE, _RATIO = 2**24, 1000
"""Bytes that a header may unpack to, and further bytes for each of its own: more is an attack."""

_PHRASES = (
    b'{"by":"pillow","format":"PNG","options":0}{"kind":"bytes"}{"kind":"around","head":44}.png.wav'
    b'{"model":"","numbers":"","device":"cpu","backend":"native","precision":null,"torch":"2.13.0","writers":'
    b'"pillow 13.0.0, zlib 1.2.13, webp 1.6.0, libsndfile 1.2.2","files":{"name":['
    b'".txt"],"size":[0],"crc":[0],"read_crc":[0],"modality":[""],"condition":[0],"recipe":[{"kind":"written","format":{"modality":'
    b'"audio","rate":8000,"channels":1,"encoding":"pcm16"},"container":"wav"}],{"kind":"tiles","shape":[32,32],'
    b'"by":"zlib","cuts":[],"zlib":[9,15,8,1],"before":33,"filters":32}],"lengths":[[1024,3072]],"kinds":["mmmmmmmm"],'
    b'"sizes":[[]],"extra":[0]}}\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0 \0\0\0 \x08\x02\0\0\0\0\0\0\0IEND\xaeB`\x82'
)
"""A dictionary for zstd of what headers hold. Part of the format: changed only with VERSION."""


@dataclass(frozen=True)
class Entry:
    """A file in a container.

    name: its path, with / between folders. size, crc: length and CRC-32 of the file, or of all windows where the recipe
    keeps only their content. read_crc: CRC-32 of all windows. modality, condition: as the model reads it. recipe: how
    the windows become the file. lengths: bytes of each window; kinds and sizes: kind and stored bytes of its block;
    extra: length of its extra bytes.
    """

    name: str
    size: int
    crc: int
    read_crc: int
    modality: str
    condition: int
    recipe: Mapping[str, Any]
    lengths: Sequence[int]
    kinds: str
    sizes: Sequence[int]
    extra: int


_COLUMNS = tuple(one.name for one in fields(Entry))
"""Headers hold columns: zstd compresses similar values best side by side."""


@dataclass(frozen=True)
class CodingSettings:
    """Settings that decompression must share.

    model, numbers: fingerprints. device, backend, precision: of the steps. torch: its version. writers: the libraries
    that rebuild files, with their versions.
    """

    model: str
    numbers: str
    device: str
    backend: str
    precision: str | None
    torch: str
    writers: str


@dataclass(frozen=True)
class Container:
    """Files that were compressed together: the entry, blocks and extra bytes of each."""

    settings: CodingSettings
    entries: list[Entry] = field(default_factory=list)
    blocks: list[list[bytes]] = field(default_factory=list)
    extras: list[bytes] = field(default_factory=list)

    def pack(self) -> bytes:
        """The container as a file's content."""
        columns = {name: [getattr(entry, name) for entry in self.entries] for name in _COLUMNS}
        header = asdict(self.settings) | {"files": columns}
        text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode("utf-8")
        unpacked = _LENGTH.pack(len(text)) + text + b"".join(self.extras)
        packed = zstandard.ZstdCompressor(level=19, dict_data=_phrases()).compress(unpacked)
        payload = b"".join(block for blocks in self.blocks for block in blocks)
        return _FIXED.pack(MAGIC, VERSION, len(packed), zlib.crc32(packed), zlib.crc32(payload)) + packed + payload


def unpack(content: bytes) -> Container:
    """The inverse of `Container.pack`. Raises ValueError for a damaged or newer container, and for any other file."""
    if not content.startswith(MAGIC):
        raise ValueError("not a file compressed by megabyte-mm")
    if len(content) > len(MAGIC) and content[len(MAGIC)] != VERSION:
        raise ValueError(f"has format version {content[len(MAGIC)]}, and this megabyte-mm reads version {VERSION}")
    if len(content) < _FIXED.size:
        raise ValueError("damaged: the file is truncated")
    _, _, length, header_crc, payload_crc = _FIXED.unpack_from(content)
    packed, payload = content[_FIXED.size :][:length], content[_FIXED.size + length :]
    if len(packed) != length or zlib.crc32(packed) != header_crc:
        raise ValueError("damaged: the header does not match its checksum")
    if zlib.crc32(payload) != payload_crc:
        raise ValueError("damaged: the content does not match its checksum")
    try:
        return _read(_unpacked(packed), payload)
    except (zstandard.ZstdError, struct.error, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"damaged: the header is invalid ({type(error).__name__}: {error})") from error


def pack_block(data: bytes) -> tuple[str, bytes]:
    """The kind and the bytes of a block without the model: compressed by zstd if that is shorter, else stored."""
    packed = _zstd().compress(data)
    return (ZSTD, packed) if len(packed) < len(data) else (STORED, data)


def unpack_block(kind: str, block: bytes, length: int | None = None) -> bytes:
    """The inverse of `pack_block`. length: the bytes that must come out. Raises ValueError for another number."""
    data = block
    if kind == ZSTD:
        if length is not None and zstandard.frame_content_size(block) != length:
            raise ValueError("the length of a block differs from the one that was written")
        data = zstandard.ZstdDecompressor().decompress(block)
    elif kind != STORED:
        raise ValueError(f"a block of an unknown kind, {kind!r}")
    if length is not None and len(data) != length:
        raise ValueError("the length of a block differs from the one that was written")
    return data


@lru_cache(1)
def _zstd() -> zstandard.ZstdCompressor:
    """One compressor for all blocks: creating it takes longer than most blocks."""
    return zstandard.ZstdCompressor(level=19)


def _phrases() -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(_PHRASES, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _unpacked(packed: bytes) -> bytes:
    if not 0 <= zstandard.frame_content_size(packed) <= _FREE + _RATIO * len(packed):
        raise ValueError("the header would decompress to more than the allowed size")
    return zstandard.ZstdDecompressor(dict_data=_phrases()).decompress(packed)


def _read(header: bytes, payload: bytes) -> Container:
    start = _LENGTH.size
    (length,) = _LENGTH.unpack_from(header)
    settings = json.loads(header[start : start + length])
    columns = settings.pop("files")
    rows = zip(*(columns[name] for name in _COLUMNS), strict=True)
    entries = [Entry(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]
    for entry in entries:
        _check(entry)
    sizes = [size for entry in entries for size in entry.sizes]
    blocks = iter(_cut(payload, sizes))
    extras = _cut(header[start + length :], [entry.extra for entry in entries])
    return Container(
        CodingSettings(**settings), entries, [[next(blocks) for _ in entry.sizes] for entry in entries], extras
    )


def _cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Cut the bytes into pieces of these sizes. Raises ValueError unless they are exactly as many."""
    ends = list(accumulate(sizes, initial=0))
    if ends[-1] != len(data):
        raise ValueError(f"the sections have {len(data)} bytes, but the header lists {ends[-1]}")
    return [data[start:end] for start, end in pairwise(ends)]


def _check(entry: Entry) -> None:
    """Raise ValueError for an entry that `pack` never writes."""
    counts = (entry.size, entry.crc, entry.read_crc, entry.condition, entry.extra, *entry.lengths, *entry.sizes)
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        raise ValueError(f"{entry.name!r}: a count is negative or not an integer")
    if not len(entry.lengths) == len(entry.kinds) == len(entry.sizes) or set(entry.kinds) - {MODEL, STORED, ZSTD}:
        raise ValueError(f"{entry.name!r}: the lengths, kinds and sizes of its blocks disagree")
    for name in ("name", "modality", "kinds"):
        if not isinstance(getattr(entry, name), str):
            raise ValueError(f"{name} is not a string")
    if not isinstance(entry.recipe, dict) or not isinstance(entry.recipe.get("kind"), str):
        raise ValueError(f"{entry.name!r}: the recipe is missing")
