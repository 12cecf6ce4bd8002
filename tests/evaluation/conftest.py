"""A very small model, and streams of all lengths that matter."""

import numpy as np
import pytest
import torch

from megabyte_mm.models import ByteModel, Megabyte, MegabyteConfig, StackConfig


def tiny(patch_size: int = 4, window: int = 16, conditions: int = 2) -> ByteModel:
    """An untrained model whose symbols cost clearly different nats."""
    stacks = StackConfig(dim=4 * patch_size, layers=1, heads=1), StackConfig(dim=8, layers=1, heads=1)
    config = MegabyteConfig(
        patch_size=patch_size,
        max_len=window,
        global_stack=stacks[0],
        local_stack=stacks[1],
        conditions=conditions,
        init_std=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Megabyte(config).eval()


@pytest.fixture(scope="session")
def model() -> ByteModel:
    return tiny()


def stream(length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8)
