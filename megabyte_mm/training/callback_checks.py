"""Checks of callbacks: those that do not work here are refused by name, before any training."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from megabyte_mm.errors import FieldError

REFUSED = {
    "BatchSizeFinder": "set data.batch_size; model.activation_memory bounds the memory of a step",
    "LearningRateFinder": "compare short runs with several values of model.optimizer.lr",
    "WeightAveraging": "a run with it cannot resume exactly; set model.ema_decay, such as 0.999",
    "StochasticWeightAveraging": "a run with it cannot resume exactly; set model.ema_decay, such as 0.999",
    "GradientAccumulationScheduler": "set trainer.accumulate_grad_batches, which stays the same for a whole run",
}
"""Classes of Lightning that do not work, and what to do instead. Older versions of Lightning lack some of them."""

FIGURES = ("val/bpb", "train/bpb", "train/loss")
"""The figures that every run logs and that a callback may monitor."""


def check_callbacks(callbacks: Iterable[Callback]) -> None:
    """Raise FieldError for the callbacks of `REFUSED`, and for subclasses of them."""
    for callback in callbacks:
        for base in type(callback).__mro__:
            if base.__name__ in REFUSED and base.__module__.startswith(("lightning.", "pytorch_lightning.")):
                raise _refusal(type(callback).__name__, base.__name__)


def refused_in(message: str) -> FieldError | None:
    """The error of a callback of `REFUSED`, from a parser's message about its arguments; None for any other message."""
    match = re.search(r"trainer\.callbacks(?s:.*)class_path '[\w.]*?(\w+)'", message)
    return _refusal(match[1], match[1]) if match and match[1] in REFUSED else None


def _refusal(name: str, base: str) -> FieldError:
    return FieldError("trainer.callbacks", f"{name} is not supported: {REFUSED[base]}")


def check_monitors(callbacks: Sequence[Callback], parts: Iterable[str]) -> None:
    """Raise FieldError where EarlyStopping or ModelCheckpoint monitors a figure that a run does not log.

    parts: those with a val/bpb of their own. A callback from elsewhere may log figures under any name but val/ and
    train/: Lightning then finds a wrong monitor at the first validation.
    """
    figures = [*FIGURES, *(f"val/bpb/{part}" for part in parts)]
    may_log_others = any(not type(one).__module__.startswith(("lightning.", "megabyte_mm.")) for one in callbacks)
    for callback in callbacks:
        if not isinstance(callback, EarlyStopping | ModelCheckpoint) or callback.monitor is None:
            continue
        known = figures if isinstance(callback, EarlyStopping) else [*figures, "step", "epoch"]
        name = callback.monitor
        if name in known or not getattr(callback, "strict", True):
            continue
        if may_log_others and not name.startswith(("val/", "train/")):
            continue
        reason = f"{type(callback).__name__} monitors {name!r}, which no run logs: take one of {', '.join(known)}"
        raise FieldError("trainer.callbacks", reason)


def monitor_error(error: RuntimeError) -> FieldError | None:
    """The error of EarlyStopping for a figure that was not logged, in the words of `check_monitors`; else None."""
    names = re.findall(r"`([^`]*)`", str(error))
    if not str(error).startswith("Early stopping conditioned on metric") or len(names) < 3:
        return None
    figures = ", ".join(sorted(name for name in names[1:] if name != EarlyStopping.__name__))
    return FieldError(
        "trainer.callbacks",
        f": EarlyStopping monitors {names[0]!r}, which this run has not logged: take one of {figures}",
    )
