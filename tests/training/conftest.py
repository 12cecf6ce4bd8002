"""A run of a very small model on a few made-up files, inside the test's own process."""

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from megabyte_mm.cli.main import main
from megabyte_mm.training.console import LOGGERS

Fit = Callable[..., int]

SMALL_NET = """
    patch_size: 4
    global_stack: {dim: 16, layers: 1, heads: 2}
    local_stack: {dim: 8, layers: 1, heads: 2}
"""


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder to work in, and nothing left changed that the program sets for a whole process."""
    monkeypatch.chdir(tmp_path)
    kept = {name: (log.handlers, log.level, log.propagate) for name in LOGGERS for log in [logging.getLogger(name)]}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    shown, hook = warnings.formatwarning, threading.excepthook
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs start without
    yield
    warnings.formatwarning, threading.excepthook = shown, hook
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for name, (present, level, propagate) in kept.items():
        log = logging.getLogger(name)
        log.handlers, log.level, log.propagate = present, level, propagate


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """20 windows of 32 bytes to train on, 5 batches of 4; 3 windows to validate."""
    for name, size in {"train/a.txt": 10 * 32, "train/b.txt": 10 * 32, "val/c.txt": 80}.items():
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(97 + (7 * i * i + i // 5 + size) % 26 for i in range(size)))
    return tmp_path / "texts"


@pytest.fixture
def small(tmp_path: Path, texts: Path) -> Path:
    """A config: 8 steps on `texts`, validated every 4, in 32-bit floats on the CPU."""
    path = tmp_path / "small.yaml"
    path.write_text(
        f"""
trainer:
  default_root_dir: {tmp_path / "run"}
  max_steps: 8
  val_check_interval: 4
  log_every_n_steps: 1
  accelerator: cpu
  devices: 1
  precision: 32-true
data: {{path: {texts}, window: 32, batch_size: 4, val_batch_size: 2}}
samples: {{count: 0}}
model:
  net: {SMALL_NET}
  optimizer: {{lr: 0.01, warmup_steps: 2}}
"""
    )
    return path


@pytest.fixture
def fit(small: Path) -> Fit:
    """`megabyte-mm fit` with the small config, then the given arguments; returns the exit code."""
    return lambda *arguments, command="fit": main([command, "--config", str(small), *arguments])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The run folder of `small`."""
    return tmp_path / "run"


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint."""
    return dict(torch.load(path, weights_only=True)["state_dict"])


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
