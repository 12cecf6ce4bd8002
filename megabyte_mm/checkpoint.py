"""From a checkpoint file to a bare model, without Lightning."""

from __future__ import annotations

import os
import pickle
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_adapters import Adapter, printable, registry
from megabyte_mm.models import ByteModel, ModelConfig, StackConfig, build, config_of

SPEC_KEY = "megabyte_mm"
"""Where a Lightning checkpoint holds this project's own entry."""
FORMAT = 1
"""Raised when the entry changes its meaning; older ones are then migrated here."""
LONGEST = 2**28
"""Symbols that a window may hold: far beyond what is trained, far below what would fill the memory at once."""
_DAMAGE = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError),
    *(AttributeError, ImportError, AssertionError, ArithmeticError, MemoryError),
)
"""What torch raises on damaged files, as found by fuzzing."""
PREFIX = "model."
"""What precedes the names of the bare model's weights in a Lightning checkpoint."""


@dataclass(frozen=True)
class Bundle:
    """A trained model with what is needed to use it on files.

    conditions: the name of each condition number, "none" first. window: symbols that the model sees at most.
    fixed_length: whether every stream fills the window exactly, so that none ever ends.
    """

    model: ByteModel
    adapter: Adapter
    conditions: tuple[str, ...]
    window: int
    fixed_length: bool

    @property
    def config(self) -> Any:
        """The model's config, a frozen dataclass."""
        return self.model.config


def make_spec(model: ByteModel, data: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint holds beside the weights: plain values only, no import paths."""
    return {"format": FORMAT, "model": model.spec(), "data": data}


def load_model(
    path: str | os.PathLike[str], device: str | torch.device = "cpu", adapter: type[Adapter] | None = None
) -> Bundle:
    """The model in a checkpoint file, ready for use on `device`.

    adapter: the class of a modality of your own, whose settings the checkpoint holds under its name. Raises ValueError
    for a file that is no checkpoint of this project, FileNotFoundError where there is none.
    """
    checkpoint = read_checkpoint(path)
    try:
        return _bundle(checkpoint[SPEC_KEY], _weights(checkpoint["state_dict"]), device, adapter)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {printable(str(error))}") from error
    except (LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError) as error:
        reason = printable(f"{type(error).__name__}: {error}")
        raise ValueError(f"{os.fspath(path)}: a damaged checkpoint ({reason})") from error


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """All that a checkpoint file holds; tensors stay on the disk until they are read. No code in it is ever run.

    Raises ValueError for a file that is no checkpoint of this project, FileNotFoundError where there is none.
    """
    try:
        whole = _is_plain_archive(path)
        # Mapped, so that of the optimizer's state, twice the weights, nothing is read.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True) if whole else None
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.filename is not None:  # of torch's own making, they name no file
            raise
        raise ValueError(f"{os.fspath(path)}: not a checkpoint, or a damaged one") from error
    if checkpoint is None:
        raise ValueError(f"{os.fspath(path)}: not a checkpoint, or a damaged one")
    if not isinstance(checkpoint, dict) or SPEC_KEY not in checkpoint:
        raise ValueError(f"{os.fspath(path)}: not a checkpoint of megabyte-mm")
    return checkpoint


def _is_plain_archive(path: str | os.PathLike[str]) -> bool:
    """Whether the file is an archive as torch.save writes it: nothing in it unpacks to more than is there.

    Raises OSError and BadZipFile.
    """
    if stat.S_IFMT(Path(path).stat().st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
        return False  # opening a pipe would wait for somebody who writes
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if packed or sum(member.file_size for member in members) > Path(path).stat().st_size:
            return False
        pickles = [archive.read(member) for member in members if member.filename.endswith("data.pkl")]
    # torch lets a pickle ask for a bytearray of any size.
    return not any(b"\nbytearray\n" in content for content in pickles)


def _weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(PREFIX): weight for name, weight in state.items() if name.startswith(PREFIX)}


def _bundle(
    spec: dict[str, Any], weights: dict[str, Tensor], device: str | torch.device, own: type[Adapter] | None
) -> Bundle:
    written = spec["format"]
    if isinstance(written, bool) or not isinstance(written, int) or written < 1:
        raise ValueError(f"a damaged checkpoint: its format is {written!r}")
    if written > FORMAT:
        raise ValueError(f"written by a newer megabyte-mm (format {written}); upgrade to read it")
    data = spec["data"]
    adapter = _adapter(data["adapter"], own)
    config = config_of(spec["model"])
    _check_data(data, adapter, config)
    _check_weights(config, weights)
    model = build(spec["model"])
    model.load_state_dict(weights)
    return Bundle(
        model=model.to(device).eval(),
        adapter=adapter,
        conditions=tuple(data["conditions"]),
        window=data["window"],
        fixed_length=data["fixed_length"],
    )


def _check_data(data: Mapping[str, Any], adapter: Adapter, config: ModelConfig) -> None:
    """Raise ValueError, naming the entry, where what is said of the data is not what training writes."""
    window, conditions, fixed = data["window"], data["conditions"], data["fixed_length"]
    if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= LONGEST:
        raise ValueError(f"its window is {window!r}; it must be a whole number from 1 to {LONGEST}")
    if config.max_len != window:
        raise ValueError(f"its window is {window} and its model's max_len {config.max_len}; they must be equal")
    if fixed is not (adapter.length is not None) or (fixed and adapter.length != window):
        raise ValueError(f"its window of {window} and fixed_length {fixed!r} are not those of its adapter's streams")
    named = isinstance(conditions, list) and all(isinstance(name, str) for name in conditions)
    if not named or len(conditions) != (config.conditions or 1):
        raise ValueError(f"its conditions {conditions!r} are not the {config.conditions} names that its model knows")


def _check_weights(config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless the weights are those of the model that the config describes, and all there.

    Found out without memory for a single one: a config may claim any size, and a tensor may repeat what it holds.
    """
    wrong = ValueError("its weights are not those of the model that it describes")
    if any(stack.layers > len(weights) for stack in _stacks(config)):
        raise wrong
    try:
        with torch.device("meta"):
            expected = {name: weight.shape for name, weight in config.build().state_dict().items()}
    except (RuntimeError, TypeError, ArithmeticError) as error:  # sizes whose product no number holds
        raise wrong from error
    if expected != {name: weight.shape for name, weight in weights.items()}:
        raise wrong
    for name, weight in weights.items():
        whole = weight.layout is torch.strided and weight.is_contiguous() and weight.device.type == "cpu"
        if not whole or not weight.is_floating_point():
            raise ValueError(f"its weight {name} is not a plain tensor of floating-point numbers")


def _stacks(config: Any) -> Iterator[StackConfig]:
    for field in fields(config):
        value = getattr(config, field.name)
        if isinstance(value, StackConfig):
            yield value
        elif is_dataclass(value):
            yield from _stacks(value)


def _adapter(spec: dict[str, Any], own: type[Adapter] | None) -> Adapter:
    if own is None and spec["name"] not in registry.ADAPTERS:
        raise ValueError(f"trained with an adapter of your own, {spec['name']!r}: say where its class is (--adapter)")
    if own is None:
        return registry.build(spec["name"], spec["settings"])
    if own.name != spec["name"]:
        raise ValueError(f"trained with the adapter {spec['name']!r}, not with {own.name!r}")
    try:
        return own(**spec["settings"])
    except TypeError as error:
        raise ValueError(f"the adapter {own.name!r} cannot be built with {spec['settings']}: {error}") from error
