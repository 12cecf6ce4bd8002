"""Signals outside training steps: while files are encoded, models measured, samples generated, checkpoints written."""

import os
import signal
from pathlib import Path
from typing import IO, cast

import pytest
import torch

from data_adapters import TextAdapter
from megabyte_mm.cli.fit import is_peer_failure
from megabyte_mm.training import samples as samples_module
from tests.training.conftest import same, weights
from tests.training.resilience.test_interrupting import Events

STOPS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def events(monkeypatch):
    return Events(monkeypatch)


def signalling(monkeypatch, owner: object, name: str, *numbers: signal.Signals) -> None:
    """Send this process signals at the first call of a method or function."""
    original, left = getattr(owner, name), list(numbers)

    def method(*arguments):
        while left:
            os.kill(os.getpid(), left.pop())
        return original(*arguments)

    monkeypatch.setattr(owner, name, method)


def files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", STOPS)
def test_while_files_are_encoded_nothing_half_written_stays(fit, root, capfd, monkeypatch, cache_folder, number):
    signalling(monkeypatch, TextAdapter, "read", number)
    assert fit() == 128 + number
    assert not [file for file in files(cache_folder) if file.parent.name != "digests"]  # these are of whole files
    assert not files(root)
    assert not capfd.readouterr().err.strip()


@pytest.mark.parametrize("number", STOPS)
def test_before_the_first_step_a_run_ends_at_once(fit, root, events, capfd, number):
    events.at = {("val", 0, 0): [number]}
    assert fit("--trainer.num_sanity_val_steps=2") == 128 + number
    assert not events.of("train")
    assert not list(root.glob("*.ckpt"))
    assert not capfd.readouterr().err.strip()


@pytest.mark.parametrize("command", ["validate", "test"])
def test_a_measurement_ends_at_once(fit, root, events, capfd, command, monkeypatch):
    assert fit("--trainer.max_steps=1") == 0
    before = files(root)
    capfd.readouterr()
    monkeypatch.setattr("megabyte_mm.training.ByteLM.test_step", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    events.at = {("val", 0, 0): [signal.SIGTERM]}
    assert fit("--ckpt_path=last", command=command) == 128 + signal.SIGTERM
    assert files(root) == before
    assert not capfd.readouterr().err.strip()


@pytest.mark.parametrize("number", STOPS)
def test_while_samples_are_generated_the_run_ends_exactly_there(fit, root, monkeypatch, capfd, number):
    samples = ("--samples.count=2", "--samples.length=8")
    assert fit(*samples) == 0
    final = weights(root / "last.ckpt")
    best = torch.load(root / "best.ckpt", weights_only=True)
    root.rename(root.with_name("whole"))
    signalling(monkeypatch, samples_module, "generate_continuations", number)
    assert fit(*samples) == 128 + number
    assert "resumes from step 4, saved in run/last.ckpt" in capfd.readouterr().err
    assert fit(*samples, "--ckpt_path=last") == 0
    assert same(weights(root / "last.ckpt"), final)
    again = torch.load(root / "best.ckpt", weights_only=True)
    assert (again["global_step"], again["callbacks"]) == (best["global_step"], best["callbacks"])


class Sending:
    """A file in which a write sends signals first."""

    def __init__(self, file, numbers) -> None:
        self.file, self.numbers = file, numbers

    def write(self, data) -> int:
        while self.numbers:
            os.kill(os.getpid(), self.numbers.pop())
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


@pytest.fixture
def signals_in_writing(monkeypatch):
    """Sends signals while a checkpoint of that name and step is written."""
    save = torch.save

    def sends(name: str, step: int, numbers: list[signal.Signals]) -> None:
        def sending_save(checkpoint, file) -> None:
            here = Path(file.name).name == f".{name}.tmp" and checkpoint["global_step"] == step
            save(checkpoint, cast(IO[bytes], Sending(file, numbers)) if here else file)

        monkeypatch.setattr(torch, "save", sending_save)

    return sends


def test_ctrl_c_twice_while_a_checkpoint_is_written_leaves_the_former(fit, root, signals_in_writing, capfd):
    signals_in_writing("last.ckpt", 3, [signal.SIGINT, signal.SIGINT])
    assert fit("--checkpoint_minutes=0") == 130
    output = capfd.readouterr().err
    assert "resumes from step 2" in output
    assert "Traceback" not in output
    assert torch.load(root / "last.ckpt", weights_only=True)["global_step"] == 2
    assert {path.name for path in root.iterdir()} == {"last.ckpt", "logs"}


def test_ctrl_c_while_the_best_checkpoint_is_written_loses_none(fit, root, signals_in_writing):
    assert fit() == 0
    best = torch.load(root / "best.ckpt", weights_only=True)
    root.rename(root.with_name("whole"))
    signals_in_writing("best.ckpt", 4, [signal.SIGINT])
    assert fit() == 130
    assert fit("--ckpt_path=last") == 0
    again = torch.load(root / "best.ckpt", weights_only=True)
    assert (again["global_step"], again["callbacks"]) == (best["global_step"], best["callbacks"])


def test_sigterm_that_a_launcher_passes_on_once_more_still_ends_between_two_steps(fit, root, events):
    events.at = {("train", 2, 2): [signal.SIGTERM, signal.SIGTERM]}
    assert fit() == 143
    assert torch.load(root / "last.ckpt", weights_only=True)["global_step"] == 3


def test_what_the_end_of_another_process_looks_like_differs_from_other_errors():
    assert is_peer_failure(RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [::1]:4711"))
    assert is_peer_failure(torch.distributed.DistNetworkError("lost"))
    assert not is_peer_failure(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
