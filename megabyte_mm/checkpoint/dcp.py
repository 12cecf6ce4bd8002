"""Checkpoints that are folders: tensors in shards as torch.distributed.checkpoint keeps them, all else in one file.

What a rank holds is written by that rank, and any number of processes, a lone one too, read of it what they need.
torch's own reader unpickles the table of the shards, and with it whatever code a stranger has put there; this one
admits plain values and the table's own classes alone.
"""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
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
from megabyte_mm.checkpoint.safety import check_pickle, is_plain_archive

META_FILE = "meta.pt"
"""The file of all that is no tensor; Lightning's sharded checkpoints call it so too."""
TENSOR_INDEX = ".metadata"
"""The file that says which shard holds which part of which tensor."""

WEIGHTS, OPTIMIZER_STATE = "state_dict", "optimizer_states"
"""Entries of a checkpoint that hold tensors; in a folder, what the tensors' names begin with."""

DAMAGE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
)
"""What unpickling and torch raise on a table or a shard with other bytes than were written."""

ADMITTED = {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("collections", "OrderedDict"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    *(
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            "BytesStorageMetadata",
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "StorageMeta",
            "TensorProperties",
            "TensorStorageMetadata",
            "_MEM_FORMAT_ENCODING",
        )
    ),
}
"""All that the table is made of beside plain values and dtypes; none of it does anything when it is made."""


def is_sharded_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether this is such a folder, whole or damaged."""
    return Path(path).is_dir() and (Path(path, TENSOR_INDEX).exists() or Path(path, META_FILE).exists())


def write_tensors(checkpoint: Mapping[str, Any], folder: Path) -> None:
    """Write this process's part of the tensors of a checkpoint.

    All processes of the group must ask, for a folder that is empty or not there. Moments go by the names of parameters,
    as of `torch.distributed.checkpoint.state_dict`. Raises OSError on all processes, where one of them cannot.
    """
    tensors = {f"{WEIGHTS}.{name}": weight for name, weight in checkpoint[WEIGHTS].items()}
    for number, saved in enumerate(checkpoint.get(OPTIMIZER_STATE, [])):
        tensors.update(named_moments(number, saved["state"]))
    with _translate_errors(folder):
        save(tensors, storage_writer=_Writer(folder))


def write_meta(checkpoint: Mapping[str, Any], folder: Path) -> None:
    """Write what is no tensor, which is for one process alone. Raises OSError."""
    rest = {key: value for key, value in checkpoint.items() if key not in (WEIGHTS, OPTIMIZER_STATE)}
    rest[OPTIMIZER_STATE] = [{"param_groups": saved["param_groups"]} for saved in checkpoint.get(OPTIMIZER_STATE, [])]
    with open_durable(folder / META_FILE) as file:
        torch.save(rest, file)


def named_moments(number: int, state: Mapping[str, Mapping[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of an optimizer, by name of parameter and kind, under the names that they have in a folder."""
    for name, values in state.items():
        for kind, value in values.items():
            yield f"{OPTIMIZER_STATE}.{number}.{kind}.{name}", value


def read_sharded_checkpoint(path: str | os.PathLike[str], moments: bool = True) -> dict[str, Any]:
    """The checkpoint as a file would hold it, read by one process alone; without moments only the weights' tensors.

    Raises ValueError for a folder that is no such checkpoint, or a damaged one.
    """
    checkpoint = read_meta(path)
    tensors = read_tensors(path, "" if moments else WEIGHTS)
    checkpoint[WEIGHTS] = {
        name.removeprefix(f"{WEIGHTS}."): tensor for name, tensor in tensors.items() if name.startswith(f"{WEIGHTS}.")
    }
    with _translate_errors(path):
        for number, saved in enumerate(checkpoint.get(OPTIMIZER_STATE, []) if moments else []):
            _number(saved, f"{OPTIMIZER_STATE}.{number}.", tensors)
    return checkpoint


