"""The optimizer with decay groups, AdamW or another, and the learning rate with warm-up and decay."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim.lr_scheduler import LambdaLR

from megabyte_mm.checkpoint.dcp import OPTIMIZER_STATES
from megabyte_mm.errors import FieldError
from megabyte_mm.models.layers import Block

Decay = Literal["linear", "cosine", "constant"]
StateKind = Literal["parameter", "number", "own"]
ADAMW = "AdamW"
OPTIMIZER = "optimizer"
"""The entry of a stored group with the name of its optimizer, unless that is AdamW."""


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer, and the learning rate over the course of a run.

    Args:
        lr: Peak learning rate.
        beta1: AdamW's decay of the gradient's mean.
        beta2: AdamW's decay of the gradient's square.
        weight_decay: Decay of matrices and tables; norms and biases are never decayed.
        warmup_steps: Updates over which the learning rate rises from 0; the decay fills the rest of the run.
        decay: Its fall from there to `final_lr` of the peak by the end of the run: trainer.max_steps, max_epochs
            or max_time, whichever is nearer.
        final_lr: The learning rate at the end of the decay, as a share of the peak.
        muon: Update the matrices of Transformer blocks by Muon, and only the rest by AdamW. Fewer steps are needed,
            but each takes longer; worthwhile where a batch costs more than the matrices' own products.
        algorithm: The class of the optimizer: the name of one in torch.optim, such as SGD, or the import path of any.
        options: Its arguments beside the parameters, lr and weight_decay, such as momentum: 0.9.
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.1
    warmup_steps: int = 100
    decay: Decay = "linear"
    final_lr: float = 0.0
    muon: bool = False
    algorithm: str = "AdamW"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.0 < self.lr < math.inf:
            raise FieldError("lr", f"is {self.lr}; it must be a number above 0")
        for name in ("beta1", "beta2"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise FieldError(name, f"is {getattr(self, name)}; it must be at least 0 and below 1")
        for name in ("weight_decay", "warmup_steps", "final_lr"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise FieldError(name, f"is {getattr(self, name)}; it must be a number, and not negative")
        if self.decay not in get_args(Decay):
            raise FieldError("decay", f"is {self.decay!r}; known: {', '.join(get_args(Decay))}")
        is_adamw = self.optimizer_name == ADAMW
        if self.muon and not is_adamw:
            raise FieldError("muon", f"goes with AdamW alone; algorithm is {self.algorithm}")
        own = ("params", "lr", "weight_decay", *(("betas",) if is_adamw else ()))
        if taken := [name for name in own if name in self.options]:
            raise FieldError("options", f"holds {taken[0]}, which has a field of its own, or none")
        _empty_groups(self)

    @property
    def optimizer_class(self) -> type[torch.optim.Optimizer]:
        """The class that `algorithm` names. Raises FieldError if there is none."""
        module, _, name = self.algorithm.rpartition(".")
        try:
            optimizer = getattr(import_module(module or "torch.optim"), name, None)
        except (ImportError, ValueError):
            optimizer = None
        if not isinstance(optimizer, type) or not issubclass(optimizer, torch.optim.Optimizer):
            raise FieldError(
                "algorithm", f"is {self.algorithm!r}, which is no optimizer: take AdamW, SGD or an import path"
            )
        return optimizer

    @property
    def optimizer_name(self) -> str:
        """The class under one name, in whatever way it was written."""
        optimizer = self.optimizer_class
        name = f"{optimizer.__module__}.{optimizer.__qualname__}"
        return optimizer.__qualname__ if name.startswith("torch.optim.") else name


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
    """Parameters that are updated alike: with a weight decay, and by Muon or by the optimizer of that name."""

    parameters: list[Tensor]
    weight_decay: float
    muon: bool = False
    optimizer: str = ADAMW
    state: Mapping[str, StateKind] = field(default_factory=dict)
    """What the optimizer holds of each parameter: of its shape, a number, or of a shape of its own."""


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, fused: bool, product_dtype: torch.dtype = torch.float32
) -> torch.optim.Optimizer:
    """The optimizer over the groups of `parameter_groups`. fused: AdamW's kernel. product_dtype: of Muon's products."""
    return _optimizer(parameter_groups(model, config), config, fused, product_dtype)


def _optimizer(
    groups: Sequence[ParameterGroup], config: OptimizerConfig, fused: bool, product_dtype: torch.dtype
) -> torch.optim.Optimizer:
    """The optimizer over groups, each marked in the checkpoint by what it is updated with, unless it is AdamW."""
    kind: Callable[..., torch.optim.Optimizer] = config.optimizer_class
    name = config.optimizer_name
    marks: list[dict[str, Any]] = [
        ({"muon": group.muon} if config.muon else {}) | ({} if name == ADAMW else {OPTIMIZER: name}) for group in groups
    ]
    settings = [
        {"params": group.parameters, "weight_decay": group.weight_decay} | mark
        for group, mark in zip(groups, marks, strict=True)
    ]
    if name != ADAMW:
        return kind(settings, lr=config.lr, **config.options)
    options: dict[str, Any] = {"lr": config.lr, "betas": (config.beta1, config.beta2), "fused": fused, **config.options}
    return MuonAdamW(settings, product_dtype, **options) if config.muon else torch.optim.AdamW(settings, **options)


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[ParameterGroup]:
    """The parameters of two and more dimensions, which decay; the others; and those that Muon updates, if any.

    Checkpoints number the parameters in this order.
    """
    matrices = _block_matrices(model) if config.muon else []
    chosen = {id(matrix) for matrix in matrices}
    others: list[Tensor] = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    parameters = [[p for p in others if p.ndim >= 2], [p for p in others if p.ndim < 2], matrices]
    empty = _empty_groups(config)
    return [replace(group, parameters=own) for group, own in zip(empty, parameters, strict=False)]


def _empty_groups(config: OptimizerConfig) -> list[ParameterGroup]:
    """The groups without their parameters. Raises FieldError for an optimizer that does not work like this.

    What it holds of a parameter is seen after an update of small ones.
    """
    decays = [config.weight_decay, 0.0, *([config.weight_decay] if config.muon else [])]
    shapes = [(2, 3), (5,), (2, 3)]
    groups = [
        ParameterGroup([nn.Parameter(torch.zeros(shape, device="cpu"))], decay, number == 2, config.optimizer_name)
        for number, (shape, decay) in enumerate(zip(shapes, decays, strict=False))
    ]
    for group in groups:
        group.parameters[0].grad = torch.zeros_like(group.parameters[0])
    if config.optimizer_name.endswith("Muon"):
        raise FieldError(
            "algorithm", "Muon updates matrices alone: set model.optimizer.muon, which leaves the rest to AdamW"
        )
    try:
        optimizer = _optimizer(groups, config, fused=False, product_dtype=torch.float32)
        optimizer.step()
    except (TypeError, ValueError, RuntimeError) as error:
        raise FieldError("options", f"do not suit {config.algorithm}: {' '.join(str(error).split())}") from error
    if config.weight_decay and "weight_decay" not in optimizer.defaults:
        raise FieldError("weight_decay", f"is {config.weight_decay}, but {config.algorithm} has none: set it to 0")
    states = [optimizer.state[group.parameters[0]] for group in groups]
    return [
        replace(group, parameters=[], state={name: _kind(value, group.parameters[0]) for name, value in state.items()})
        for group, state in zip(groups, states, strict=True)
    ]


def _kind(value: Any, parameter: Tensor) -> StateKind:
    if not isinstance(value, Tensor) or not value.ndim:
        return "number"
    return "parameter" if value.shape == parameter.shape else "own"


def works_in_shards(model: nn.Module, config: OptimizerConfig) -> bool:
    """False for an optimizer such as Adafactor, whose sums over rows and columns torch cannot shard."""
    return all(kind != "own" for group in parameter_groups(model, config) for kind in group.state.values())


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
    own = {"betas": (config.beta1, config.beta2)} if config.optimizer_name == ADAMW else {}
    for optimizer in checkpoint[OPTIMIZER_STATES]:
        for stored, group in zip(optimizer["param_groups"], groups, strict=True):
            stored.update(own | config.options, initial_lr=config.lr, weight_decay=group.weight_decay)
    for scheduler in checkpoint["lr_schedulers"]:
        scheduler["base_lrs"] = [config.lr for _ in scheduler["base_lrs"]]


def apply_current_lr(schedule: LambdaLR) -> None:
    """Set the learning rate of the next update by the schedule, in place of the one in the checkpoint."""
    for group, peak, factor in zip(
        schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
    ):
        group["lr"] = peak * factor(schedule.last_epoch)
