"""What model, data and checkpoint must agree on, as far as settings alone tell: checked before a file is encoded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from data_adapters import Adapter, load_class
from megabyte_mm.checkpoint import SPEC_KEY, read_checkpoint
from megabyte_mm.data.sources import adapter_at, patch_size_of, window_of
from megabyte_mm.evaluation.methods import Method, check_method
from megabyte_mm.models import ModelConfig
from megabyte_mm.sharded import is_sharded, read_rest


def check_agreement(net: ModelConfig, method: Method, data: Mapping[str, Any], checkpoint: str | None) -> None:
    """Raise ValueError where they cannot belong together.

    data: the section of a config that ByteData is made from. checkpoint: what the run goes on from, if anything.
    """
    adapters, window = _adapters_of(data), data.get("window")
    known = {name: adapter for name, adapter in adapters.items() if adapter is not None}
    if len(known) == len(adapters):
        check_model(net, method, known, window)
    if checkpoint is not None:
        check_checkpoint(checkpoint, adapters, window)


def _adapters_of(data: Mapping[str, Any]) -> dict[str, Adapter | None]:
    """The adapter of each source, one named "" where there is no mix; None where it is left open."""
    path = str(data.get("path") or "")
    if sources := data.get("sources"):
        return {name: _adapter(its.get("adapter"), str(its.get("path") or "")) for name, its in sources.items()}
    return {"": _adapter(data.get("adapter"), path)}


def _adapter(asked: Mapping[str, Any] | None, path: str) -> Adapter | None:
    """The adapter that was asked for, else the one that the files tell."""
    if asked:
        return load_class(asked["class_path"])(**asked.get("init_args", {}))
    try:
        return adapter_at(path)
    except (ValueError, OSError):  # the data say it themselves, and better
        return None


def check_model(net: ModelConfig, method: Method, adapters: Mapping[str, Adapter], window: int | None) -> None:
    """Raise ValueError, naming the fields and both values, where the model cannot be built for such data."""
    units = [adapter.unit for adapter in adapters.values()]
    length, unit = window_of([*adapters.values()], window, units), math.lcm(*units)
    conditions = net.conditions or 1 + sum(name != "" for name in adapters)
    try:
        resolved = net.resolve(patch_size_of([*adapters.values()]), length, conditions, unit)
        with torch.device("meta"):  # without memory, and without drawing weights
            model = resolved.build()
    except ValueError as error:
        told = str(error)
        raise ValueError(told if told.startswith("data.") else f"model.net.{told}") from error
    try:
        check_method(method, model, unit)
    except ValueError as error:
        raise ValueError(f"model.method {method}: {error}") from error


def check_checkpoint(path: str, adapters: Mapping[str, Adapter | None], window: int | None) -> None:
    """Raise ValueError where it is no checkpoint of ours, or of other data. No code in it is run."""
    # Of a folder no weights: all processes look.
    found = read_rest(path) if is_sharded(path) else read_checkpoint(path)
    if SPEC_KEY not in found:
        raise ValueError(f"{path}: not a checkpoint of megabyte-mm")
    spec = found[SPEC_KEY]
    data = spec.get("data") if isinstance(spec, dict) else None
    theirs = data.get("sources", {"": data}) if isinstance(data, dict) else None
    if not isinstance(theirs, dict) or not all(isinstance((its or {}).get("adapter"), dict) for its in theirs.values()):
        raise ValueError(f"{path}: a damaged checkpoint: it does not say what it was trained on")
    assert isinstance(data, dict)
    if [*adapters] != [*theirs]:
        pairs: dict[str, tuple[Any, Any]] = {"data.sources": (_told(adapters), _told(theirs))}
    else:
        pairs = {}
        for name, adapter in adapters.items():
            pairs |= {} if adapter is None else _pairs(name, adapter, theirs[name]["adapter"])
        known = [adapter for adapter in adapters.values() if adapter is not None]
        if (
            not any(field.endswith(".name") for field in pairs)
            and len(known) == len(adapters)
            and (window or any(a.length for a in known))
        ):
            pairs["data.window"] = window_of(known, window, [adapter.unit for adapter in known]), data.get("window")
    if differing := _differing(pairs):
        raise ValueError(f"{path}: does not fit this run's settings: {'; '.join(differing)}")


def _pairs(name: str, ours: Adapter, theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Fields of an adapter by name: ours and theirs; those of the settings only where the adapters are of one kind."""
    field = f"data.sources.{name}.adapter" if name else "data.adapter"
    if ours.name != theirs.get("name"):
        return {f"{field}.name": (ours.name, theirs.get("name"))}
    settings = theirs.get("settings") or {}
    return {f"{field}.{key}": (value, settings.get(key)) for key, value in ours.settings().items()}


def _differing(pairs: Mapping[str, tuple[Any, Any]]) -> list[str]:
    return [f"{field} is {ours!r} here and {its!r} there" for field, (ours, its) in pairs.items() if ours != its]


def _told(names: Mapping[str, Any]) -> str | None:
    return ", ".join(names) or None
