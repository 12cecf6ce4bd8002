"""Killed at the worst moments and gone on with, a run ends as one that nothing disturbed."""

import json
import multiprocessing
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.soak import kill_and_resume, sigkill
from tests.soak.differences import differences
from tests.soak.phases import PHASES

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")

CONFIG: dict[str, Any] = {
    "seed_everything": 3,
    "checkpoint_minutes": 0.0,
    "trainer": {
        "max_steps": 10,
        "val_check_interval": 3,
        "accumulate_grad_batches": 2,
        "log_every_n_steps": 1,
        "accelerator": "cpu",
        "devices": 1,
        "precision": "32-true",
    },
    "data": {"window": 32, "batch_size": 4, "val_batch_size": 2, "num_workers": 1},
    "model": {
        "net": {
            "patch_size": 4,
            "global_stack": {"dim": 16, "layers": 1, "heads": 2},
            "local_stack": {"dim": 8, "layers": 1, "heads": 2},
            "dropout": 0.2,
        },
        "optimizer": {"lr": 0.01, "warmup_steps": 2, "decay": "cosine"},
    },
    "samples": {"count": 1, "length": 4},
}


@pytest.fixture
def live(tmp_path: Path) -> Callable[..., int | None]:
    """Lets a run live in a folder until it ends, or until a moment: the exit code of its process."""
    for name, size in {"train/a.txt": 640, "val/c.txt": 80}.items():
        (tmp_path / "texts" / name).parent.mkdir(parents=True)
        (tmp_path / "texts" / name).write_bytes(bytes(97 + (7 * i * i + i // 5) % 26 for i in range(size)))
    config = {**CONFIG, "data": {**CONFIG["data"], "path": str(tmp_path / "texts")}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config))
    # A clean process that has imported everything: each life is a copy of it, and starts at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.soak.sigkill", "megabyte_mm.cli.fit", "torch.utils.tensorboard"])

    common = ["fit", "--config", str(tmp_path / "small.yaml"), "--ckpt_path=last"]

    def one(folder: Path, moment: sigkill.Moment | None = None) -> int | None:
        arguments = [*common, f"--trainer.default_root_dir={folder}"]
        process = context.Process(target=sigkill.run, args=(arguments, moment, multiprocessing.get_start_method()))
        process.start()
        process.join()
        return process.exitcode

    return one


# An epoch has 5 batches in 3 updates, and the run is validated after the updates 1, 3, 5, 7 and 9.
OPTIMIZER_STATE = [
    ("in", "training_step", 0),
    ("replacing", "metrics.csv", 0),
    ("in", "validation_step", 1),
    ("writing", "best.ckpt", 1),
    ("writing", "last.ckpt", 2),
    ("replacing", "last.ckpt", 3),
    ("replacing", "best.ckpt", 5),
    ("in", "training_step", 7),
    ("replacing", "last.ckpt", 10),
]


def test_a_run_that_is_killed_in_everything_it_does_ends_as_if_nothing_had_been(live, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert live(whole) == 0
    for moment in OPTIMIZER_STATE:
        assert live(killed, moment) == -signal.SIGKILL, moment
        for path in killed.glob("*.ckpt"):
            assert torch.load(path, weights_only=True)["state_dict"]
    assert live(killed) == 0
    assert differences(whole, killed) == []


def test_the_program_kills_real_commands_and_finds_nothing_else(tmp_path, capfd):
    options = ("--settings", "text", "--kills", "1", "--steps", "8", "--seed", "1", "--folder", str(tmp_path))
    assert kill_and_resume.main([*options, "--json", str(tmp_path / "figures.json")]) == 0
    ((row,),) = json.loads((tmp_path / "figures.json").read_text())["text"].values()
    assert row["differences"] == 0
    assert row["kills"] == sum(row[f"in {phase}"] for phase in PHASES) == 1


def test_differences_are_found_in_weights_figures_and_samples(tmp_path):
    whole, other = tmp_path / "whole", tmp_path / "other"
    for root in (whole, other):
        (root / "logs/version_0/samples/step-0000002").mkdir(parents=True)
        (root / "logs/version_0/samples/step-0000002/val-00-000.txt").write_text("a text")
        (root / "logs/version_0/metrics.csv").write_text("step,train/loss,train/bytes_per_s\n0,5.5,10\n1,5.25,10\n")
        for name in ("last.ckpt", "best.ckpt"):
            torch.save({"state_dict": {"a": torch.ones(3)}, "loops": [1, {"ready": 2}]}, root / name)
    assert differences(whole, other) == []
    torch.save({"state_dict": {"a": torch.ones(3).nextafter(torch.zeros(3))}, "loops": [1, {}]}, other / "last.ckpt")
    (other / "logs/version_1").mkdir()
    (other / "logs/version_0/metrics.csv").write_text("step,train/loss,train/bytes_per_s\n0,5.5,99\n")
    (other / "logs/version_1/metrics.csv").write_text("step,train/loss\n0,5.75\n")
    (other / "logs/version_0/samples/step-0000002/val-00-000.txt").write_text("another text")
    assert differences(whole, other) == [
        "last.ckpt: /state_dict/a",
        "last.ckpt: /loops/1/ready: 2 and None",
        "train/loss of step 0: 5.5 and 5.5 and 5.75",
        "train/loss of step 1: 5.25 and none",
        "logs/version_0/samples/step-0000002/val-00-000.txt: another sample than in the undisturbed run",
    ]
