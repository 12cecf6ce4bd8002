"""Checks that kernels of this project, which Triton compiles on the user's machine, can be used there."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch

log = logging.getLogger(__name__)
MIN_CAPABILITY = (8, 0)
"""Of CUDA devices: older ones do not multiply bfloat16."""


@cache
def runs_triton(device: torch.device) -> bool:
    """True for a CUDA device with Triton and the capability that kernels need."""
    return find_spec("triton") is not None and torch.cuda.get_device_capability(device) >= MIN_CAPABILITY


def agree(compare: Callable[[], object], what: str, device: torch.device) -> bool:
    """True unless a comparison of kernels with torch's operations raises, which a warning reports, or returns False.

    Kernels are compiled by whatever Triton is there: no model may learn, and nothing be sampled, from wrong numbers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of compilers about themselves
            passes = compare() is not False
    except Exception as error:  # noqa: BLE001 - a compiler may fail in any way
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        log.warning("%s does without its own kernels on %s: %s", what, device, reason)
        return False
    return passes
