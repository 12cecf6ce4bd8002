"""What a checkpoint must hold for a run to go on from it exactly: of some of it Lightning does not feel the lack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor

from megabyte_mm.sharded import MOMENTS, WEIGHTS

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
    (optimizer,) = _one(checkpoint, MOMENTS)
    theirs = optimizer.get("param_groups") if isinstance(optimizer, Mapping) else None
    if not isinstance(theirs, list) or not all(isinstance(its, Mapping) and "params" in its for its in theirs):
        raise ValueError(f"it lacks {MOMENTS}.0.param_groups")
    sizes, expected = [len(its["params"]) for its in theirs], [len(group) for group in groups]
    if sizes != expected:
        raise ValueError(f"its optimizer has groups of {sizes} parameters, and the model {expected}")


def check_moments(checkpoint: Mapping[str, Any], groups: list[list[Tensor]]) -> None:
    """Raise ValueError unless all moments are there, as large as the parameters; before the first step there are none.

    To be called after `check_groups`.
    """
    optimizer = checkpoint[MOMENTS][0]
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
