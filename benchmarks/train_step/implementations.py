"""The implementations whose training steps are timed, each as it runs in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.harness.memory import PeakMemory
from benchmarks.harness.timing import timed
from benchmarks.harness.training import LEARNING_RATE, fit_loss, training_step
from benchmarks.harness.workloads import Workload, workloads
from benchmarks.peers import PEERS, Peer, build_peer
from benchmarks.train_step.shapes import baseline
from megabyte_mm.models import ByteModel, StepOptions
from megabyte_mm.training.module import activation_budget
from megabyte_mm.training.trainer import best_precision, keep_freed_memory

OURS = "megabyte-mm"


@dataclass(frozen=True)
class Candidate:
    """An implementation with its settings.

    Args:
        name: What its rows are called.
        peer: Which other package it is, by its name in `PEERS`; None for this project's models.
        float32: Whether it is in float32 whatever `fit` would take.
        compiled: Whether torch.compile writes the code of its blocks.
        baseline: Whether it is the Transformer instead of MEGABYTE.
        as_it_comes: Whether it has its package's defaults, loss, optimizer and clipping instead of ours.
    """

    name: str
    peer: str | None = None
    float32: bool = False
    compiled: bool = False
    baseline: bool = False
    as_it_comes: bool = False

    def precision(self, device: torch.device) -> str:
        """float32 or bfloat16."""
        return "float32" if self.float32 or self.as_it_comes else fit_precision(device)

    def twin(self, device: torch.device) -> bool:
        """Whether it is the same as the candidate without `float32`, since `fit` takes that already."""
        return self.float32 and fit_precision(device) == "float32"


def _of_peer(peer: str) -> tuple[Candidate, ...]:
    package = PEERS[peer].package
    return (
        Candidate(f"{package}, as it comes", peer, as_it_comes=True),
        Candidate(f"{package}, our settings", peer),
        Candidate(f"{package}, our settings, float32", peer, float32=True),
    )


CANDIDATES = (
    Candidate(OURS),
    Candidate(f"{OURS}, compiled", compiled=True),
    Candidate(f"{OURS}, float32", float32=True),
    Candidate("Transformer", baseline=True),
    *(candidate for peer in PEERS for candidate in _of_peer(peer)),
)


@dataclass(frozen=True)
class About:
    """What a candidate's model is, and what a step multiplies; None where it does not tell.

    Args:
        parameters: How many it has.
        matrix_flops: Operations of a step, by byte, of products with weights: six for each weight that a byte meets.
        flops: The same with the products of attention.
    """

    parameters: int
    matrix_flops: float | None = None
    flops: float | None = None


@dataclass(frozen=True)
class Turn:
    """What a worker measured: seconds for a step, and bytes of memory at the peak."""

    seconds: float
    peak: int | None


def start_steps(candidate: Candidate, shape: Workload, device: torch.device) -> tuple[About, Callable[[int], Turn]]:
    """For a worker: a function that takes so many training steps."""
    if device.type == "cpu" and candidate.peer is None:
        keep_freed_memory()
    torch.manual_seed(0)
    _load_libraries(device, candidate.precision(device))
    model = build(candidate, shape, device)
    step = _step(candidate, model, shape.ids(shape.batch, shape.window, device))
    # On a GPU all that is allocated, on a CPU without the program and the weights.
    memory = PeakMemory(device, above=0 if device.type == "cuda" else None)

    def take(steps: int) -> Turn:
        memory.begin()
        return Turn(timed(step, steps, device), memory.rise())

    return about(model), take


def _load_libraries(device: torch.device, precision: str) -> None:
    """Take a step of a toy, so that what torch loads for its first one does not count as a candidate's memory."""
    [toy] = workloads(toy=True)
    training_step(toy.config.build().to(device), toy.ids(toy.batch, toy.window, device), precision)()


def build(candidate: Candidate, shape: Workload, device: torch.device) -> ByteModel:
    """The untrained model of a candidate."""
    if candidate.peer is not None:
        return build_peer(candidate.peer, shape.config, device, candidate.as_it_comes)
    config = baseline(shape) if candidate.baseline else shape.config
    model = config.build().to(device)
    if candidate.compiled:
        model.compile_blocks()
    return model


def _step(candidate: Candidate, model: ByteModel, ids_BT: torch.Tensor) -> Callable[[], None]:
    precision = candidate.precision(ids_BT.device)
    if not isinstance(model, Peer):
        options = StepOptions(activation_budget(None, ids_BT.device))  # as `fit` has it
        return training_step(model, ids_BT, precision, fit_loss(model, options))
    if not candidate.as_it_comes:
        return training_step(model, ids_BT, precision, model.own_loss)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    return training_step(model, ids_BT, precision, model.own_loss, optimizer, model.own_clip)


def about(model: ByteModel) -> About:
    """What is known of a model; a peer does not say how much it computes."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if isinstance(model, Peer):
        return About(parameters)
    matrix_flops = 3 * model.training_flops[""].matrices / model.max_len
    return About(parameters, matrix_flops, model.training_flops_per_byte())


def fit_precision(device: torch.device) -> str:
    """What `fit` would take on such a device: bfloat16 where the hardware is fast at it, else float32."""
    return "bfloat16" if best_precision("cpu" if device.type == "cpu" else "auto") == "bf16-mixed" else "float32"
