"""Small valid files of every kind: seeds of the fuzzer, and files for tests to damage."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
import soundfile
import zstandard
from PIL import Image, features

from data_adapters import ByteStream, TextAdapter, spec

_PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 4), dtype=np.uint8)
_MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("1", "L", "P"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "F"),
    "TGA": ("L", "LA", "P", "RGB", "RGBA"),
    "PPM": ("1", "L", "RGB", "I;16"),
    "ICO": ("RGBA",),
    "SGI": ("L", "RGB"),
    "PCX": ("1", "L", "P", "RGB"),
    "DDS": ("RGB", "RGBA"),
    "JPEG2000": ("L", "RGB"),
    "AVIF": ("RGB",),
}


@cache
def pictures() -> dict[str, bytes]:
    """Pictures by a descriptive name, without the formats that this Pillow cannot write."""
    missing = {kind for kind, feature in (("JPEG2000", "jpg_2000"), ("AVIF", "avif")) if not features.check(feature)}
    files = {
        f"{kind}-{mode}": _picture(kind, _in_mode(mode))
        for kind, modes in _MODES.items()
        if kind not in missing
        for mode in modes
    }
    rgb, frames = _in_mode("RGB"), [Image.new("L", (9, 6), value) for value in (0, 90, 200)]
    exif = Image.Exif()
    exif[0x0112] = 6
    return files | {
        "JPEG-progressive": _picture("JPEG", rgb, progressive=True, exif=exif),
        "PNG-described": _picture("PNG", rgb, icc_profile=bytes(200), exif=exif),
        "PNG-animated": _picture("PNG", frames[0], save_all=True, append_images=frames[1:]),
        "GIF-animated": _picture("GIF", frames[0], save_all=True, append_images=frames[1:]),
        "WEBP-animated": _picture("WEBP", rgb, save_all=True, append_images=[_in_mode("RGBA")]),
        "WEBP-lossless": _picture("WEBP", rgb, lossless=True),
        "TIFF-many": _picture("TIFF", frames[0], save_all=True, append_images=frames[1:]),
        "TIFF-lzw": _picture("TIFF", rgb, compression="tiff_lzw"),
        "TIFF-deflate": _picture("TIFF", rgb, compression="tiff_adobe_deflate"),
        "TGA-rle": _picture("TGA", rgb, compression="tga_rle"),
        "BMP-rle": _RLE_BMP,
    }


def _in_mode(mode: str) -> Image.Image:
    if mode in ("I;16", "I", "F"):
        deep = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        return Image.fromarray(_PIXELS[..., 0].astype(deep) * 3)
    image = Image.fromarray(_PIXELS)
    return image.convert("RGB").convert(mode) if mode in ("CMYK", "LAB") else image.convert(mode)


_RLE_BMP = (
    b"BM\x4c\0\0\0\0\0\0\0\x3e\0\0\0\x28\0\0\0\4\0\0\0\2\0\0\0\1\0\x08\0\1\0\0\0\x0e\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0"
    b"\0\0\0\0\0\0\0\0\xff\xff\xff\0\4\1\0\0\0\4\0\1\0\1\0\0\0\1"
)


def _picture(kind: str, image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@cache
def sounds() -> dict[str, bytes]:
    """Sounds by a descriptive name: every format and coding that libsndfile writes, some with six channels."""
    files = {}
    for kind in sorted(soundfile.available_formats().keys() - {"RAW", "SD2"}):  # without a header
        for coding in soundfile.available_subtypes(kind):
            if (content := _sound(kind, coding, channels=1)) is not None:
                files[f"{kind}-{coding}"] = content
    for kind, coding in (("WAV", "PCM_16"), ("WAVEX", "PCM_24"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")):
        six = _sound(kind, coding, channels=6)
        assert six is not None
        files[f"{kind}-{coding}-6"] = six
    return files


def _sound(kind: str, coding: str, channels: int) -> bytes | None:
    """The file, or None where libsndfile does not write it to memory."""
    frames = 2048 if kind == "MP3" else 64
    tone = np.sin(np.arange(frames * channels) / 3).reshape(frames, channels) / 2
    file = io.BytesIO()
    try:
        soundfile.write(file, tone, 8000, format=kind, subtype=coding)
    except (soundfile.LibsndfileError, ValueError):
        return None
    return file.getvalue()


def texts() -> dict[str, bytes]:
    """Texts by a descriptive name."""
    return {
        "plain": b"a line\nand another\n",
        "crlf": b"a line\r\nand another\r",
        "bom": b"\xef\xbb\xbfmarked",
        "nul": b"a\0b",
        "wide": "käse 日本 🧀".encode(),
        "cut": "käse 🧀".encode()[:-1],
        "latin": "käse".encode("latin-1"),
        "empty": b"",
    }


def checkpoint() -> bytes:
    """A checkpoint of a text model with a few hundred weights."""
    import torch

    from megabyte_mm.checkpoint import SPEC_KEY, make_spec
    from megabyte_mm.models import Megabyte, MegabyteConfig, StackConfig

    stack = StackConfig(dim=8, layers=1, heads=1)
    model = Megabyte(MegabyteConfig(patch_size=2, max_len=4, global_stack=stack, local_stack=stack, conditions=1))
    data = {"adapter": spec(TextAdapter()), "window": 4, "conditions": ["none"], "fixed_length": False}
    weights = {f"model.{name}": weight.half() for name, weight in model.state_dict().items()}
    file = io.BytesIO()
    torch.save({SPEC_KEY: make_spec(model, data), "state_dict": weights, "epoch": 0}, file)
    return file.getvalue()


CHECKPOINT_FILES = (".metadata", "meta.pt", "__0_0.distcp")
"""Files of a folder checkpoint written by one process."""


def packed_checkpoint() -> bytes:
    """The same checkpoint as a folder, packed into one byte string by `join`."""
    import torch

    from megabyte_mm.checkpoint.dcp import write_meta, write_tensors

    content = torch.load(io.BytesIO(checkpoint()), weights_only=True)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary, "tiny.ckpt")
        write_tensors(content, folder)
        write_meta(content, folder)
        return join([(folder / name).read_bytes() for name in CHECKPOINT_FILES])


def join(parts: list[bytes]) -> bytes:
    """Pack parts into one byte string, each after its length in 4 bytes."""
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


def split(content: bytes) -> list[bytes]:
    """Unpack the parts of `join`, also of a damaged string; always as many as a folder checkpoint has files."""
    parts = []
    for _ in CHECKPOINT_FILES:
        length = int.from_bytes(content[:4], "little")
        parts.append(content[4 : 4 + length])
        content = content[4 + length :]
    return parts


def unpack_checkpoint(content: bytes, folder: Path) -> None:
    """Write the folder of `packed_checkpoint`, whose bytes may have been changed."""
    folder.mkdir(exist_ok=True)
    for name, part in zip(CHECKPOINT_FILES, split(content), strict=True):
        (folder / name).write_bytes(part)


def packed_export() -> bytes:
    """The same model as `export` writes it, packed: the config in one line, then the weights."""
    import torch

    from megabyte_mm.checkpoint import SPEC_KEY, WEIGHT_PREFIX
    from megabyte_mm.checkpoint.exported import write_exported

    content = torch.load(io.BytesIO(checkpoint()), weights_only=True)
    weights = {name.removeprefix(WEIGHT_PREFIX): weight for name, weight in content["state_dict"].items()}
    with TemporaryDirectory() as folder:
        write_exported(Path(folder), content[SPEC_KEY] | {"training": {"steps": 3, "val_bpb": {"": 2.5}}}, weights)
        return pack_export(Path(folder))


def pack_export(folder: Path) -> bytes:
    """Pack the files of an export, without the digest, which would not match changed weights."""
    from megabyte_mm.checkpoint.exported import CONFIG_FILE, DIGEST, WEIGHTS_FILE

    config = json.loads((folder / CONFIG_FILE).read_bytes())
    del config[DIGEST]
    return json.dumps(config).encode() + b"\n" + (folder / WEIGHTS_FILE).read_bytes()


def unpack_export(content: bytes, folder: Path) -> None:
    """Write the folder of `pack_export`, whose bytes may have been changed."""
    from megabyte_mm.checkpoint.exported import CONFIG_FILE, WEIGHTS_FILE

    folder.mkdir(exist_ok=True)
    config, _, weights = content.partition(b"\n")
    (folder / CONFIG_FILE).write_bytes(config)
    (folder / WEIGHTS_FILE).write_bytes(weights)


def shard_folder() -> dict[str, bytes]:
    """Files of a shard folder of three records, by name."""
    from megabyte_mm.data.storage.shard_writer import ShardWriter, write_index

    with TemporaryDirectory() as folder:
        writer = ShardWriter(Path(folder), shard_bytes=16)
        for name, content in (("a.txt", b"first"), ("b.txt", b""), ("c.md", b"the third")):
            writer.add(name, ByteStream(np.frombuffer(content, np.uint8), TextAdapter().default_format()), "text")
        write_index(Path(folder), writer.finish(adapter=spec(TextAdapter())))
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def pack_shards(files: dict[str, bytes]) -> bytes:
    """Pack a shard folder of one shard: a line with the index, then the shard."""
    return files["index.json"] + b"\n" + files["shard-00000.bin"]


def unpack_shards(content: bytes, folder: Path) -> None:
    """Write the folder of `pack_shards`, whose bytes may have been changed."""
    index, _, shard = content.partition(b"\n")
    (folder / "index.json").write_bytes(index)
    (folder / "shard-00000.bin").write_bytes(shard)


CONTAINERS = (
    "a.zip", "a.tar", "a.tar.gz", "a.txt.gz", "a.txt.zst", "a.jsonl", "a.csv", "a.npz", "a.npy", "a-idx3-ubyte",
    "a.parquet", "metadata.csv", "metadata.jsonl", "val_list.txt",
)  # fmt: skip
"""Names of the files that `containers` are the content of."""


@cache
def containers() -> dict[str, bytes]:
    """Archives, tables, arrays and lists, each behind the number of its name in CONTAINERS."""
    members = {"train/a.txt": b"a text", "val/b.txt": b"another"}
    pixels = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
    tar, rows = _tar(members), [{"text": "a text", "label": 1}, {"text": "another", "label": 2}]
    files = {
        "a.zip": _zip(members),
        "a.tar": tar,
        "a.tar.gz": gzip.compress(tar, mtime=0),
        "a.txt.gz": gzip.compress(b"a text", mtime=0),
        "a.txt.zst": zstandard.compress(b"a text"),
        "a.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in rows),
        "a.csv": b'text,label\na text,1\n"another, in\nlines",2\n',
        "a.npz": _saved(lambda file: np.savez(file, x_train=pixels, y_train=np.array([0, 1]))),
        "a.npy": _saved(lambda file: np.save(file, pixels)),
        "a-idx3-ubyte": bytes((0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4)) + pixels.tobytes(),
        "a.parquet": _parquet(rows),
        "metadata.csv": b"file_name,label\na.txt,cat\nb.txt,dog\n",
        "metadata.jsonl": b'{"file_name": "a.txt", "label": "cat"}\n{"file_name": "b.txt", "label": 2}\n',
        "val_list.txt": b"a.txt\n",
    }
    return {name: bytes([CONTAINERS.index(name)]) + content for name, content in files.items()}


def _saved(save: Callable[[IO[bytes]], object]) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for name, content in members.items():
            zipped.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def _tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    return _saved(lambda file: pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file))
