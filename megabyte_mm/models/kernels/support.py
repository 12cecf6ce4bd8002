"""What operations with kernels share: whether Triton's run on the user's machine, and what dropout keeps."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

log = logging.getLogger(__name__)
MIN_CAPABILITY = (8, 0)
"""Of CUDA devices: older ones do not multiply bfloat16."""
DTYPES = (torch.bfloat16, torch.float16)
"""What kernels of training multiply."""


@cache
def runs_triton(device: torch.device) -> bool:
    """True for a CUDA device with Triton and the capability that kernels need."""
    return find_spec("triton") is not None and torch.cuda.get_device_capability(device) >= MIN_CAPABILITY


def agree(compare: Callable[[], object], what: str, device: torch.device) -> bool:
    """True unless a comparison of kernels with torch's operations raises, which a warning reports, or returns False.

    Kernels are compiled by whatever Triton is there: no model may learn, and nothing be sampled, from wrong numbers.
    Random states stay as they are: activations may be recomputed from the state that was there before.
    """
    try:
        with warnings.catch_warnings(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            warnings.simplefilter("ignore")  # of compilers about themselves
            passes = compare() is not False
    except Exception as error:  # noqa: BLE001 - a compiler may fail in any way
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        log.warning("%s does without its own kernels on %s: %s", what, device, reason)
        return False
    return passes


def kept_by_dropout(shape: tuple[int, ...], dropout: float, device: torch.device) -> Tensor | None:
    """Which elements dropout keeps, at random; None for a dropout of 0."""
    if dropout == 0.0:
        return None
    return torch.empty(shape, dtype=torch.bool, device=device).bernoulli_(1.0 - dropout)
