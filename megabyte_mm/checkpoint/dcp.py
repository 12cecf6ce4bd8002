"""Checkpoints that are folders: tensors in the shards of torch.distributed.checkpoint, everything else in one file.

Each rank writes the tensors that it holds, and any number of processes reads those that it needs. torch's own reader
unpickles the index of the shards, and runs whatever code was put into it; this one accepts only plain values and the
index's own classes (`safety`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from data_adapters import printable
from data_adapters.io import open_durable
from megabyte_mm.checkpoint.safety import DAMAGE, check_archive, unpickle_index

META_FILE = "meta.pt"
"""The file of everything but tensors, under the name that Lightning's sharded checkpoints use."""
TENSOR_INDEX = ".metadata"
"""The file with the location of each part of each tensor, which torch pickles."""

STATE_DICT, OPTIMIZER_STATES = "state_dict", "optimizer_states"
"""Entries of a checkpoint that hold tensors; in a folder, the prefixes of the tensors' names."""


def is_sharded_checkpoint(path: str | os.PathLike[str]) -> bool:
    """True for a folder of shards, complete or damaged."""
    return Path(path).is_dir() and (Path(path, TENSOR_INDEX).exists() or Path(path, META_FILE).exists())


def write_tensors(checkpoint: Mapping[str, Any], folder: Path) -> None:
    """Write this process's share of a checkpoint's tensors into an empty or new folder.

    All processes of the group must call it. The optimizer's moments have the names of parameters, as in
    `torch.distributed.checkpoint.state_dict`. Raises OSError on all processes if one fails.
    """
    tensors = {f"{STATE_DICT}.{name}": weight for name, weight in checkpoint[STATE_DICT].items()}
    for number, saved in enumerate(checkpoint.get(OPTIMIZER_STATES, [])):
        tensors.update(named_moments(number, saved["state"]))
    with _translate_errors(folder):
        save(tensors, storage_writer=_Writer(folder))


def write_meta(checkpoint: Mapping[str, Any], folder: Path) -> None:
    """Write everything but tensors; only one process calls it. Raises OSError."""
    meta = {key: value for key, value in checkpoint.items() if key not in (STATE_DICT, OPTIMIZER_STATES)}
    meta[OPTIMIZER_STATES] = [{"param_groups": saved["param_groups"]} for saved in checkpoint.get(OPTIMIZER_STATES, [])]
    with open_durable(folder / META_FILE) as file:
        torch.save(meta, file)


