"""Checks that model, data and checkpoint agree, and that a checkpoint is complete enough to resume exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import chain
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor

from data_adapters import Adapter, registry
from megabyte_mm.checkpoint import SPEC_KEY, read_checkpoint
from megabyte_mm.checkpoint.dcp import OPTIMIZER_STATES, STATE_DICT, is_sharded_checkpoint, read_meta
from megabyte_mm.data.collect import Paths
from megabyte_mm.data.geometry import Geometry
from megabyte_mm.data.module import ByteData
from megabyte_mm.data.sources import adapter_at
from megabyte_mm.errors import FieldError
from megabyte_mm.evaluation import Method, check_method
from megabyte_mm.evaluation.methods import is_strided
from megabyte_mm.models import ByteModel, ModelConfig, config_of
from megabyte_mm.models.neighbourhood import NeighbourhoodEmbedder, former_layouts
from megabyte_mm.training.optim import ADAMW, OPTIMIZER, ParameterGroup

MAY_CHANGE = ("model.net.dropout", "model.net.init_std")
"""Fields that a resumed run may change."""


def check_settings(net: ModelConfig, method: Method, data: ByteData, checkpoint: str | None) -> None:
    """Raise ValueError where settings do not fit together, before the data are read.

    checkpoint: the one that the run starts from, if any. No code in it is run.
    """
    adapters = {name: source.adapter or _adapter_at(source.path) for name, source in data.settings.sources.items()}
    known = {name: adapter for name, adapter in adapters.items() if adapter is not None}
    specs = {name: {"adapter": registry.spec(adapter)} for name, adapter in known.items()}
    sources = {name: specs.get(name, {}) for name in adapters}
    spec: dict[str, Any] = {"data": sources.get("", {"sources": sources})}
    # Without the weights of a folder, since all processes read it.
    content = None
    if checkpoint is not None:
        content = read_meta(checkpoint) if is_sharded_checkpoint(checkpoint) else read_checkpoint(checkpoint)
    if len(known) == len(adapters):
        geometry = Geometry.of(adapters, data.settings.window, None, data.settings.sources, data.settings.order_names)
        with torch.device("meta"):  # without memory for the weights
            model = build_model(net, method, geometry, net.conditions)
        if content is not None:
            use_former_layouts(model, content)
        if geometry.parts is None and (data.settings.window or any(adapter.length for adapter in known.values())):
            spec["data"] |= {"window": geometry.window}
        # The files may fix a larger unit, and with it another window, and classes.
        open_fields = ("max_len", "conditions", "parts")
        config = {key: value for key, value in model.spec()["config"].items() if key not in open_fields}
        spec["model"] = {"name": model.config.name, "config": config}
    if content is not None:
        check_spec(checkpoint, content, spec, complete=False)


def _adapter_at(path: Paths) -> Adapter | None:
    with suppress(ValueError, OSError):  # opening the data raises the better error
        return adapter_at(path)
    return None


def build_model(net: ModelConfig, method: Method, geometry: Geometry, conditions: int | None = None) -> ByteModel:
    """The untrained model for data of this geometry. Raises FieldError where they do not fit."""
    try:
        model = geometry.resolve(net, conditions).build()
    except FieldError as error:
        raise error.inside("model.net") from error
    except ValueError as error:  # of a model that checks more than its fields
        raise FieldError("model.net", f": {error}") from error
    if geometry.parts is not None and is_strided(method):
        raise FieldError("model.method", f"{method}: sources with patch sizes of their own are scored plain or sliding")
    try:
        check_method(method, model, geometry.unit)
    except ValueError as error:
        raise FieldError("model.method", f"{method}: {error}") from error
    return model


def use_former_layouts(model: ByteModel, checkpoint: Mapping[str, Any]) -> None:
    """Give the model the layouts of a checkpoint, if it is one of before the guesses of its data were signed.

    It goes on with the guesses that it was trained with. Any other difference is left to `check_spec`.
    """
    try:
        stored = config_of(checkpoint[SPEC_KEY]["model"]).neighbourhood
    except (LookupError, TypeError, AttributeError, ValueError):
        return
    own = model.config.neighbourhood
    if own is None or own.layouts is None or stored is None or stored.layouts in (None, own.layouts):
        return
    if stored.layouts == former_layouts(own.layouts):
        assert isinstance(model.neighbourhood, NeighbourhoodEmbedder)
        model.neighbourhood.use_layouts(stored.layouts)
        model.config = replace(model.config, neighbourhood=model.neighbourhood.config)  # type: ignore[type-var]


def check_spec(path: Any, checkpoint: Mapping[str, Any], spec: Mapping[str, Any], complete: bool = True) -> None:
    """Raise ValueError where a checkpoint is not of this project, or its spec differs from that of the run.

    spec: as of `make_spec`; where not `complete`, entries that it lacks are not compared.
    """
    if SPEC_KEY not in checkpoint:
        raise ValueError(f"{path}: not a checkpoint of megabyte-mm")
    try:
        run, stored = _fields(spec), _fields(_with_defaults(checkpoint[SPEC_KEY]))
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: a damaged checkpoint: its data or model are missing") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if differences := _differences({**run, **stored} if complete else run, run, stored):
        raise ValueError(f"{path}: does not fit the settings of this run: {'; '.join(differences)}")


def _with_defaults(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec, with the defaults of model fields that did not exist when it was written."""
    model = spec["model"]
    return {**spec, "model": {**model, "config": asdict(config_of(model))}}  # type: ignore[call-overload]


