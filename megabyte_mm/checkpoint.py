"""From a checkpoint file to a bare model, without Lightning."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_adapters import Adapter, registry
from megabyte_mm.models import ByteModel, build

SPEC_KEY = "megabyte_mm"
"""Where a Lightning checkpoint holds this project's own entry."""
FORMAT = 1
"""Raised when the entry changes its meaning; older ones are then migrated here."""
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
    checkpoint = _read(path)
    try:
        return _bundle(checkpoint[SPEC_KEY], _weights(checkpoint["state_dict"]), device, adapter)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{os.fspath(path)}: a damaged checkpoint ({type(error).__name__}: {error})") from error


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        # Mapped, so that of the optimizer's state, twice the weights, nothing is read.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, f"{error.strerror}{last_beside(path)}", os.fspath(path)) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:  # of torch's own making, they name no file
            raise
        raise ValueError(f"{os.fspath(path)}: not a checkpoint, or a damaged one") from error
    if not isinstance(checkpoint, dict) or SPEC_KEY not in checkpoint:
        raise ValueError(f"{os.fspath(path)}: not a checkpoint of megabyte-mm")
    return checkpoint


def last_beside(path: str | os.PathLike[str]) -> str:
    """What else to say of a missing best.ckpt where the run has a last.ckpt."""
    last = Path(path).with_name("last.ckpt")
    if Path(path).name != "best.ckpt" or not last.is_file():
        return ""
    return f"; there is {last}: best.ckpt comes with the first validation"


def _weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(PREFIX): weight for name, weight in state.items() if name.startswith(PREFIX)}


def _bundle(
    spec: dict[str, Any], weights: dict[str, Tensor], device: str | torch.device, own: type[Adapter] | None
) -> Bundle:
    if spec["format"] > FORMAT:
        raise ValueError(f"written by a newer megabyte-mm (format {spec['format']}); upgrade to read it")
    data = spec["data"]
    adapter = _adapter(data["adapter"], own)
    model = build(spec["model"])
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError("its weights are not those of the model that it describes") from error
    return Bundle(
        model=model.to(device).eval(),
        adapter=adapter,
        conditions=tuple(data["conditions"]),
        window=data["window"],
        fixed_length=data["fixed_length"],
    )


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