def named_moments(number: int, state: Mapping[str, Mapping[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of an optimizer's state, by name of parameter and kind, under their names in a folder."""
    for name, values in state.items():
        for kind, value in values.items():
            yield f"{OPTIMIZER_STATES}.{number}.{kind}.{name}", value


def read_sharded_checkpoint(path: str | os.PathLike[str], moments: bool = True) -> dict[str, Any]:
    """Read a folder in one process, as the entries of a file. moments: read those of the optimizer too.

    Raises ValueError for a damaged folder, and for any other.
    """
    checkpoint = read_meta(path)
    tensors = read_tensors(path, "" if moments else STATE_DICT)
    checkpoint[STATE_DICT] = {
        name.removeprefix(f"{STATE_DICT}."): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{STATE_DICT}.")
    }
    with _translate_errors(path):
        for number, saved in enumerate(checkpoint.get(OPTIMIZER_STATES, []) if moments else []):
            _number(saved, f"{OPTIMIZER_STATES}.{number}.", tensors)
    return checkpoint


def _number(saved: dict[str, Any], prefix: str, tensors: Mapping[str, Tensor]) -> None:
    """Replace the names of parameters in an optimizer's state and groups by numbers, as in a file."""
    numbers = {name: i for i, name in enumerate(name for group in saved["param_groups"] for name in group["params"])}
    for group in saved["param_groups"]:
        group["params"] = [numbers[name] for name in group["params"]]
    saved["state"] = {number: {} for number in numbers.values()}
    for key, tensor in tensors.items():
        if key.startswith(prefix):
            kind, name = key.removeprefix(prefix).split(".", 1)
            saved["state"][numbers[name]][kind] = tensor


def read_meta(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read everything but tensors. Raises ValueError for a damaged folder, and for any other."""
    try:
        with _open(path, META_FILE) as file:
            check_archive(file, Path(path, META_FILE).stat().st_size)
            meta = torch.load(file, map_location="cpu", weights_only=True)
    except (*DAMAGE, OSError) as error:
        raise ValueError(f"{os.fspath(path)}: not a checkpoint, or a damaged one") from error
    if not isinstance(meta, dict):
        raise ValueError(f"{os.fspath(path)}: not a checkpoint, or a damaged one")
    return meta


def read_into(tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Fill tensors by name, of a DTensor this process's share. Raises ValueError for one that the folder lacks."""
    with _translate_errors(path):
        load(dict(tensors), storage_reader=_Reader(path), planner=_TensorsOnly(), no_dist=True)


def read_tensors(path: str | os.PathLike[str], prefix: str = "") -> dict[str, Tensor]:
    """Read the complete tensors of this prefix, without a process group. Raises ValueError for a damaged folder."""
    with _translate_errors(path):
        index = _Reader(path).read_metadata().state_dict_metadata
        entries = {name: _tensor_entry(name, entry) for name, entry in index.items() if name.startswith(prefix)}
        _check_size(entries, Path(path))
        tensors = {
            name: torch.empty(entry.size, dtype=entry.properties.dtype, device="cpu") for name, entry in entries.items()
        }
    read_into(tensors, path)
    return tensors


def _tensor_entry(name: str, entry: Any) -> TensorStorageMetadata:
    if not isinstance(entry, TensorStorageMetadata):
        raise ValueError(f"{name} is not a tensor")
    return entry


def _open(folder: str | os.PathLike[str], name: str) -> IO[bytes]:
    if not Path(folder, name).is_file():  # opening a pipe would block until another process writes
        raise FileNotFoundError(f"there is no file {name}")
    return Path(folder, name).open("rb")


def _check_size(entries: Mapping[str, TensorStorageMetadata], folder: Path) -> None:
    """Raise ValueError for tensors that are larger than all files of the folder."""
    claimed = sum(prod(entry.size) * entry.properties.dtype.itemsize for entry in entries.values())
    if claimed > sum(file.stat().st_size for file in folder.iterdir()):
        raise ValueError("its index has more than its files can hold")


@contextmanager
def _translate_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn torch's errors into one line that names the folder."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # it is not needed
            yield
    except CheckpointException as error:  # of all ranks
        first, _ = next(iter(error.failures.values()))
        if isinstance(first, OSError) and not isinstance(first, FileNotFoundError):
            raise OSError(first.errno, first.strerror, os.fspath(path)) from error
        raise ValueError(f"{os.fspath(path)}: a damaged checkpoint ({printable(str(first))})") from error
    except (*DAMAGE, FileNotFoundError) as error:
        raise ValueError(f"{os.fspath(path)}: a damaged checkpoint ({printable(str(error))})") from error


class _Writer(FileSystemWriter):
    """torch's writer, without the folder's path in the index."""

    def storage_meta(self) -> StorageMeta:
        return StorageMeta()


class _Reader(FileSystemReader):
    """torch's reader, with a safe reading of the index."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with _open(self.path, TENSOR_INDEX) as file:
            index = unpickle_index(file.read())
        for storage in index.storage_data.values():
            if Path(storage.relative_path).name != storage.relative_path:
                raise ValueError(f"its index names the file {storage.relative_path}, outside the folder")
        return index

    def _slice_file(self, file: IO[bytes], sinfo: Any) -> IO[bytes]:
        """One tensor's part of a shard, in memory: zipfile cannot read torch's view of the file."""
        if not 0 <= sinfo.offset <= sinfo.offset + sinfo.length <= os.fstat(file.fileno()).st_size:
            raise ValueError("its index points beyond the end of a file")
        file.seek(sinfo.offset)
        part = BytesIO(file.read(sinfo.length))
        check_archive(part, sinfo.length)
        return part


class _TensorsOnly(DefaultLoadPlanner):
    """torch's planner, which would unpickle everything that is not a tensor."""

    def load_bytes(self, read_item: ReadItem, value: BytesIO) -> None:
        raise ValueError(f"{read_item.dest_index.fqn} is not a tensor")
