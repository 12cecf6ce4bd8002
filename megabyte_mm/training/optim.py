"""AdamW with decay groups, Muon for the matrices of blocks, and the learning rate with warm-up and decay."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim.lr_scheduler import LambdaLR

from megabyte_mm.checkpoint.dcp import OPTIMIZER_STATES
from megabyte_mm.errors import FieldError
from megabyte_mm.models.layers import Block

Decay = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW or Muon, and the learning rate over the course of a run.

    Args:
        lr: Peak learning rate.
        beta1: Adam's decay of the gradient's mean.
        beta2: Adam's decay of the gradient's square.
        weight_decay: Decay of matrices and tables; norms and biases are never decayed.
        warmup_steps: Updates over which the learning rate rises from 0; the decay fills the rest of the run.
        decay: Its fall from there to `final_lr` of the peak by the end of the run: trainer.max_steps, max_epochs
            or max_time, whichever is nearer.
        final_lr: The learning rate at the end of the decay, as a share of the peak.
        muon: Update the matrices of Transformer blocks by Muon, and only the rest by AdamW. Fewer steps are needed,
            but each takes longer; worthwhile where a batch costs more than the matrices' own products.
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.1
    warmup_steps: int = 100
    decay: Decay = "linear"
    final_lr: float = 0.0
    muon: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.lr < math.inf:
            raise FieldError("lr", f"is {self.lr}; it must be a number above 0")
        for field in ("beta1", "beta2"):
            if not 0.0 <= getattr(self, field) < 1.0:
                raise FieldError(field, f"is {getattr(self, field)}; it must be at least 0 and below 1")
        for field in ("weight_decay", "warmup_steps", "final_lr"):
            if not 0.0 <= getattr(self, field) < math.inf:
                raise FieldError(field, f"is {getattr(self, field)}; it must be a number, and not negative")
        if self.decay not in get_args(Decay):
            raise FieldError("decay", f"is {self.decay!r}; known: {', '.join(get_args(Decay))}")


class MuonAdamW(torch.optim.AdamW):
    """AdamW, with groups of matrices that are updated by Muon (Jordan et al., 2024): those with `muon` set.

    Muon replaces the mean of a matrix's gradients by the nearest orthogonal matrix, so that all directions move alike.
    Scaled as in Moonlight (Liu et al., 2025), its updates are as large as Adam's, and one learning rate suits both.

    Args:
        groups: Groups of parameters, each with a bool `muon`.
        product_dtype: Type of the products that approximate the orthogonal matrix.
        options: Those of AdamW.
    """

    def __init__(self, groups: list[dict[str, Any]], product_dtype: torch.dtype, **options: Any) -> None:
        super().__init__(groups, **options)
        self._product_dtype = product_dtype

    def step(self, closure: Any = None) -> Any:
        """Update all parameters that have a gradient."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["muon"]]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["muon"]:
                self._update_matrices(group)
        return loss

    @torch.no_grad()
    def _update_matrices(self, group: dict[str, Any]) -> None:
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if not state:
                state.update(step=torch.tensor(0.0), exp_avg=torch.zeros_like(weight))  # AdamW expects a step
            state["step"] += 1
            mean = state["exp_avg"].lerp_(weight.grad, 1.0 - MOMENTUM)
            update = _orthogonal(weight.grad.lerp(mean, MOMENTUM), self._product_dtype)
            weight.mul_(1.0 - group["lr"] * group["weight_decay"])
            weight.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(weight.shape)))


