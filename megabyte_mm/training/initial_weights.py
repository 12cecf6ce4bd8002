"""`fit --init_from`: begin with the weights of another model, on other data.

What belongs to the data is carried over by its name: classes and sources, patch sizes, positions. All other weights
must be there, and have the same shape.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from megabyte_mm.checkpoint import Bundle, load_model
from megabyte_mm.models import ByteModel, Megabyte, ModelConfig
from megabyte_mm.training.compatibility import flat

_OF_DATA = {"patch_size", "max_len", "conditions", "parts", "orders", "neighbourhood"}
"""Fields of a config that follow from the data; the shapes of their weights are compared instead."""
_OF_TRAINING = {"dropout", "init_std", "embedding_init"}
_SIZED = ("embedder.", "to_local.", "local_positions.")
"""Layers of one patch size, those of the first without a prefix."""
_BY_CONDITION = ("start_CG", "condition_CL")
_BY_PART = "part_PG"


@torch.no_grad()
def load_initial_weights(
    model: ByteModel, path: str | os.PathLike[str], conditions: Sequence[str], sources: Sequence[str]
) -> list[str]:
    """Give a new model the weights of a trained one, and return a note for each part of it that is new or left out.

    path: as of `load_model`. conditions, sources: the names of those of the new model. A condition that the trained
    model does not know begins as the mean of those that it knows. Raises ValueError, naming the field or the weight,
    where the two do not fit.
    """
    trained = load_model(path)
    where = os.fspath(path)
    _check_config(where, model, trained)
    old, new = trained.model.state_dict(), model.state_dict()
    notes: dict[str, None] = {}
    used: set[str] = set()
    for name, weight in new.items():
        source = _name_in(trained.model, model, name)
        if source is None:
            notes[f"patches of {_size_of(model, name)} bytes are new"] = None
            continue
        if name == _BY_PART and source not in old:
            weight.zero_()  # a model of one kind of rows has no such vectors
            continue
        if source not in old:
            raise ValueError(f"--init_from {where}: has no {name}, which model.net of this run has")
        used.add(source)
        stored = old[source]
        if name in _BY_CONDITION:
            weight.copy_(_rows(stored, trained.conditions, conditions, notes))
        elif name == _BY_PART:
            weight.copy_(_rows(stored, tuple(trained.modalities), sources, notes))
        elif name.endswith("positions.weight") and "local_" not in name and stored.shape[1:] == weight.shape[1:]:
            count = min(len(stored), len(weight))
            weight[:count] = stored[:count]
            if len(weight) > count:
                notes[f"positions from {count} on are new"] = None
        elif stored.shape == weight.shape:
            weight.copy_(stored)
        else:
            shapes = f"{tuple(stored.shape)} there and {tuple(weight.shape)} in this run"
            raise ValueError(f"--init_from {where}: {name} has the shape {shapes}")
    _check_unused(where, trained, model, set(old) - used, notes)
    return list(notes)


def _check_config(where: str, model: ByteModel, trained: Bundle) -> None:
    """Raise ValueError, naming the first field in which two models differ that the data do not fix."""
    names = trained.config.name, model.config.name
    if names[0] != names[1]:
        raise ValueError(f"--init_from {where}: is a {names[0]}, and model.net of this run a {names[1]}")
    if not set(model.patch_sizes) & set(trained.model.patch_sizes):
        sizes = [", ".join(map(str, each.patch_sizes)) for each in (trained.model, model)]
        raise ValueError(f"--init_from {where}: has patches of {sizes[0]} bytes, and this run of {sizes[1]}")
    run, there = _of_architecture(model.config), _of_architecture(trained.config)
    for field in run | there:
        if run.get(field) != there.get(field):
            raise ValueError(f"--init_from {where}: {field} is {there.get(field)!r} there, and here {run.get(field)!r}")


def _of_architecture(config: ModelConfig) -> dict[str, Any]:
    """The fields that neither the data nor training fix, by their names in a config."""
    values = asdict(config)  # type: ignore[call-overload]
    return flat({name: each for name, each in values.items() if name not in _OF_DATA | _OF_TRAINING}, "model.net")


def _name_in(trained: ByteModel, model: ByteModel, name: str) -> str | None:
    """The name of a weight in the trained model; None for one of a patch size that it does not have."""
    if not isinstance(model, Megabyte) or not isinstance(trained, Megabyte):
        return name
    size, layer = _size_of(model, name), _layer(name)
    if not layer.startswith(_SIZED):
        return name
    if size not in trained.patch_sizes:
        return None
    return layer if size == trained.patch_size else f"more_sizes.{size}.{layer}"


def _size_of(model: ByteModel, name: str) -> int:
    return int(name.split(".")[1]) if name.startswith("more_sizes.") else model.patch_size


def _layer(name: str) -> str:
    return name.split(".", 2)[2] if name.startswith("more_sizes.") else name


def _rows(stored: Tensor, known: Sequence[str], wanted: Sequence[str], notes: dict[str, None]) -> Tensor:
    """A row for each wanted name: that of the same name, else the mean of those that the trained model has learned."""
    learned = stored[1:] if len(known) > 1 and known[0] == "none" else stored
    rows = []
    one_of_several = tuple(wanted) == ("none",) and len(known) > 1  # which has not been learned
    for name in wanted:
        if name in known and not one_of_several:
            rows.append(stored[known.index(name)])
            continue
        rows.append(learned.mean(dim=0))
        notes[f"{name} is new" if name != "none" else f"without {', '.join(known[1:])}: begins as their mean"] = None
    return torch.stack(rows)


def _check_unused(where: str, trained: Bundle, model: ByteModel, unused: set[str], notes: dict[str, None]) -> None:
    """Note what the new model does not take over. Raises ValueError for weights that no data explain."""
    for name in sorted(unused):
        if _layer(name).startswith(_SIZED) and len(trained.model.patch_sizes) > 1:
            notes[f"patches of {_size_of(trained.model, name)} bytes are left out"] = None
        elif name != _BY_PART:
            raise ValueError(f"--init_from {where}: has {name}, and model.net of this run has none")
