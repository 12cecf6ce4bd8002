"""The implementations whose training steps are timed, each in a worker process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.harness.memory import PeakMemory
from benchmarks.harness.timing import timed
from benchmarks.harness.training import LEARNING_RATE, fit_loss, fit_precision, training_step
from benchmarks.harness.workloads import Workload, toy
from benchmarks.peers import PEERS, Peer, build_peer
from benchmarks.train_step.workloads import transformer
from megabyte_mm.models import ByteModel, StepOptions
from megabyte_mm.training.trainer import activation_budget, keep_freed_memory

OURS = "megabyte-mm"


@dataclass(frozen=True)
class Implementation:
    """An implementation with its settings.

    Args:
        name: In the rows of tables.
        peer: A peer by its name in `PEERS`; None for this project's models.
        float32: Train in float32 whatever the precision of `fit`.
        compiled: Compile its blocks by torch.compile.
        transformer: The Transformer in place of MEGABYTE.
        own_defaults: The package's own defaults, loss, optimizer and clipping in place of ours.
    """

    name: str
    peer: str | None = None
    float32: bool = False
    compiled: bool = False
    transformer: bool = False
    own_defaults: bool = False

    def precision(self, device: torch.device) -> str:
        """float32 or bfloat16."""
        return "float32" if self.float32 or self.own_defaults else fit_precision(device)

    def is_redundant(self, device: torch.device) -> bool:
        """Whether `float32` changes nothing, since `fit` trains in float32 on the device."""
        return self.float32 and fit_precision(device) == "float32"


def _of_peer(peer: str) -> tuple[Implementation, ...]:
    package = PEERS[peer].package
    return (
        Implementation(f"{package}, own defaults", peer, own_defaults=True),
        Implementation(f"{package}, our settings", peer),
        Implementation(f"{package}, our settings, float32", peer, float32=True),
    )


IMPLEMENTATIONS = (
    Implementation(OURS),
    Implementation(f"{OURS}, compiled", compiled=True),
    Implementation(f"{OURS}, float32", float32=True),
    Implementation("Transformer", transformer=True),
    *(implementation for peer in PEERS for implementation in _of_peer(peer)),
)


@dataclass(frozen=True)
class ModelInfo:
    """A model's size and the operations of its training step; None for a peer, which counts none.

    Args:
        parameters: Number of parameters.
        matrix_flops: Operations per byte of products with weights: six for each weight that a byte meets.
        flops: The same with the products of attention.
    """

    parameters: int
    matrix_flops: float | None = None
    flops: float | None = None


@dataclass(frozen=True)
class Measurement:
    """Seconds of a step, and bytes of memory at its peak."""

    seconds: float
    peak: int | None


def set_up_steps(
    implementation: Implementation, workload: Workload, device: torch.device
) -> tuple[ModelInfo, Callable[[int], Measurement]]:
    """For a worker: a function that takes so many training steps."""
    if device.type == "cpu" and implementation.peer is None:
        keep_freed_memory()
    torch.manual_seed(0)
    _load_libraries(device, implementation.precision(device))
    model = build(implementation, workload, device)
    step = _step(implementation, model, workload.ids(workload.batch, workload.window, device))
    # On a GPU all that is allocated; on a CPU without the program and the weights.
    memory = PeakMemory(device, baseline=0 if device.type == "cuda" else None)

    def take(steps: int) -> Measurement:
        memory.reset()
        return Measurement(timed(step, steps, device), memory.rise())

    return model_info(model), take


def _load_libraries(device: torch.device, precision: str) -> None:
    """Take a step of a toy, so that what torch loads for its first one counts for no implementation."""
    small = toy()
    training_step(small.config.build().to(device), small.ids(small.batch, small.window, device), precision)()


def build(implementation: Implementation, workload: Workload, device: torch.device) -> ByteModel:
    """The untrained model of an implementation."""
    if implementation.peer is not None:
        return build_peer(implementation.peer, workload.config, device, implementation.own_defaults)
    config = transformer(workload) if implementation.transformer else workload.config
    model = config.build().to(device)
    if implementation.compiled:
        model.compile_blocks()
    return model


def _step(implementation: Implementation, model: ByteModel, ids_BT: torch.Tensor) -> Callable[[], None]:
    precision = implementation.precision(ids_BT.device)
    if not isinstance(model, Peer):
        options = StepOptions(activation_budget(None, ids_BT.device))  # as in `fit`
        return training_step(model, ids_BT, precision, fit_loss(model, options))
    if not implementation.own_defaults:
        return training_step(model, ids_BT, precision, model.own_loss)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    return training_step(model, ids_BT, precision, model.own_loss, optimizer, model.own_clip)


def model_info(model: ByteModel) -> ModelInfo:
    """Size and operations of a model."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if isinstance(model, Peer):
        return ModelInfo(parameters)
    matrix_flops = 3 * model.training_flops[""].matrices / model.max_len
    return ModelInfo(parameters, matrix_flops, model.training_flops_per_byte())