MOMENTUM = 0.95
"""Of Muon's mean of the gradients."""
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""The state of AdamW for each parameter."""
MUON_MOMENTS = ("step", "exp_avg")
"""That of Muon."""


def _orthogonal(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Nearly the nearest orthogonal matrix, by five Newton-Schulz steps: singular values become 0.7 to 1.2.

    Of a sharded matrix every device computes all, and keeps its shard.
    """
    if isinstance(matrix, DTensor):
        whole = _orthogonal(matrix.full_tensor(), dtype)
        return distribute_tensor(whole, matrix.device_mesh, matrix.placements, src_data_rank=None)
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if is_tall else matrix).to(dtype)
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        square = x @ x.T
        polynomial = torch.addmm(square, square, square, beta=-4.7750, alpha=2.0315)
        x = torch.addmm(x, polynomial, x, beta=3.4445)
    return (x.T if is_tall else x).to(matrix.dtype)


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are updated alike: with a weight decay, and by Muon or by AdamW."""

    parameters: list[Tensor]
    weight_decay: float
    muon: bool = False


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, fused: bool, product_dtype: torch.dtype = torch.float32
) -> torch.optim.AdamW:
    """The optimizer over the groups of `parameter_groups`. product_dtype: of Muon's products."""
    groups: list[dict[str, Any]] = [
        {"params": group.parameters, "weight_decay": group.weight_decay} | ({"muon": group.muon} if config.muon else {})
        for group in parameter_groups(model, config)
    ]
    options: dict[str, Any] = {"lr": config.lr, "betas": (config.beta1, config.beta2), "fused": fused}
    if not config.muon:
        return torch.optim.AdamW(groups, **options)
    return MuonAdamW(groups, product_dtype, **options)


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[ParameterGroup]:
    """The parameters of two and more dimensions, which decay; the others; and those that Muon updates, if any.

    Checkpoints number the parameters in this order.
    """
    matrices = _block_matrices(model) if config.muon else []
    chosen = {id(matrix) for matrix in matrices}
    others: list[Tensor] = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    groups = [
        ParameterGroup([p for p in others if p.ndim >= 2], config.weight_decay),
        ParameterGroup([p for p in others if p.ndim < 2], 0.0),
    ]
    return [*groups, ParameterGroup(matrices, config.weight_decay, muon=True)] if config.muon else groups


def _block_matrices(model: nn.Module) -> list[Tensor]:
    """The weights of the linear layers in all Transformer blocks."""
    blocks = (module for module in model.modules() if isinstance(module, Block))
    linears = (layer for block in blocks for layer in block.modules() if isinstance(layer, nn.Linear))
    return [layer.weight for layer in linears if layer.weight.requires_grad]


class LearningRate:
    """The learning rate of every update, as a share of the peak; called with the number of the update.

    The decay follows the share of the updates after warm-up, or that of the time after warm-up, whichever is greater.
    Without limits, the rate stays at its peak.

    Args:
        config: The peak, the warm-up and the decay.
        total_steps: Updates in the run, or inf.
        clock: Returns the elapsed time and its limit in the same unit; a limit of inf for none.
    """

    # LambdaLR's state dict holds what is in __dict__: `warmup_time` alone.
    __slots__ = ("__dict__", "_clock", "_config", "_total_steps")

    def __init__(
        self,
        config: OptimizerConfig,
        total_steps: float,
        clock: Callable[[], tuple[float, float]] = lambda: (0.0, math.inf),
    ) -> None:
        self._config, self._total_steps, self._clock = config, total_steps, clock
        self.warmup_time: float | None = None
        """The time at the end of warm-up, None before it."""

    def __call__(self, step: int) -> float:
        """The share of the peak at an update; those of a run are asked for in their order."""
        config = self._config
        if step < config.warmup_steps:
            self.warmup_time = None
            return (step + 1) / (config.warmup_steps + 1)
        elapsed, limit = self._clock()
        if self.warmup_time is None:
            # Checkpoints did not always hold it: the decay of such a run has counted all of its time.
            self.warmup_time = elapsed if step == config.warmup_steps else 0.0
        if config.decay == "constant":
            return 1.0
        steps_done = (step - config.warmup_steps) / max(1.0, self._total_steps - config.warmup_steps)
        time_done = (elapsed - self.warmup_time) / max(limit - self.warmup_time, 1e-9)
        done = min(1.0, max(steps_done, time_done))
        left = 1.0 - done if config.decay == "linear" else 0.5 + 0.5 * math.cos(math.pi * done)
        return config.final_lr + (1.0 - config.final_lr) * left


def apply_current_settings(
    checkpoint: dict[str, Any], config: OptimizerConfig, groups: Sequence[ParameterGroup]
) -> None:
    """Replace the optimizer settings in a checkpoint of these groups by those of this run; moments and counts stay."""
    for optimizer in checkpoint[OPTIMIZER_STATES]:
        for stored, group in zip(optimizer["param_groups"], groups, strict=True):
            stored.update(initial_lr=config.lr, betas=(config.beta1, config.beta2), weight_decay=group.weight_decay)
    for scheduler in checkpoint["lr_schedulers"]:
        scheduler["base_lrs"] = [config.lr for _ in scheduler["base_lrs"]]


def apply_current_lr(schedule: LambdaLR) -> None:
    """Set the learning rate of the next update by the schedule, in place of the one in the checkpoint."""
    for group, peak, factor in zip(
        schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
    ):
        group["lr"] = peak * factor(schedule.last_epoch)
