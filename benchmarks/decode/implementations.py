"""What draws bytes, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from benchmarks.decode.hollow import hollow_reading
from benchmarks.harness.timing import timed
from benchmarks.peers import build_peer
from megabyte_mm.alphabet import BYTES
from megabyte_mm.generation import SamplingParams, row_seeds
from megabyte_mm.generation.engine import generate_rows
from megabyte_mm.models import ByteModel, Execution, MegabyteConfig, ModelConfig, with_rounded_weights

DRAWN = SamplingParams(allow_end=False)
NATIVE = Execution("native")


@dataclass(frozen=True)
class Stretches:
    """What is drawn in a turn.

    Args:
        places: How many bytes stand before each stretch.
        length: How many bytes each has.
        whole: Whether what comes before a stretch's first byte counts as well: for drawing from nothing.
    """

    places: tuple[int, ...]
    length: int
    whole: bool = False

    @property
    def mean_place(self) -> float:
        """How many bytes stand before a byte that is drawn, on average."""
        return sum(self.places) / len(self.places) + self.length / 2


@dataclass(frozen=True)
class Candidate:
    """An implementation that draws.

    Args:
        name: What its rows are called.
        config: Its model.
        rows: How many sequences it draws together.
        stretches: What it draws in a turn.
        execution: How its steps are computed.
        peer: Which other package it is, by its name in `PEERS`; None for this project's models. A peer draws the last
            byte of its window, whatever `stretches` says.
    """

    name: str
    config: ModelConfig
    rows: int
    stretches: Stretches
    execution: Execution = NATIVE
    peer: str | None = None


def on_device(device: str, execution: Execution) -> Execution:
    """The same, compiled in place of native where nothing is native."""
    if device != "cpu" and execution.backend == "native":
        return Execution("compile", execution.precision)
    return execution


def last_stretch(config: ModelConfig, length: int) -> Stretches:
    """One stretch that ends close before the window does, where a patch begins."""
    assert config.max_len is not None
    size = (config.patch_size if isinstance(config, MegabyteConfig) else None) or 8
    place = (config.max_len - length - 1) // size * size
    if place < 0:
        raise ValueError(f"a stretch of {length} bytes does not fit into a window of {config.max_len}")
    return Stretches((place,), length)


def start_drawing(candidate: Candidate, device: torch.device) -> tuple[int, Callable[[None], float]]:
    """For a worker: its parameters, and a function that takes a turn and tells the seconds per byte of each row."""
    torch.manual_seed(0)
    if candidate.peer is not None:
        return _start_peer(candidate, candidate.peer, device)
    model = candidate.config.build().to(device).eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if candidate.execution.precision is not None:
        model = with_rounded_weights(model, candidate.execution.precision, model.tied_embeddings)
    decoder = model.decoder(candidate.rows, None, model.max_len, candidate.execution)
    stretches = candidate.stretches

    def begin(place: int) -> Iterator[Tensor]:
        prefixes = [random_bytes(place, device)] * candidate.rows
        # A window that slides is cut and read again by the way: as many bytes as are asked for are drawn.
        lengths = [stretches.length + 1] * candidate.rows
        return generate_rows(decoder, prefixes, lengths, DRAWN, row_seeds(0, candidate.rows))

    def take(_: None) -> float:
        seconds = [_seconds_of(begin(place), model, stretches, device) for place in stretches.places]
        return sum(seconds) / len(seconds) / stretches.length

    return parameters, take


def _seconds_of(columns: Iterator[Tensor], model: ByteModel, stretches: Stretches, device: torch.device) -> float:
    if not stretches.whole:
        # The first byte comes with all that is before it.
        with hollow_reading(model):
            next(columns)

    def draw() -> None:
        for _ in islice(columns, stretches.length):
            pass

    return timed(draw, 1, device)


def random_bytes(length: int, device: torch.device) -> Tensor:
    """The same ones at every call: (length,) int64."""
    return torch.randint(BYTES, (length,), generator=torch.Generator().manual_seed(0)).to(device)


def _start_peer(candidate: Candidate, name: str, device: torch.device) -> tuple[int, Callable[[None], float]]:
    assert isinstance(candidate.config, MegabyteConfig)
    peer = build_peer(name, candidate.config, device).eval()
    prefix_BT = random_bytes(peer.max_len - 1, device).expand(candidate.rows, -1)
    parameters = sum(parameter.numel() for parameter in peer.parameters())
    return parameters, lambda _: timed(lambda: peer.own_continuation(prefix_BT), 1, device)
