"""From a checkpoint file to a bare model, without Lightning."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from typing import Any

import torch

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
    checkpoint = _read(path, device)
    spec = checkpoint[SPEC_KEY]
    if spec["format"] > FORMAT:
        raise ValueError(f"{os.fspath(path)}: written by a newer megabyte-mm (format {spec['format']}); upgrade to read it")
    model = build(spec["model"]).to(device)
    weights = checkpoint["state_dict"]
    model.load_state_dict({name.removeprefix(PREFIX): w for name, w in weights.items() if name.startswith(PREFIX)})
    data = spec["data"]
    return Bundle(
        model=model.eval(),
        adapter=_adapter(data["adapter"], adapter),
        conditions=tuple(data["conditions"]),
        window=data["window"],
        fixed_length=data["fixed_length"],
    )


def _read(path: str | os.PathLike[str], device: str | torch.device) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{os.fspath(path)}: not a checkpoint, or a damaged one") from error
    if not isinstance(checkpoint, dict) or SPEC_KEY not in checkpoint:
        raise ValueError(f"{os.fspath(path)}: not a checkpoint of megabyte-mm")
    return checkpoint


def _adapter(spec: dict[str, Any], own: type[Adapter] | None) -> Adapter:
    if own is None:
        return registry.build(spec["name"], spec["settings"])
    if own.name != spec["name"]:
        raise ValueError(f"the checkpoint was trained with the adapter {spec['name']!r}, not with {own.name!r}")
    return own(**spec["settings"])
