"""Under SLURM: its signal ends a run between two steps, and the job that is run again goes on."""

import os
import signal
from pathlib import Path

import pytest
import torch

from tests.training.conftest import same, weights
from tests.training.resilience.test_interrupting import LONG, Events

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no SLURM for Windows")


@pytest.fixture
def events(monkeypatch):
    return Events(monkeypatch)


@pytest.fixture
def slurm(monkeypatch, tmp_path) -> Path:
    """The surroundings of a job step of one task, and a scontrol that writes down what it is asked."""
    asked = tmp_path / "asked.txt"
    program = tmp_path / "bin/scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n[ ! -e {tmp_path}/refuse ] || {{ echo down >&2; exit 1; }}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    job = {"JOB_ID": "77", "JOB_NAME": "train", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "1")
    return asked


def test_the_signal_before_the_time_limit_requeues_and_the_job_goes_on_exactly(
    fit, root, events, slurm, capfd, monkeypatch
):
    assert fit(*LONG) == 0
    seen, events.seen, final = events.seen, [], weights(root / "last.ckpt")
    root.rename(root.with_name("whole"))
    for place in (("train", 2, 2), ("val", 5, 0)):
        events.at = {place: [signal.SIGUSR1, signal.SIGTERM]}
        assert fit(*LONG) == 128 + signal.SIGUSR1
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert slurm.read_text() == 2 * "requeue 77\n"
    output = capfd.readouterr().err
    assert "SIGUSR1: the same command with --ckpt_path last resumes from step 3, saved in run/last.ckpt" in output
    assert "SLURM will run job 77 again" in output
    assert "Traceback" not in output
    assert fit(*LONG) == 0
    assert events.of("train") == [event for event in seen if event[0] == "train"]
    assert same(weights(root / "last.ckpt"), final)
    assert not list(root.glob("hpc_ckpt*"))


def test_a_requeue_that_fails_is_reported_and_an_array_is_requeued_by_its_task(
    fit, root, events, slurm, capfd, monkeypatch, tmp_path
):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    (tmp_path / "refuse").touch()
    events.at = {("train", 2, 2): [signal.SIGUSR1]}
    assert fit() == 128 + signal.SIGUSR1
    assert "scontrol requeue 70_4 failed: down" in capfd.readouterr().err
    assert torch.load(root / "last.ckpt", weights_only=True)["global_step"] == 3


PLUGIN = "--trainer.plugins=lightning.pytorch.plugins.environments.SLURMEnvironment"
NO_REQUEUE = {signal.SIGTERM: (), signal.SIGUSR1: (PLUGIN, "--trainer.plugins.auto_requeue=false")}


@pytest.mark.parametrize("number", NO_REQUEUE)
def test_the_time_limit_itself_and_a_run_that_wants_none_requeue_nothing(fit, root, events, slurm, number):
    events.at = {("train", 2, 2): [number]}
    assert fit(*NO_REQUEUE[number]) == 128 + number
    assert torch.load(root / "last.ckpt", weights_only=True)["global_step"] == 3
    assert not slurm.exists()
