"""Checks of checkpoints that anybody may have written: no code runs, and nothing takes more memory than the files do.

Archives and pickles are checked before they are unpickled, the index of a folder of shards is unpickled with its own
classes alone, and specs and weights are compared before a model is built. Callers add the file's name to the errors.
"""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from io import BytesIO
from typing import IO, Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata

from megabyte_mm.checkpoint.bundle import SPEC_VERSION, Modality
from megabyte_mm.models import ModelConfig, StackConfig

DAMAGE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    *(ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, MemoryError),
    *(RuntimeError, TypeError, ValueError),
)
"""Errors of torch and pickle for damaged files; the list comes from fuzzing."""

NOT_FINITE = "its weights are not finite: its training has diverged; take an earlier checkpoint"

MAX_WINDOW = 2**28
"""Symbols in a window: far more than anybody trains, and far fewer than fill the memory."""

_MEMO_OPCODES = ("PUT", "BINPUT", "LONG_BINPUT")
"""Opcodes whose argument is an index into a list, which Python's unpickler makes that long at once."""

_INDEX_CLASSES = {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("collections", "OrderedDict"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    *(
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            *("BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta"),
            *("TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING"),
        )
    ),
}
"""Classes of an index beside plain values and dtypes; constructing them has no effect."""


# Archives and pickles


def is_plain_archive(file: IO[bytes], size: int) -> bool:
    """True for a file of that size that is an archive as torch.save writes it, with the contents that were written.

    Nothing in it unpacks to more than its size. Its checksums take a second for each gigabyte. Raises OSError and
    BadZipFile.
    """
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if compressed or sum(member.file_size for member in members) > size or archive.testzip() is not None:
            return False
        pickles = [archive.read(member) for member in members if member.filename.endswith("data.pkl")]
    # torch lets a pickle request a bytearray of any size.
    return not any(b"\nbytearray\n" in content for content in pickles)


def check_archive(file: IO[bytes], size: int) -> None:
    """Raise ValueError unless it is a plain archive, and rewind it."""
    if not is_plain_archive(file, size):
        raise ValueError("the archive is compressed, or its entries exceed its size")
    file.seek(0)


def check_pickle(content: bytes) -> None:
    """Raise UnpicklingError or ValueError for a pickle that would take more memory than its size.

    Python's unpickler trusts an index of its memo, a frame and the length of a bytearray before it reads further.
    """
    for opcode, argument, _ in pickletools.genops(content):  # which raises for a length beyond the end
        if opcode.name in (*_MEMO_OPCODES, "FRAME") and isinstance(argument, int) and argument > len(content):
            raise pickle.UnpicklingError(f"a pickle of {len(content)} bytes that requests {argument} positions")


def unpickle_index(content: bytes) -> Metadata:
    """Unpickle the index of a folder of shards without running code. Raises any of DAMAGE."""
    check_pickle(content)
    index = _IndexUnpickler(BytesIO(content)).load()
    if not isinstance(index, Metadata):
        raise ValueError("not an index of torch.distributed.checkpoint")
    return index


class _IndexUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if (module, name) in _INDEX_CLASSES or is_dtype:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"an index with {module}.{name}, which is not allowed")


# Specs and weights


def check_format(written: Any) -> None:
    """Raise ValueError for a format that this version cannot read."""
    if isinstance(written, bool) or not isinstance(written, int) or written < 1:
        raise ValueError(f"a damaged checkpoint: its format is {written!r}")
    if written > SPEC_VERSION:
        raise ValueError(f"written by a newer megabyte-mm (format {written}); upgrade to read it")


