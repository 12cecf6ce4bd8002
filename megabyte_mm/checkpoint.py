"""From a checkpoint, a file or a folder of shards, to a bare model, without Lightning."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from data_adapters import Adapter, registry
from megabyte_mm.models import ByteModel, build
from megabyte_mm.sharded import is_sharded, read_sharded

SPEC_KEY = "megabyte_mm"
"""Where a Lightning checkpoint holds this project's own entry."""
FORMAT = 2
"""Raised when the entry changes its meaning; older ones are then migrated here. 1 knew no `sources`."""
PREFIX = "model."
"""What precedes the names of the bare model's weights in a Lightning checkpoint."""


@dataclass(frozen=True)
class Modality:
    """How files of one kind are read. fixed_length: whether every stream fills the window, so that none ever ends."""

    adapter: Adapter
    fixed_length: bool


@dataclass(frozen=True)
class Bundle:
    """A trained model with what is needed to use it on files.

    modalities: one named "", or those of a mix under the names of their conditions. conditions: the name of each
    condition number, "none" first. window: symbols that the model sees at most.
    """

    model: ByteModel
    modalities: Mapping[str, Modality]
    conditions: tuple[str, ...]
    window: int

    @property
    def config(self) -> Any:
        """The model's config, a frozen dataclass."""
        return self.model.config

    @property
    def adapter(self) -> Adapter:
        """The adapter of the only modality. Raises ValueError where there are several: take one by `of`."""
        return self._only().adapter

    @property
    def fixed_length(self) -> bool:
        """Whether every stream of the only modality fills the window exactly, so that none ever ends."""
        return self._only().fixed_length

    @property
    def mixed(self) -> str:
        """The name of the modality that `of` took out of a mix, "" where there was no mix."""
        return next(iter(self.modalities)) if len(self.modalities) == 1 else ""

    def of(self, name: str) -> Bundle:
        """The same model for one of its modalities. Raises ValueError for one that it does not have."""
        if name not in self.modalities:
            raise ValueError(f"{name!r} is none of this model's modalities, {', '.join(self.modalities)}")
        return replace(self, modalities={name: self.modalities[name]})

    def _only(self) -> Modality:
        if len(self.modalities) > 1:
            raise ValueError(f"this model knows several modalities, {', '.join(self.modalities)}: take one of them")
        return next(iter(self.modalities.values()))


def make_spec(model: ByteModel, data: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint holds beside the weights: plain values only, no import paths."""
    return {"format": FORMAT, "model": model.spec(), "data": data}


def load_model(
    path: str | os.PathLike[str], device: str | torch.device = "cpu", adapter: type[Adapter] | None = None
) -> Bundle:
    """The model in a checkpoint, ready for use on `device`.

    adapter: the class of a modality of your own, whose settings the checkpoint holds under its name. Raises ValueError
    for what is no checkpoint of this project, FileNotFoundError where there is none.
    """
    checkpoint = _read(path)
    try:
        return _bundle(checkpoint[SPEC_KEY], _weights(checkpoint["state_dict"]), device, adapter)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{os.fspath(path)}: a damaged checkpoint ({type(error).__name__}: {error})") from error


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    # Of the optimizer's state, twice the weights, nothing is read.
    checkpoint = read_sharded(path, moments=False) if is_sharded(path) else _read_file(path)
    if not isinstance(checkpoint, dict) or SPEC_KEY not in checkpoint:
        raise ValueError(f"{os.fspath(path)}: not a checkpoint of megabyte-mm")
    return checkpoint


def _read_file(path: str | os.PathLike[str]) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:  # of torch's own making, they name no file
            raise
        raise ValueError(f"{os.fspath(path)}: not a checkpoint, or a damaged one") from error


def _weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(PREFIX): weight for name, weight in state.items() if name.startswith(PREFIX)}


def _bundle(
    spec: dict[str, Any], weights: dict[str, Tensor], device: str | torch.device, own: type[Adapter] | None
) -> Bundle:
    if spec["format"] > FORMAT:
        raise ValueError(f"written by a newer megabyte-mm (format {spec['format']}); upgrade to read it")
    data = spec["data"]
    sources: dict[str, Any] = data.get("sources", {"": data})
    trained_with = [its["adapter"]["name"] for its in sources.values()]
    if own is not None and own.name not in trained_with:
        raise ValueError(f"trained with the adapter {', '.join(map(repr, trained_with))}, not with {own.name!r}")
    modalities = {name: Modality(_adapter(its["adapter"], own), its["fixed_length"]) for name, its in sources.items()}
    model = build(spec["model"])
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError("its weights are not those of the model that it describes") from error
    return Bundle(
        model=model.to(device).eval(),
        modalities=modalities,
        conditions=tuple(data["conditions"]),
        window=data["window"],
    )


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