def _fields(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The values in a spec under the names of settings; a name precedes the fields that depend on it."""
    data = spec["data"]
    sources = data.get("sources", {"": data})
    fields: dict[str, Any] = {"data.sources": ", ".join(sources) or None}
    for name, source in sources.items():
        if adapter := source.get("adapter"):
            key = f"data.sources.{name}.adapter" if name else "data.adapter"
            fields |= {f"{key}.name": adapter["name"], **flat(adapter["settings"], key)}
    fields |= {f"data.{key}": data[key] for key in ("window", "conditions") if key in data}
    if model := spec.get("model"):
        fields |= {"model.net.name": model["name"], **flat(model["config"], "model.net")}
    return fields


def flat(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Nested values under dotted names that begin with `key`."""
    fields: dict[str, Any] = {}
    for name, value in values.items():
        fields |= flat(value, f"{key}.{name}") if isinstance(value, Mapping) else {f"{key}.{name}": value}
    return fields


def _differences(names: Mapping[str, Any], run: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    differences: list[str] = []
    unlike: tuple[str, ...] = MAY_CHANGE
    for field in names:
        if field.startswith(unlike) or run.get(field) == stored.get(field):
            continue
        differences.append(f"{field} is {run.get(field)!r}, but {stored.get(field)!r} in the checkpoint")
        if field.endswith((".name", ".sources")):  # the fields below it are not the same ones
            unlike += ("data." if field == "data.sources" else field.removesuffix("name"),)
    return differences


def check_resumable(
    checkpoint: Mapping[str, Any],
    trainer: Trainer,
    groups: Sequence[ParameterGroup],
    weights: Mapping[str, Tensor] | None,
) -> None:
    """Raise ValueError where a checkpoint lacks something that an exact resume needs.

    groups: of the optimizer. weights: those of the model; None where weights and moments are in shards,
    which are checked when they are read.
    """
    if weights is not None:
        check_weights(checkpoint.get(STATE_DICT), weights)
    _check_groups(checkpoint, groups)
    if weights is not None:
        _check_moments(checkpoint, groups)
    _check_progress(checkpoint, trainer, len(groups))


def check_weights(stored: Any, expected: Mapping[str, Tensor]) -> None:
    """Raise ValueError, naming the first, where weights are missing, unknown, or of another shape."""
    if not isinstance(stored, Mapping):
        raise ValueError("it holds no weights")
    for name in chain(expected, stored):
        if name not in stored:
            raise ValueError(f"it lacks the weight {name}")
        if name not in expected:
            raise ValueError(f"the model has no weight {name}")
        if _shape(stored[name]) != expected[name].shape:
            raise ValueError(f"its weight {name} is {_shown(stored[name])}, not {_shown(expected[name])}")


def _check_progress(checkpoint: Mapping[str, Any], trainer: Trainer, number_of_groups: int) -> None:
    """Raise ValueError where counters, the position in the data, schedules or the state of a callback are missing."""
    loops = checkpoint.get("loops")
    stored = loops.get("fit_loop") if isinstance(loops, Mapping) else None
    _check_keys(trainer.fit_loop.state_dict(), stored, "loops.fit_loop")
    assert stored is not None
    match stored["state_dict"].get("combined_loader"):
        case [{"epoch": int(), "batches": int()}]:
            pass
        case _:
            raise ValueError("it lacks the position in the data")
    for number, schedule in enumerate(_single(checkpoint, "lr_schedulers")):
        _check_keys({"base_lrs": 0, "last_epoch": 0, "lr_lambdas": 0}, schedule, f"lr_schedulers.{number}")
        _check_warmup_time(schedule["lr_lambdas"], number_of_groups)
    states = checkpoint.get("callbacks")
    if not isinstance(states, Mapping):
        raise ValueError("it lacks callbacks")
    for callback in trainer.callbacks:  # type: ignore[attr-defined] # set by a connector
        if (key := callback.state_key) in states:
            _check_keys(callback.state_dict(), states[key], f"callbacks.{key}")


def _check_warmup_time(states: Any, number_of_groups: int) -> None:
    """Raise ValueError unless each group has the state of `LearningRate`, or None as in older checkpoints."""
    if not isinstance(states, list) or len(states) != number_of_groups:
        raise ValueError(f"it lacks the learning rates of {number_of_groups} groups of parameters")
    for state in states:
        time = state.get("warmup_time") if isinstance(state, Mapping) else state
        if time is not None and not (isinstance(time, float) and 0.0 <= time < math.inf):
            raise ValueError(f"its time at the end of warm-up is {time!r}, not a number of seconds")


def _check_groups(checkpoint: Mapping[str, Any], groups: Sequence[ParameterGroup]) -> None:
    """Raise ValueError unless the optimizer has groups of as many parameters, FieldError where it is another one."""
    (optimizer,) = _single(checkpoint, OPTIMIZER_STATES)
    stored = optimizer.get("param_groups") if isinstance(optimizer, Mapping) else None
    if not isinstance(stored, list) or not all(isinstance(group, Mapping) and "params" in group for group in stored):
        raise ValueError(f"it lacks {OPTIMIZER_STATES}.0.param_groups")
    uses_muon, used_muon = any(group.muon for group in groups), any(group.get("muon") for group in stored)
    if uses_muon != used_muon:
        raise FieldError("model.optimizer.muon", f"is {uses_muon}, but the checkpoint was trained with {used_muon}")
    used = {group.get(OPTIMIZER, ADAMW) for group in stored}
    if used and used != {groups[0].optimizer}:
        was = " and ".join(sorted(map(str, used)))
        raise FieldError(
            "model.optimizer.algorithm", f"is {groups[0].optimizer}, but the checkpoint was trained with {was}"
        )
    sizes, expected = [len(group["params"]) for group in stored], [len(group.parameters) for group in groups]
    if sizes != expected:
        raise ValueError(f"its optimizer has groups of {sizes} parameters, and the model {expected}")


def _check_moments(checkpoint: Mapping[str, Any], groups: Sequence[ParameterGroup]) -> None:
    """Raise ValueError unless every parameter has moments of its shape; before the first step there are none.

    Called after `_check_groups`.
    """
    optimizer = checkpoint[OPTIMIZER_STATES][0]
    state = optimizer.get("state")
    # In float16 the first updates are counted, but skipped until the scale of the loss is right.
    if state == {} and (checkpoint.get("global_step") == 0 or MixedPrecision.__qualname__ in checkpoint):
        return
    numbers = chain.from_iterable(group["params"] for group in optimizer["param_groups"])
    parameters = [(group, parameter) for group in groups for parameter in group.parameters]
    for number, (group, parameter) in zip(numbers, parameters, strict=True):
        stored = state.get(number, {}) if isinstance(state, Mapping) else {}
        for name, kind in group.state.items():
            value = stored.get(name) if isinstance(stored, Mapping) else None
            shape = parameter.shape if kind == "parameter" else torch.Size()
            if value is None or (kind != "own" and _shape(value) != shape):
                raise ValueError(f"its {name} of parameter {number} is {_shown(value)}, not {tuple(shape)}")


def _single(checkpoint: Mapping[str, Any], key: str) -> list[Any]:
    """The list of one entry under a key."""
    value = checkpoint.get(key)
    if not isinstance(value, list) or len(value) != 1:
        raise ValueError(f"it lacks {key}")
    return value


def _check_keys(expected: Mapping[str, Any], stored: Any, key: str) -> None:
    """Raise ValueError, naming the first, where nested keys are missing."""
    if not isinstance(stored, Mapping):
        raise ValueError(f"it lacks {key}")
    for name, value in expected.items():
        if name not in stored:
            raise ValueError(f"it lacks {key}.{name}")
        if isinstance(value, Mapping):
            _check_keys(value, stored[name], f"{key}.{name}")


def _shape(value: Any) -> torch.Size | None:
    return value.shape if isinstance(value, Tensor) else None


def _shown(value: Any) -> str:
    shape = _shape(value)
    return "missing" if shape is None else str(tuple(shape))
