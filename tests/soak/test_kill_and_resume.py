"""Killed at the worst moments and resumed, a run ends like an undisturbed one; and a smoke test of the script."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml

from tests.soak import chain, kill_and_resume
from tests.soak.config import write_config
from tests.soak.differences import differences
from tests.soak.phases import PHASES
from tests.soak.sigkill import Moment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")


@pytest.fixture
def fit(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Runs the script's config, shrunk, in a folder until it ends, or until a moment: the process's exit code."""
    path = write_config("text", tmp_path, steps=6)
    config = yaml.safe_load(path.read_text())
    for name, size in {"train/a.txt": 640, "val/c.txt": 80}.items():
        (tmp_path / "texts" / name).parent.mkdir(parents=True)
        (tmp_path / "texts" / name).write_bytes(bytes(97 + (7 * i * i + i // 5) % 26 for i in range(size)))
    # An epoch has 5 batches in 3 updates; a validation falls inside every other update.
    config["trainer"]["val_check_interval"] = 3
    config["data"] |= {"path": str(tmp_path / "texts"), "window": 32, "num_workers": 1}
    config["model"]["net"] |= {
        "patch_size": 4,
        "global_stack": {"dim": 16, "layers": 1, "heads": 2},
        "local_stack": {"dim": 8, "layers": 1, "heads": 2},
    }
    config["samples"]["length"] = 4
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "tests.soak.sigkill"]
    with subprocess.Popen(command, cwd=chain.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def run(folder: Path, moment: Moment | None = None) -> int:
            arguments = ["fit", "--config", str(path), "--ckpt_path=last", f"--trainer.default_root_dir={folder}"]
            assert process.stdin is not None
            assert process.stdout is not None
            print(json.dumps([arguments, moment]), file=process.stdin, flush=True)
            return int(process.stdout.readline())

        yield run


MOMENTS = [
    ("in", "validation_step", 1),
    ("writing", "last.ckpt", 2),
    ("replacing", "last.ckpt", 4),
]


def test_a_run_that_is_killed_at_the_worst_moments_ends_like_an_undisturbed_one(fit, tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert fit(undisturbed) == 0
    for moment in MOMENTS:
        assert fit(killed, moment) == -signal.SIGKILL, moment
        for path in killed.glob("*.ckpt"):
            assert torch.load(path, weights_only=True)["state_dict"]
    assert fit(killed) == 0
    assert differences(undisturbed, killed) == []


STAND_IN = """
import os, sys, time
from pathlib import Path

root = Path(sys.argv[-1].partition("=")[2])
root.mkdir(exist_ok=True)
(root.parent / "PHASE").write_text("1")
(root / "attempts").open("a").write(".")
time.sleep(0.5)
for name in ("last.ckpt", "best.ckpt"):
    os.symlink(root.parent.parent / "any.ckpt", root / name)
"""


def test_the_script_kills_resumes_and_compares(tmp_path, monkeypatch):
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    torch.save({"weights": torch.ones(1)}, tmp_path / "any.ckpt")
    monkeypatch.setattr(chain, "PROGRAM", (sys.executable, str(tmp_path / "stand_in.py")))
    options = ("--settings", "text", "--kills", "2", "--steps", "8", "--folder", str(tmp_path))
    assert kill_and_resume.main([*options, "--json", str(tmp_path / "figures.json")]) == 0
    ((row,),) = json.loads((tmp_path / "figures.json").read_text())["text"].values()
    assert row["differences"] == 0
    assert row["kills"] == row["in training"] == sum(row[f"in {phase}"] for phase in PHASES) == 2


def test_differences_are_reported_in_weights_figures_and_samples(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for root in (undisturbed, killed):
        (root / "logs/version_0/samples/step-0000002").mkdir(parents=True)
        (root / "logs/version_0/samples/step-0000002/val-00-000.txt").write_text("a text")
        (root / "logs/version_0/metrics.csv").write_text("step,train/loss,train/bytes_per_s\n0,5.5,10\n1,5.25,10\n")
        for name in ("last.ckpt", "best.ckpt"):
            torch.save({"state_dict": {"a": torch.ones(3)}, "loops": [1, {"ready": 2}]}, root / name)
    assert differences(undisturbed, killed) == []
    torch.save({"state_dict": {"a": torch.ones(3).nextafter(torch.zeros(3))}, "loops": [1, {}]}, killed / "last.ckpt")
    (killed / "logs/version_1").mkdir()
    (killed / "logs/version_0/metrics.csv").write_text("step,train/loss,train/bytes_per_s\n0,5.5,99\n")
    (killed / "logs/version_1/metrics.csv").write_text("step,train/loss\n0,5.75\n")
    (killed / "logs/version_0/samples/step-0000002/val-00-000.txt").write_text("another text")
    assert differences(undisturbed, killed) == [
        "last.ckpt: /state_dict/a",
        "last.ckpt: /loops/1/ready: 2 and None",
        "train/loss of step 0: 5.5 undisturbed, 5.5 and 5.75 when killed",
        "train/loss of step 1: 5.25 undisturbed, nothing when killed",
        "logs/version_0/samples/step-0000002/val-00-000.txt: another sample than in the undisturbed run",
    ]
