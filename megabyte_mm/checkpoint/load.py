"""From a checkpoint, a file or a folder, or an exported model, to a bare model, without Lightning."""

from __future__ import annotations

import os
import pickle
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_adapters import Adapter, load_class, printable, registry
from megabyte_mm.checkpoint.bundle import FORMAT, SPEC_KEY, Bundle, Modality
from megabyte_mm.checkpoint.dcp import is_sharded_checkpoint, read_sharded_checkpoint
from megabyte_mm.checkpoint.exported import CONFIG, is_exported, read_exported
from megabyte_mm.checkpoint.hub import download, hub_id
from megabyte_mm.checkpoint.provenance import Provenance, from_run, from_values
from megabyte_mm.checkpoint.safety import is_plain_archive
from megabyte_mm.models import ModelConfig, StackConfig, build, config_of

LONGEST = 2**28
"""Symbols that a window may hold: far beyond what is trained, far below what would fill the memory at once."""
_DAMAGE = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError),
    *(AttributeError, ImportError, AssertionError, ArithmeticError, MemoryError),
)
"""What torch raises on damaged files, as found by fuzzing."""
PREFIX = "model."
"""What precedes the names of the bare model's weights in a Lightning checkpoint."""
TRAINING = "training"
"""Where an exported model's config says what is known of its training."""


def load_model(
    path: str | os.PathLike[str], device: str | torch.device = "cpu", adapter: type[Adapter] | str | None = None
) -> Bundle:
    """The model in a checkpoint, ready for use on `device`.

    path: a file, a folder of shards, a folder that `export` wrote, or, where nothing of that name is here, the id of a
    model on the Hugging Face hub: user/name or user/name@revision. adapter: the class of a modality of your own, or its
    import path; the checkpoint holds its settings. Raises ValueError for what is no checkpoint of this project,
    FileNotFoundError where there is none.
    """
    adapter = load_class(adapter) if isinstance(adapter, str) else adapter
    checkpoint = read_checkpoint(path)
    named = Path(path, CONFIG) if is_exported(path) else os.fspath(path)
    try:
        bundle = _bundle(checkpoint[SPEC_KEY], _weights(checkpoint["state_dict"]), device, adapter)
        return replace(bundle, training=_training(checkpoint))
    except ValueError as error:
        raise ValueError(f"{named}: {printable(str(error))}") from error
    except (LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError) as error:
        reason = printable(f"{type(error).__name__}: {error}")
        raise ValueError(f"{named}: a damaged checkpoint ({reason})") from error


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """All that a checkpoint holds; tensors of a file stay on the disk until they are read. No code in it is ever run.

    An exported model, here or on the hub, gives the entries that a checkpoint has for the same. Raises ValueError for
    what is no checkpoint of this project, FileNotFoundError where there is none.
    """
    if is_exported(path):
        return _as_checkpoint(*read_exported(Path(path)))
    if (wanted := hub_id(path)) is not None:
        return _as_checkpoint(*read_exported(download(wanted), shown=str(wanted)))
    # Of the optimizer's state, twice the weights, nothing is read.
    checkpoint = read_sharded_checkpoint(path, moments=False) if is_sharded_checkpoint(path) else _read_file(path)
    if not isinstance(checkpoint, dict) or SPEC_KEY not in checkpoint:
        raise ValueError(f"{os.fspath(path)}: not a checkpoint of megabyte-mm")
    return checkpoint


