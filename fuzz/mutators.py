"""Mutations that pass the first checks: checksums are corrected, and values are changed inside containers.

Each takes bytes, a seed, and `change`, the fuzzer's own mutation of bytes. The result need not be valid.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from fuzz.seeds import join, split
from megabyte_mm.data.storage.shards import encode_index

Change = Callable[[bytes], bytes]

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 10**9, 2**31, 2**63, -(2**63), 10**30, 0.5, float("nan"), float("inf"), -0.0),
    *("", "none", "text", "image", "../x", "/dev/zero", "a\0b", "\ud800", "a\nb", [], {}, [[]], ["none"], {"": None}),
)
"""Values to put where others are expected."""


def mutate_picture(content: bytes, seed: int, change: Change) -> bytes:
    """A changed picture; half of the PNGs with corrected checksums."""
    return fix_png_checksums(change(content)) if seed % 2 else change(content)


def mutate_sound(content: bytes, seed: int, change: Change) -> bytes:
    """A changed sound; half of the Ogg files with corrected checksums."""
    return fix_ogg_checksums(change(content)) if seed % 2 else change(content)


def mutate_checkpoint(content: bytes, seed: int, change: Change) -> bytes:
    """A checkpoint with an odd value, a changed archive member, or an arbitrary change."""
    source = random.Random(seed)
    try:
        match source.randrange(4):
            case 0 | 1:
                return _with_odd_entry(content, source)
            case 2:
                return _with_changed_member(content, source, change)
    except Exception:  # noqa: BLE001 - the content may be damaged in any way
        return change(content)
    return change(content)


def mutate_sharded(content: bytes, seed: int, change: Change) -> bytes:
    """A packed folder checkpoint with one changed file, most often the tensor index."""
    source, parts = random.Random(seed), split(content)
    chosen = source.choice((0, 0, 1, 2))
    change_part = mutate_checkpoint if chosen == 1 else lambda part, _, change: change(part)
    parts[chosen] = change_part(parts[chosen], seed, change)
    return join(parts)


def mutate_exported(content: bytes, seed: int, change: Change) -> bytes:
    """A packed export with an odd value in its config, changed weights, or an arbitrary change."""
    source = random.Random(seed)
    config, newline, weights = content.partition(b"\n")
    try:
        match source.randrange(3):
            case 0:
                return json.dumps(with_odd_leaf(json.loads(config), source)).encode() + newline + weights
            case 1:
                return config + newline + change(weights)
    except (ValueError, RecursionError):  # the content may no longer be JSON
        return change(content)
    return change(content)


def mutate_shards(content: bytes, seed: int, change: Change) -> bytes:
    """A packed shard folder with an odd value in its index (with a valid checksum), or an arbitrary change."""
    index, newline, shard = content.partition(b"\n")
    try:
        values = {key: value for key, value in json.loads(index).items() if key not in ("format", "version", "sha256")}
    except (ValueError, AttributeError):
        return change(content)
    changed = with_odd_leaf(values, random.Random(seed))
    if seed % 3 == 0 or not isinstance(changed, dict):
        return change(content)
    return encode_index(changed) + newline + shard


def with_odd_leaf(values: Any, source: random.Random) -> Any:
    """Copy nested plain values with one value or container replaced, repeated or removed."""
    if not isinstance(values, dict | list) or not values or source.random() < 0.1:
        return source.choice(ODD)
    changed: Any = values.copy()
    key: Any = source.choice(list(values)) if isinstance(values, dict) else source.randrange(len(values))
    if source.random() < 0.1:
        del changed[key]
    elif isinstance(values, list) and source.random() < 0.1:
        changed.append(values[key])
    else:
        changed[key] = with_odd_leaf(values[key], source)
    return changed


def _with_odd_entry(content: bytes, source: random.Random) -> bytes:
    import torch

    checkpoint = torch.load(io.BytesIO(content), weights_only=True)
    entry = "state_dict" if "state_dict" in checkpoint and source.random() < 0.2 else "megabyte_mm"
    checkpoint[entry] = with_odd_leaf(dict(checkpoint[entry]), source)
    file = io.BytesIO()
    torch.save(checkpoint, file)
    return file.getvalue()


def _with_changed_member(content: bytes, source: random.Random, change: Change) -> bytes:
    """Rewrite the archive with one changed member, so that its checksums are correct."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    chosen = next((name for name in members if name.endswith("data.pkl")), "")
    if not chosen or source.random() < 0.3:
        chosen = source.choice(list(members))
    members[chosen] = change(members[chosen])
    file = io.BytesIO()
    kind = source.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return file.getvalue()


def fix_png_checksums(content: bytes) -> bytes:
    """Correct the checksum of each chunk, as far as chunks can be parsed."""
    fixed, at = bytearray(content), 8
    while content[:4] == b"\x89PNG" and at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        if end + 4 > len(content):
            break
        fixed[end : end + 4] = zlib.crc32(content[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(fixed)


def fix_ogg_checksums(content: bytes) -> bytes:
    """Correct the checksum of each page, as far as pages can be parsed."""
    fixed, at = bytearray(content), content.find(b"OggS")
    while at >= 0 and at + 27 <= len(content):
        segments = content[at + 27 : at + 27 + content[at + 26]]
        end = at + 27 + len(segments) + sum(segments)
        fixed[at + 22 : at + 26] = bytes(4)
        fixed[at + 22 : at + 26] = _ogg_checksum(fixed[at:end]).to_bytes(4, "little")
        at = content.find(b"OggS", max(end, at + 4))
    return bytes(fixed)


def _ogg_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
        table.append(value)
    return table


_OGG_TABLE = _ogg_table()


def _ogg_checksum(page: bytes | bytearray) -> int:
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ _OGG_TABLE[value >> 24 ^ byte]
    return value
