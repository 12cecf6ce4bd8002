"""Fuzz targets: for each a check of arbitrary bytes, seed files, and a mutator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image

from data_adapters import Adapter, AudioAdapter, FileAdapter, ImageAdapter, TextAdapter
from fuzz import contracts, seeds
from fuzz.mutators import (
    Change,
    mutate_checkpoint,
    mutate_exported,
    mutate_picture,
    mutate_sharded,
    mutate_shards,
    mutate_sound,
)

_IMAGE = (
    ImageAdapter(scan="raster"),
    ImageAdapter("L", patch=3),
    ImageAdapter(size=(8, 8)),
    ImageAdapter("L", size=(12, 4), fit="resize"),
)
_AUDIO = (
    AudioAdapter(),
    AudioAdapter(container="flac"),
    AudioAdapter(encoding="mulaw"),
    AudioAdapter(encoding="pcm8", container="flac"),
    AudioAdapter(rate=8000, channels=1),
    AudioAdapter(channels=2),
)


class Target(NamedTuple):
    """check: raises unless a contract holds for the bytes, using a folder for files. memory: MiB that it may use."""

    check: Callable[[bytes, Path], None]
    seeds: Callable[[], dict[str, bytes]]
    mutate: Callable[[bytes, int, Change], bytes] | None = None
    max_len: int = 4096
    memory: int = 1024


_PIXELS = 2**20
"""In place of Pillow's limit of 90 million, so that the fuzzer runs many small pictures and not a few slow ones."""


def _image(content: bytes, folder: Path) -> None:
    Image.MAX_IMAGE_PIXELS = _PIXELS
    _reader(_IMAGE, ".png")(content, folder)


def _reader(adapters: tuple[Adapter, ...], suffix: str) -> Callable[[bytes, Path], None]:
    def check(content: bytes, folder: Path) -> None:
        path = folder / f"input{suffix}"
        path.write_bytes(content)
        # The length selects the adapter, so that an input is simply a file.
        contracts.check_reader(adapters[len(content) % len(adapters)], path)

    return check


def _scans(content: bytes, folder: Path) -> None:
    source = np.random.default_rng(list(content))  # the scans have no branches to guide the fuzzer
    height, width, patch = (int(side) for side in source.integers((0, 0, 1), (48, 48, 13)))
    channels = int(source.choice((1, 3)))
    pixels = source.integers(0, 256, height * width * channels, dtype=np.uint8)
    contracts.check_scans(pixels, height, width, channels, patch)


def _checkpoint(content: bytes, folder: Path) -> None:
    (folder / "input.ckpt").write_bytes(content)
    with contracts.no_code_runs():
        contracts.check_checkpoint(folder / "input.ckpt")


def _sharded(content: bytes, folder: Path) -> None:
    seeds.unpack_checkpoint(content, folder / "input.ckpt")
    with contracts.no_code_runs():
        contracts.check_checkpoint(folder / "input.ckpt")


def _exported(content: bytes, folder: Path) -> None:
    seeds.unpack_export(content, folder / "exported")
    with contracts.no_code_runs():
        contracts.check_checkpoint(folder / "exported")


def _shards(content: bytes, folder: Path) -> None:
    seeds.unpack_shards(content, folder)
    contracts.check_shards(folder)


def _containers(content: bytes, folder: Path) -> None:
    kinds = list(seeds.CONTAINERS)
    name = kinds[content[0] % len(kinds)] if content else kinds[0]  # the first byte selects the format
    with TemporaryDirectory(dir=folder) as below:
        data = Path(below, "data")
        data.mkdir()
        (data / name).write_bytes(content[1:])
        if not name.startswith("a"):  # it describes the files beside it
            (data / "a.txt").write_bytes(b"a text")
            (data / "b.txt").write_bytes(b"another")
        contracts.check_container(data, Path(below, "cache"))


TARGETS = {
    "image": Target(_image, seeds.pictures, mutate_picture),
    "audio": Target(_reader(_AUDIO, ".wav"), seeds.sounds, mutate_sound, max_len=16384),
    "text": Target(_reader((TextAdapter(),), ".txt"), seeds.texts),
    "file": Target(_reader((FileAdapter(),), ".bin"), seeds.texts),
    "scans": Target(_scans, lambda: {"some": bytes(range(64))}, max_len=64),
    "checkpoint": Target(_checkpoint, lambda: {"tiny": seeds.checkpoint()}, mutate_checkpoint, max_len=65536),
    "sharded": Target(_sharded, lambda: {"tiny": seeds.packed_checkpoint()}, mutate_sharded, max_len=131072),
    "exported": Target(_exported, lambda: {"tiny": seeds.packed_export()}, mutate_exported, max_len=65536),
    "shards": Target(_shards, lambda: {"small": seeds.pack_shards(seeds.shard_folder())}, mutate_shards),
    "containers": Target(_containers, seeds.containers, max_len=8192),
}