def _number(saved: dict[str, Any], prefix: str, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimizer's state and groups the numbers that a file has for parameters, in the order of the groups."""
    numbers = {name: i for i, name in enumerate(name for group in saved["param_groups"] for name in group["params"])}
    for group in saved["param_groups"]:
        group["params"] = [numbers[name] for name in group["params"]]
    saved["state"] = {number: {} for number in numbers.values()}
    for place, tensor in tensors.items():
        if place.startswith(prefix):
            kind, name = place.removeprefix(prefix).split(".", 1)
            saved["state"][numbers[name]][kind] = tensor


def read_meta(path: str | os.PathLike[str]) -> dict[str, Any]:
    """All that is no tensor. Raises ValueError for a folder that is no such checkpoint."""
    try:
        with _open(path, META_FILE) as file:
            _check_archive(file, Path(path, META_FILE).stat().st_size)
            rest = torch.load(file, map_location="cpu", weights_only=True)
    except (*DAMAGE, OSError) as error:
        raise ValueError(f"{os.fspath(path)}: not a checkpoint, or a damaged one") from error
    if not isinstance(rest, dict):
        raise ValueError(f"{os.fspath(path)}: not a checkpoint, or a damaged one")
    return rest


def read_into(tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Fill these tensors by name, of a DTensor the part that is here. Raises ValueError where one is not there."""
    with _translate_errors(path):
        load(dict(tensors), storage_reader=_Reader(path), planner=_TensorsOnly(), no_dist=True)


def read_tensors(path: str | os.PathLike[str], prefix: str = "") -> dict[str, Tensor]:
    """The whole tensors whose names begin so, without a process group. Raises ValueError for a damaged folder."""
    with _translate_errors(path):
        table = _Reader(path).read_metadata().state_dict_metadata
        wanted = {name: _tensor(name, found) for name, found in table.items() if name.startswith(prefix)}
        _check_size(wanted, Path(path))
        tensors = {
            name: torch.empty(found.size, dtype=found.properties.dtype, device="cpu") for name, found in wanted.items()
        }
    read_into(tensors, path)
    return tensors


def _tensor(name: str, found: Any) -> TensorStorageMetadata:
    if not isinstance(found, TensorStorageMetadata):
        raise ValueError(f"{name} is no tensor")
    return found


def _open(folder: str | os.PathLike[str], name: str) -> IO[bytes]:
    if not Path(folder, name).is_file():  # opening a pipe would wait for somebody who writes
        raise FileNotFoundError(f"there is no file {name}")
    return Path(folder, name).open("rb")


def _check_archive(file: IO[bytes], size: int) -> None:
    if not is_plain_archive(file, size):
        raise ValueError("what it holds unpacks to more than is there")
    file.seek(0)


def _check_size(wanted: Mapping[str, TensorStorageMetadata], folder: Path) -> None:
    """Raise ValueError where tensors are said to be larger than the files that hold them."""
    said = sum(prod(found.size) * found.properties.dtype.itemsize for found in wanted.values())
    if said > sum(file.stat().st_size for file in folder.iterdir()):
        raise ValueError("its table names more than its files can hold")


@contextmanager
def _translate_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Make of what torch raises one line that names the folder, or the file that could not be written."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # nor is it needed
            yield
    except CheckpointException as error:  # of all ranks
        first, _ = next(iter(error.failures.values()))
        if isinstance(first, OSError) and not isinstance(first, FileNotFoundError):
            raise OSError(first.errno, first.strerror, os.fspath(path)) from error
        raise ValueError(f"{os.fspath(path)}: a damaged checkpoint ({printable(str(first))})") from error
    except (*DAMAGE, FileNotFoundError) as error:
        raise ValueError(f"{os.fspath(path)}: a damaged checkpoint ({printable(str(error))})") from error


class _Writer(FileSystemWriter):
    """torch's writer, but the table does not say where the folder lay."""

    def storage_meta(self) -> StorageMeta:
        return StorageMeta()


class _Reader(FileSystemReader):
    """torch's reader, but for the table."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with _open(self.path, TENSOR_INDEX) as file:
            content = file.read()
        check_pickle(content)
        table = _Unpickler(BytesIO(content)).load()
        if not isinstance(table, Metadata):
            raise ValueError("its table is none")
        for place in table.storage_data.values():
            if Path(place.relative_path).name != place.relative_path:
                raise ValueError(f"its table names the file {place.relative_path}, outside")
        return table

    def _slice_file(self, file: IO[bytes], sinfo: Any) -> IO[bytes]:
        """One tensor's part of a shard, in memory: zipfile cannot read torch's view of it."""
        if not 0 <= sinfo.offset <= sinfo.offset + sinfo.length <= os.fstat(file.fileno()).st_size:
            raise ValueError("its table points beyond the end of a file")
        file.seek(sinfo.offset)
        part = BytesIO(file.read(sinfo.length))
        _check_archive(part, sinfo.length)
        return part


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if (module, name) in ADMITTED or is_dtype:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"its table names {module}.{name}, which belongs in none")


class _TensorsOnly(DefaultLoadPlanner):
    """torch's planner, which would unpickle anything that is no tensor."""

    def load_bytes(self, read_item: ReadItem, value: BytesIO) -> None:
        raise ValueError(f"{read_item.dest_index.fqn} is no tensor")
