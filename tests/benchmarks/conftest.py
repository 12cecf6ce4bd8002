"""A little text, and experiments on it with models of a few weights."""

import numpy as np
import pytest
import torch
import yaml

from benchmarks.peers import PEERS

CPU = torch.device("cpu")
STACKS = {"global_stack": {"dim": 16, "layers": 1, "heads": 2}, "local_stack": {"dim": 16, "layers": 1, "heads": 2}}
TEXT = {
    "data": {"adapter": {"class_path": "data_adapters.TextAdapter"}, "window": 16},
    "defaults": {
        "net": {"patch_size": 4, "init_std": 0.05, **STACKS},
        "optimizer": {"warmup_steps": 1},
        "batch_size": 2,
    },
}


def _installed(name):
    reason = f"{PEERS[name].package} is not installed: see docs/benchmarks.md"
    return pytest.param(name, marks=pytest.mark.skipif(PEERS[name].installed() is None, reason=reason))


every_peer = pytest.mark.parametrize("name", [_installed(name) for name in PEERS])


@pytest.fixture
def texts(tmp_path):
    for split, length in (("train", 400), ("val", 90)):
        file = tmp_path / "data" / split / "some.txt"
        file.parent.mkdir(parents=True)
        file.write_bytes(np.random.default_rng(length).integers(97, 123, length, dtype=np.uint8).tobytes())
    return str(tmp_path / "data")


@pytest.fixture
def experiment(tmp_path):
    def write(models, **more):
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump({**TEXT, "models": models, **more}), encoding="utf-8")
        return path

    return write
