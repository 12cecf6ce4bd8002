"""What must be read from memory for each byte that is drawn, what caches take, and how fast memory is read."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch

from benchmarks.decode.implementations import Candidate
from benchmarks.decode.models import unallocated
from benchmarks.harness.timing import timed
from megabyte_mm.models import MegabyteConfig, ModelConfig, StackConfig, TransformerConfig
from megabyte_mm.models.flops import multiplied_weights

CACHED_BYTES = 4
"""Keys and values are float32 whatever the weights are."""
WEIGHT_BYTES = {None: 4, "bfloat16": 2, "int8": 1}
SUMMED = 100_000_000
"""Numbers in the tensor that is summed: far more than a processor's caches hold."""
SUMS_IN_A_TURN = 3


def bytes_for_a_byte(candidate: Candidate) -> float:
    """What must be read for each byte drawn: weights, once a step for all rows, and a row's cached keys and values.

    The global level of MEGABYTE reads its own once a patch. What the local level caches is left out: a patch's few
    keys and values never leave the processor.
    """
    weights = multiplied_weights(unallocated(candidate.config))
    width = WEIGHT_BYTES[candidate.execution.precision]
    config, place = candidate.config, candidate.stretches.mean_place
    if isinstance(config, MegabyteConfig):
        assert config.patch_size is not None
        assert config.global_stack is not None
        size = config.patch_size
        # Once a patch: to_local sees all places of a patch by one reading of its matrix.
        seldom = weights.pop("global_stack") + weights.pop("to_local")
        read = sum(weights.values()) + seldom / size
        return width * read / candidate.rows + cached_bytes(config.global_stack, place / size) / size
    assert isinstance(config, TransformerConfig)
    return width * sum(weights.values()) / candidate.rows + cached_bytes(config.stack, place)


def cached_bytes(stack: StackConfig, positions: float) -> float:
    """Keys and values of one row."""
    return 2 * CACHED_BYTES * stack.dim * stack.layers * positions


def memory_of(candidate: Candidate) -> float:
    """About how many bytes a candidate's caches and weights take."""
    if candidate.peer is not None:
        return _weights_bytes(candidate.config)
    config = candidate.config
    assert config.max_len is not None
    if isinstance(config, MegabyteConfig):
        assert config.patch_size is not None
        assert config.global_stack is not None
        held = cached_bytes(config.global_stack, config.max_len / config.patch_size)
    else:
        assert isinstance(config, TransformerConfig)
        held = cached_bytes(config.stack, config.max_len)
    return candidate.rows * held + 2 * _weights_bytes(config)


def _weights_bytes(config: ModelConfig) -> float:
    return 4 * sum(parameter.numel() for parameter in unallocated(config).parameters())


def start_sums(count: int, device: torch.device) -> tuple[None, Callable[[None], float]]:
    """For a worker: a function that tells the seconds of a byte read, by summing so many float32 numbers."""
    numbers = torch.ones(count, device=device)

    def read(_: None) -> float:
        seconds = median(timed(numbers.sum, 1, device) for _ in range(SUMS_IN_A_TURN))
        return seconds / (numbers.element_size() * count)

    return None, read