def _as_checkpoint(config: dict[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    state = {PREFIX + name: weight for name, weight in weights.items()}
    return {SPEC_KEY: config, "state_dict": state, TRAINING: config.get(TRAINING)}


def _training(checkpoint: Mapping[str, Any]) -> Provenance:
    return from_values(checkpoint[TRAINING]) if TRAINING in checkpoint else from_run(checkpoint)


def _read_file(path: str | os.PathLike[str]) -> Any:
    try:
        whole = _is_plain_archive(path)
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True) if whole else None
    except FileNotFoundError as error:
        reason = f"{error.strerror}{last_checkpoint_hint(path)}"
        raise FileNotFoundError(error.errno, reason, os.fspath(path)) from error
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.filename is not None:  # of torch's own making, they name no file
            raise
        raise ValueError(f"{os.fspath(path)}: not a checkpoint, or a damaged one") from error
    if found is None:
        raise ValueError(f"{os.fspath(path)}: not a checkpoint, or a damaged one")
    return found


def _is_plain_archive(path: str | os.PathLike[str]) -> bool:
    """Raises OSError and BadZipFile."""
    found = Path(path).stat()
    if stat.S_IFMT(found.st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
        return False  # opening a pipe would wait for somebody who writes
    with Path(path).open("rb") as file:
        return is_plain_archive(file, found.st_size)


def last_checkpoint_hint(path: str | os.PathLike[str]) -> str:
    """What else to say of a missing best.ckpt where the run has a last.ckpt."""
    last = Path(path).with_name("last.ckpt")
    if Path(path).name != "best.ckpt" or not last.is_file():
        return ""
    return f"; there is {last}: best.ckpt comes with the first validation"


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
    sources: dict[str, Any] = data.get("sources", {"": data})
    trained_with = [its["adapter"]["name"] for its in sources.values()]
    if own is not None and own.name not in trained_with:
        raise ValueError(f"trained with the adapter {', '.join(map(repr, trained_with))}, not with {own.name!r}")
    config = config_of(spec["model"])
    _check_data(data, config)
    _check_weights(config, weights)
    modalities = {name: _modality(its, data["window"], own) for name, its in sources.items()}
    model = build(spec["model"])
    model.load_state_dict(weights)
    return Bundle(
        model=model.to(device).eval(),
        modalities=modalities,
        conditions=tuple(data["conditions"]),
        window=data["window"],
    )


def _check_data(data: Mapping[str, Any], config: ModelConfig) -> None:
    """Raise ValueError, naming the entry, where what is said of the data is not what training writes."""
    window, conditions = data["window"], data["conditions"]
    if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= LONGEST:
        raise ValueError(f"its window is {window!r}; it must be a whole number from 1 to {LONGEST}")
    if config.max_len != window:
        raise ValueError(f"its window is {window} and its model's max_len {config.max_len}; they must be equal")
    named = isinstance(conditions, list) and all(isinstance(name, str) for name in conditions)
    if not named or len(conditions) != (config.conditions or 1):
        raise ValueError(f"its conditions {conditions!r} are not the {config.conditions} names that its model knows")
    if "sources" in data and [*data["sources"]] != conditions[1:]:
        raise ValueError(f"its sources {[*data['sources']]} are not its conditions {conditions}")


def _modality(data: Mapping[str, Any], window: int, own: type[Adapter] | None) -> Modality:
    """Raises ValueError as `_check_data` does."""
    adapter, fixed = _adapter(data["adapter"], own), data["fixed_length"]
    if fixed is not (adapter.length == window) or (adapter.length or 0) > window:
        raise ValueError(f"its window of {window} and fixed_length {fixed!r} are not those of its adapter's streams")
    return Modality(adapter, fixed)


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
    for entry in fields(config):
        value = getattr(config, entry.name)
        if isinstance(value, StackConfig):
            yield value
        elif is_dataclass(value):
            yield from _stacks(value)


def _adapter(spec: dict[str, Any], own: type[Adapter] | None) -> Adapter:
    if own is None or own.name != spec["name"]:
        if spec["name"] not in registry.ADAPTERS:
            raise ValueError(
                f"trained with an adapter of your own, {spec['name']!r}: say where its class is (--adapter)"
            )
        return registry.build(spec["name"], spec["settings"])
    try:
        return own(**spec["settings"])
    except TypeError as error:
        raise ValueError(f"the adapter {own.name!r} cannot be built with {spec['settings']}: {error}") from error
