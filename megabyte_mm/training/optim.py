"""AdamW with decay groups, and its learning rate with warm-up and decay."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

Decay = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and its learning rate over the course of a run.

    Args:
        lr: Peak learning rate.
        beta1: Adam's decay of the gradient's mean.
        beta2: Adam's decay of the gradient's square.
        weight_decay: Decay of matrices and tables; norms and biases are never decayed.
        warmup_steps: Updates over which the learning rate rises from 0; the decay fills the rest of the run.
        decay: Its fall from there to `final_lr` of the peak by the end of the run: trainer.max_steps, max_epochs
            or max_time, whichever is nearer.
        final_lr: The learning rate at the end of the decay, as a share of the peak.
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.1
    warmup_steps: int = 100
    decay: Decay = "linear"
    final_lr: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.lr < math.inf:
            raise ValueError(f"lr is {self.lr}; it must be a number above 0")
        for field in ("beta1", "beta2"):
            if not 0.0 <= getattr(self, field) < 1.0:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be at least 0 and below 1")
        for field in ("weight_decay", "warmup_steps", "final_lr"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} is {getattr(self, field)}; it must not be negative")
        if self.decay not in get_args(Decay):
            raise ValueError(f"decay is {self.decay!r}; known: {', '.join(get_args(Decay))}")


def adamw(model: nn.Module, config: OptimizerConfig, fused: bool) -> torch.optim.AdamW:
    """AdamW over two groups: weights that decay, and the others."""
    decayed, undecayed = parameter_groups(model)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=fused)


def parameter_groups(model: nn.Module) -> list[list[torch.Tensor]]:
    """The parameters of two and more dimensions, which decay, and the others."""
    parameters: list[torch.Tensor] = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [[p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]]


def lr_factor(
    config: OptimizerConfig, total_steps: float, time_used: Callable[[], float] = lambda: 0.0
) -> Callable[[int], float]:
    """A function from the number of an update to its learning rate, as a share of the peak.

    total_steps: updates in the run, or inf. time_used: the share of trainer.max_time that has passed, 0 without a
    limit. The decay follows the greater share of the two; without limits, the rate stays at its peak after warm-up.
    """

    def factor(step: int) -> float:
        if step < config.warmup_steps:
            return (step + 1) / (config.warmup_steps + 1)
        if config.decay == "constant":
            return 1.0
        steps_done = (step - config.warmup_steps) / max(1.0, total_steps - config.warmup_steps)
        done = min(1.0, max(steps_done, time_used()))
        left = 1.0 - done if config.decay == "linear" else 0.5 + 0.5 * math.cos(math.pi * done)
        return config.final_lr + (1.0 - config.final_lr) * left

    return factor


def apply_current_settings(checkpoint: dict[str, Any], config: OptimizerConfig) -> None:
    """Replace the optimizer settings in a checkpoint by those of this run; moments and counts stay."""
    for optimizer in checkpoint.get("optimizer_states", []):
        decayed, undecayed = optimizer["param_groups"]
        for group, weight_decay in ((decayed, config.weight_decay), (undecayed, 0.0)):
            group.update(initial_lr=config.lr, betas=(config.beta1, config.beta2), weight_decay=weight_decay)
    for scheduler in checkpoint.get("lr_schedulers", []):
        scheduler["base_lrs"] = [config.lr for _ in scheduler["base_lrs"]]


def apply_current_lr(schedule: LambdaLR) -> None:
    """Set the learning rate of the next update by the schedule, in place of the one in the checkpoint."""
    for group, peak, factor in zip(
        schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
    ):
        group["lr"] = peak * factor(schedule.last_epoch)
