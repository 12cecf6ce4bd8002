"""What model, data and checkpoint must agree on, and what a checkpoint must hold for a run to resume exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor

from data_adapters import Adapter, load_class
from megabyte_mm.checkpoint import SPEC_KEY, read_checkpoint
from megabyte_mm.checkpoint.dcp import OPTIMIZER_STATE, WEIGHTS, is_sharded_checkpoint, read_meta
from megabyte_mm.data.geometry import Geometry
from megabyte_mm.data.sources import adapter_at
from megabyte_mm.evaluation import Method, check_method
from megabyte_mm.models import ModelConfig


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
    geometry = Geometry.of(adapters, window)
    try:
        resolved = geometry.resolve(net, net.conditions)
        with torch.device("meta"):  # without memory, and without drawing weights
            model = resolved.build()
    except ValueError as error:
        raise ValueError(f"model.net.{error}") from error
    try:
        check_method(method, model, geometry.unit)
    except ValueError as error:
        raise ValueError(f"model.method {method}: {error}") from error


def check_checkpoint(path: str, adapters: Mapping[str, Adapter | None], window: int | None) -> None:
    """Raise ValueError where it is no checkpoint of ours, or of other data. No code in it is run."""
    # Of a folder no weights: all processes look.
    found = read_meta(path) if is_sharded_checkpoint(path) else read_checkpoint(path)
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
            pairs["data.window"] = Geometry.of(adapters, window).window, data.get("window")
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


KINDS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps for each parameter."""


def check_weights(found: Any, expected: Mapping[str, Tensor]) -> None:
    """Raise ValueError, naming the first, where weights are missing, not known, or of another shape."""
    if not isinstance(found, Mapping):
        raise ValueError("it holds no weights")
    for name in chain(expected, found):
        if name not in found:
            raise ValueError(f"it lacks the weight {name}")
        if name not in expected:
            raise ValueError(f"its weight {name} is none of the model's")
        if _shape(found[name]) != expected[name].shape:
            raise ValueError(f"its weight {name} is {_shown(found[name])}, not {_shown(expected[name])}")


def check_state(checkpoint: Mapping[str, Any], trainer: Trainer) -> None:
    """Raise ValueError where counters, the place in the data, schedules or a callback's state are missing."""
    loops = checkpoint.get("loops")
    theirs = loops.get("fit_loop") if isinstance(loops, Mapping) else None
    for place in _missing(trainer.fit_loop.state_dict(), theirs, "loops.fit_loop"):
        raise ValueError(f"it lacks {place}")
    assert theirs is not None
    match theirs["state_dict"].get("combined_loader"):
        case [{"epoch": int(), "batches": int()}]:
            pass
        case _:
            raise ValueError("it does not say its place in the data")
    for number, schedule in enumerate(_one(checkpoint, "lr_schedulers")):
        for place in _missing({"base_lrs": 0, "last_epoch": 0}, schedule, f"lr_schedulers.{number}"):
            raise ValueError(f"it lacks {place}")
    states = checkpoint.get("callbacks")
    if not isinstance(states, Mapping):
        raise ValueError("it lacks callbacks")
    for callback in trainer.callbacks:  # type: ignore[attr-defined] # set by a connector
        if callback.state_key in states:
            for place in _missing(callback.state_dict(), states[callback.state_key], f"callbacks.{callback.state_key}"):
                raise ValueError(f"it lacks {place}")


def check_groups(checkpoint: Mapping[str, Any], groups: list[list[Tensor]]) -> None:
    """Raise ValueError unless the optimizer's groups are of as many parameters as these."""
    (optimizer,) = _one(checkpoint, OPTIMIZER_STATE)
    theirs = optimizer.get("param_groups") if isinstance(optimizer, Mapping) else None
    if not isinstance(theirs, list) or not all(isinstance(its, Mapping) and "params" in its for its in theirs):
        raise ValueError(f"it lacks {OPTIMIZER_STATE}.0.param_groups")
    sizes, expected = [len(its["params"]) for its in theirs], [len(group) for group in groups]
    if sizes != expected:
        raise ValueError(f"its optimizer has groups of {sizes} parameters, and the model {expected}")


def check_moments(checkpoint: Mapping[str, Any], groups: list[list[Tensor]]) -> None:
    """Raise ValueError unless all moments are there, as large as the parameters; before the first step there are none.

    To be called after `check_groups`.
    """
    optimizer = checkpoint[OPTIMIZER_STATE][0]
    state = optimizer.get("state")
    # In float16 the first updates are skipped while the scale of the loss is being found, but counted.
    if state == {} and (checkpoint.get("global_step") == 0 or MixedPrecision.__qualname__ in checkpoint):
        return
    numbers = chain.from_iterable(group["params"] for group in optimizer["param_groups"])
    for number, parameter in zip(numbers, chain.from_iterable(groups), strict=True):
        its = state.get(number) if isinstance(state, Mapping) else None
        for kind in KINDS:
            value = its.get(kind) if isinstance(its, Mapping) else None
            shape = torch.Size() if kind == "step" else parameter.shape
            if _shape(value) != shape:
                raise ValueError(f"its {kind} of parameter {number} is {_shown(value)}, not {tuple(shape)}")


def check_resumable(
    checkpoint: Mapping[str, Any], trainer: Trainer, groups: list[list[Tensor]], weights: Mapping[str, Tensor] | None
) -> None:
    """Raise ValueError where `fit` could not go on exactly.

    groups: the parameters as the optimizer has them. weights: all that are to be filled; None where these and moments
    are in shards, and checked when they are read.
    """
    if weights is not None:
        check_weights(checkpoint.get(WEIGHTS), weights)
    check_groups(checkpoint, groups)
    if weights is not None:
        check_moments(checkpoint, groups)
    check_state(checkpoint, trainer)


def _one(checkpoint: Mapping[str, Any], key: str) -> list[Any]:
    found = checkpoint.get(key)
    if not isinstance(found, list) or len(found) != 1:
        raise ValueError(f"it lacks {key}")
    return found


def _missing(ours: Mapping[str, Any], theirs: Any, at: str) -> Iterator[str]:
    """The places of what nested plain values lack."""
    if not isinstance(theirs, Mapping):
        yield at
        return
    for key, value in ours.items():
        if key not in theirs:
            yield f"{at}.{key}"
        elif isinstance(value, Mapping):
            yield from _missing(value, theirs[key], f"{at}.{key}")


def _shape(value: Any) -> torch.Size | None:
    return value.shape if isinstance(value, Tensor) else None


def _shown(value: Any) -> str:
    shape = _shape(value)
    return "missing" if shape is None else str(tuple(shape))
