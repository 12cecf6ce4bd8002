"""Pictures in arrays (.npz, .npy, idx) as PNG files, in folders of their splits and classes."""

from __future__ import annotations

import gzip
import re
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from megabyte_mm.data.fetched import check_room
from megabyte_mm.data.splits import class_folder, split_in_words
from megabyte_mm.errors import FieldError

SUFFIXES = (".npz", ".npy", "idx3-ubyte", "idx3-ubyte.gz")
LABELS = ("idx1-ubyte", "idx1-ubyte.gz")
"""The ends of the names of files that hold the labels of others."""
_DAMAGE = (
    *(ValueError, TypeError, LookupError, ArithmeticError, MemoryError, EOFError, OSError, RuntimeError),
    *(SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
"""Errors that reading a damaged file raises; the header of an array is a literal of Python."""
_IN_MEMORY = 2**20
"""Bytes of a packed array above which it is unpacked onto the disk, and of what is copied there at a time."""
_LABEL_KEYS = ("labels", "label", "y", "targets")


def unpack_arrays(path: str, file: Path, folder: Path, on_bytes: Callable[[int], object]) -> None:
    """Write the pictures of a file: (N, H, W) or (N, H, W, C) uint8, or (N, 3 * H * W), the channels one by one.

    Labels, where there are some, are class folders. path: for messages. Raises FieldError where there are no pictures.
    """
    with TemporaryDirectory(dir=folder, prefix=".arrays-", ignore_cleanup_errors=True) as scratch:
        arrays = _read(path, file, Path(scratch))
        keys = [key for key, array in arrays.items() if _may_be_pictures(array)]
        if not keys:
            found = ", ".join(f"{key} {array.dtype} {array.shape}" for key, array in arrays.items())
            raise FieldError(
                "path", f"{path}: holds no pictures, (N, H, W) or (N, H, W, 3) uint8, but {found or 'nothing'}"
            )
        for key in keys:
            labels = _labels_of(path, key, arrays)
            below = folder / (split_in_words(key) or class_folder(key)) if len(keys) > 1 else folder
            for pixels in _write(path, file, key, arrays[key], labels, below):
                check_room(path, folder, pixels)
                on_bytes(pixels)


def _may_be_pictures(array: NDArray[Any]) -> bool:
    """False for labels, also for those in a column, as Keras has them."""
    is_table = array.ndim == 2 and array.shape[1] > 1
    return array.dtype == np.uint8 and array.size > 0 and (array.ndim > 2 or is_table)


def _read(path: str, file: Path, scratch: Path) -> Mapping[str, NDArray[Any]]:
    """The arrays of a file by their names; large ones stay on the disk, unpacked into a folder that must outlive them.

    Raises FieldError for a file that is damaged, or would run code, and where the disk has no room.
    """
    try:
        if file.name.lower().endswith(SUFFIXES[2:]):
            beside = file.with_name(file.name.replace("idx3", "idx1").replace("images", "labels"))
            arrays = {"images": _read_idx(path, file, scratch / "images")}
            if beside != file and beside.is_file():
                arrays["labels"] = _read_idx(path, beside, scratch / "labels")
            return arrays
        if file.suffix.lower() == ".npy":
            return {"images": np.lib.format.open_memmap(file, mode="r")}
        with zipfile.ZipFile(file) as zipped:
            members = [info for info in zipped.infolist() if info.filename.endswith(".npy")]
            return {
                info.filename.removesuffix(".npy"): _read_member(path, zipped, info, scratch / str(number))
                for number, info in enumerate(members)
            }
    except FieldError:
        raise
    except _DAMAGE as error:
        raise FieldError("path", f"{path}: {file.name} cannot be read: {error}") from error


def _read_member(path: str, zipped: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> NDArray[Any]:
    with zipped.open(info) as member:
        if info.file_size <= _IN_MEMORY:
            array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
            return array
        _copy(path, member, target)
    mapped: NDArray[Any] = np.lib.format.open_memmap(target, mode="r")
    return mapped


def _read_idx(path: str, file: Path, target: Path) -> NDArray[np.uint8]:
    """An array in the format of MNIST. Raises ValueError for anything else."""
    if file.suffix == ".gz":
        with gzip.open(file) as packed:
            _copy(path, packed, target)
        file = target
    with file.open("rb") as opened:
        start = opened.read(4)
        is_idx = len(start) == 4 and start[:3] == b"\0\0\x08"
        sizes = opened.read(4 * start[3]) if is_idx else b""
    if not is_idx or len(sizes) < 4 * start[3]:
        raise ValueError("it is no idx file of bytes")
    shape = np.frombuffer(sizes, ">u4").tolist()
    mapped: NDArray[np.uint8] = np.memmap(file, np.uint8, "r", offset=4 + 4 * start[3]).reshape(shape)
    return mapped


def _copy(path: str, content: IO[bytes] | gzip.GzipFile, target: Path) -> None:
    with target.open("xb") as file:
        while chunk := content.read(_IN_MEMORY):
            check_room(path, target.parent.parent, len(chunk))
            file.write(chunk)


def _labels_of(path: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
    """The array with a label for each picture of another: y_train of x_train, or the only labels."""
    candidates = [re.sub("x|data|images", name, key, count=1) for name in ("y", "labels")] + list(_LABEL_KEYS)
    for name in candidates:
        labels = arrays.get(name)
        only = sum(map(_may_be_pictures, arrays.values())) == 1
        if only and name != key and labels is not None and labels.ndim and labels.size != len(arrays[key]):
            reason = f"{len(arrays[key])} pictures in {key}, and {labels.size} labels in {name}"
            raise FieldError("path", f"{path}: holds {reason}")
        if name != key and labels is not None and labels.size == len(arrays[key]) and labels.dtype.kind in "iuUS":
            return labels.reshape(-1)
    return None


def _write(
    path: str, file: Path, key: str, array: NDArray[np.uint8], labels: NDArray[Any] | None, folder: Path
) -> Iterator[int]:
    """Yield the bytes of each picture in front of writing it."""
    stem = file.name.partition(".")[0]  # several files of one split are unpacked into one folder
    for number, pixels in enumerate(_pictures(path, key, array)):
        label = "" if labels is None else labels[number]
        name = label.decode() if isinstance(label, bytes) else str(label)
        target = folder / class_folder(name) / f"{stem}-{number:08d}.png"
        if target.exists():
            raise FieldError("path", f"{path}: two files called {file.name} have pictures of one name: rename one")
        yield pixels.nbytes
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target, compress_level=1)


def _pictures(path: str, key: str, array: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """(H, W) or (H, W, C) each. Raises FieldError for a shape that is no picture's."""
    if array.ndim == 2:  # as ImageNet32 and CIFAR-10 come
        side = round((array.shape[1] / 3) ** 0.5)
        if 3 * side * side == array.shape[1]:
            yield from (row.reshape(3, side, side).transpose(1, 2, 0).copy() for row in array)
            return
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim == 3 and array.shape[2] in (3, 4) and min(array.shape[:2]) >= 8:
        reason = f"{key} has the shape {array.shape}, of one picture in colour: pictures are (N, H, W) or (N, H, W, 3)"
        raise FieldError("path", f"{path}: {reason}")
    if not array.size:
        raise FieldError("path", f"{path}: {key} has the shape {array.shape}, of pictures without pixels")
    if array.ndim == 3 or (array.ndim == 4 and array.shape[3] in (3, 4)):
        yield from (np.ascontiguousarray(pixels) for pixels in array)
        return
    raise FieldError("path", f"{path}: {key} has the shape {array.shape}; pictures are (N, H, W) or (N, H, W, 3)")