def check_data(data: Mapping[str, Any], config: ModelConfig) -> None:
    """Raise ValueError, naming the entry, unless the data's spec is one that training writes for this model."""
    window, conditions = data["window"], data["conditions"]
    if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= MAX_WINDOW:
        raise ValueError(f"its window is {window!r}; it must be a whole number from 1 to {MAX_WINDOW}")
    if config.max_len != window:
        raise ValueError(f"its window is {window} and its model's max_len {config.max_len}; they must be equal")
    are_names = isinstance(conditions, list) and all(isinstance(name, str) for name in conditions)
    if not are_names or len(conditions) != (config.conditions or 1):
        raise ValueError(f"its conditions {conditions!r} are not the {config.conditions} names that its model knows")
    if "sources" in data:
        names = [*data["sources"]]
        parts = getattr(config, "orders", None) or [(), *((number,) for number in range(len(names)))]
        if any(part >= len(names) for order in parts for part in order):
            raise ValueError(f"its model reads more parts than its sources {names}")
        if ["+".join(names[part] for part in order) for order in parts[1:]] != conditions[1:]:
            raise ValueError(f"its sources {names} are not its conditions {conditions}")
    _check_unlearned(data.get("unlearned", {}), conditions)


def _check_unlearned(unlearned: Any, conditions: Sequence[str]) -> None:
    """Raise ValueError for anything but parts of orders, by the names of their conditions."""
    are_parts = isinstance(unlearned, dict) and all(
        name in conditions and isinstance(parts, list) and all(part in name.split("+") for part in parts)
        for name, parts in unlearned.items()
    )
    if not are_parts:
        raise ValueError(f"its unlearned parts {unlearned!r} are not parts of its conditions {conditions}")


def check_modalities(modalities: Mapping[str, Modality], window: int, config: ModelConfig) -> None:
    """Raise ValueError unless the adapters' streams have the lengths that the spec claims, and the model their parts.

    window: of all modalities that have none of their own.
    """
    parts = getattr(config, "parts", None)
    if parts is not None and len(parts) != len(modalities):
        raise ValueError(f"its model reads {len(parts)} kinds of parts, and there are {len(modalities)} sources")
    for number, modality in enumerate(modalities.values()):
        own = modality.window
        if (own is None) is not (parts is None) or not isinstance(own, int | None) or isinstance(own, bool):
            raise ValueError(f"the window {own!r} of a source is not one of its model")
        if parts is not None and own is not None and not 0 <= parts[number].max_len - own < parts[number].patch_size:
            raise ValueError(f"the window {own!r} of a source is not one of its model")
        length, fixed, room = modality.adapter.length, modality.fixed_length, window if own is None else own
        if fixed is not (length == room) or (length or 0) > room:
            raise ValueError(f"its window of {room} and fixed_length {fixed!r} are not those of its adapter's streams")


def check_weights_match_config(config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless the weights are plain tensors, and exactly those of the model that the config describes.

    Takes no memory for weights: a config may claim any size, and a tensor may repeat a single number.
    """
    mismatch = ValueError("its weights are not those of the model that it describes")
    if any(stack.layers > len(weights) for stack in _stacks(config)):
        raise mismatch
    try:
        with torch.device("meta"):
            expected = {name: weight.shape for name, weight in config.build().state_dict().items()}
    except (RuntimeError, TypeError, ArithmeticError) as error:  # sizes whose product overflows
        raise mismatch from error
    if expected != {name: weight.shape for name, weight in weights.items()}:
        raise mismatch
    for name, weight in weights.items():
        dense = weight.layout is torch.strided and weight.is_contiguous() and weight.device.type == "cpu"
        if not dense or not weight.is_floating_point():
            raise ValueError(f"its weight {name} is not a plain tensor of floating-point numbers")


def are_finite(weights: Iterable[Tensor]) -> bool:
    """Return whether no number is infinite or NaN; of a DTensor, those that this process holds."""
    return all(bool(_local(weight).isfinite().all()) for weight in weights)


def _local(weight: Tensor) -> Tensor:
    to_local = getattr(weight, "to_local", None)
    return weight if to_local is None else to_local()


def check_finite_weights(weights: Iterable[Tensor]) -> None:
    """Raise ValueError where a weight is infinite or NaN."""
    if not are_finite(weights):
        raise ValueError(NOT_FINITE)


def _stacks(config: Any) -> Iterator[StackConfig]:
    for entry in fields(config):
        value = getattr(config, entry.name)
        if isinstance(value, StackConfig):
            yield value
        elif is_dataclass(value):
            yield from _stacks(value)
