"""The models and batches that are timed: those of the shipped configs, of the paper, or a toy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from megabyte_mm.alphabet import BYTES
from megabyte_mm.cli.config import read_config
from megabyte_mm.models import MegabyteConfig, StackConfig

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SHIPPED = ("image", "audio", "text")


@dataclass(frozen=True)
class Workload:
    """A model as `fit` would complete it from its data, and the number of windows in a training step."""

    name: str
    config: MegabyteConfig
    batch: int

    @property
    def patch_size(self) -> int:
        assert self.config.patch_size is not None
        return self.config.patch_size

    @property
    def window(self) -> int:
        assert self.config.max_len is not None
        return self.config.max_len

    def ids(self, batch: int, length: int, device: torch.device) -> Tensor:
        """Random bytes, the same ones at every call: (batch, length) int64."""
        generator = torch.Generator().manual_seed(0)
        return torch.randint(BYTES, (batch, length), generator=generator).to(device)


def shipped(name: str) -> Workload:
    """The workload of configs/NAME.yaml."""
    config = read_config(str(CONFIGS / f"{name}.yaml"))
    net = config.build_empty().config
    assert isinstance(net, MegabyteConfig)
    return Workload(name, net, config.data.batch_size)


def paper_config(name: str) -> MegabyteConfig:
    """The model of configs/paper/NAME.yaml."""
    net = read_config(str(CONFIGS / "paper" / f"{name}.yaml")).build_empty().config
    assert isinstance(net, MegabyteConfig)
    return net


def toy() -> Workload:
    """A model so small that a step takes a moment."""
    stack = StackConfig(dim=16, layers=1, heads=2)
    return Workload("toy", MegabyteConfig(patch_size=4, max_len=16, global_stack=stack, local_stack=stack), batch=2)
