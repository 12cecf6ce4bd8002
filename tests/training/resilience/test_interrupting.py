"""Stopped anywhere and gone on with, a run ends with the very weights that it would have had."""

import os
import shutil
import signal

import pytest
import torch
from lightning.pytorch import LightningModule

from megabyte_mm.training import ByteLM
from megabyte_mm.training.checkpointing import BestCheckpoint
from tests.training.conftest import same, weights


class Events:
    """Writes down the steps and validations of a run, and sends signals to this process at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple] = []
        self.at: dict[tuple, list[int]] = {}
        for hook in ("training_step", "validation_step", "on_validation_epoch_end"):
            monkeypatch.setattr(ByteLM, hook, self._watched(hook, getattr(ByteLM, hook)))

    def _watched(self, hook, original):
        def method(module: LightningModule, *arguments):
            name = {"training_step": "train", "validation_step": "val", "on_validation_epoch_end": "validated"}[hook]
            what = [] if name == "validated" else [arguments[0].ids.sum().item()]
            self.seen.append((name, module.trainer.global_step, *what))
            for number in self.at.pop((name, module.global_step, *arguments[1:]), []):
                os.kill(os.getpid(), number)
            return original(module, *arguments)

        return method

    def of(self, *names: str) -> list[tuple]:
        return [event for event in self.seen if event[0] in names]


@pytest.fixture
def events(monkeypatch):
    return Events(monkeypatch)


@pytest.fixture
def whole(fit, root, events):
    """The events and the weights of a run that nothing disturbs."""
    assert fit(*LONG) == 0
    seen, events.seen = events.seen, []
    final = weights(root / "last.ckpt")
    root.rename(root.with_name("whole"))
    return seen, final


LONG = ("--trainer.max_steps=12", "--trainer.val_check_interval=5")

PLACES = [
    ("train", 0, 0),
    ("train", 2, 2),
    ("train", 4, 4),
    ("train", 5, 0),
    ("train", 10, 0),
    ("val", 5, 0),
    ("val", 10, 1),
    ("validated", 5),
    ("validated", 10),
]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_ctrl_c_ends_between_two_steps_and_the_run_goes_on_exactly(fit, root, events, whole, capfd, place):
    seen, final = whole
    events.at = {place: [signal.SIGINT]}
    assert fit(*LONG) == 130
    assert not events.at
    done = place[1] + (place[0] == "train")
    assert torch.load(root / "last.ckpt", weights_only=True)["global_step"] == done
    output = capfd.readouterr().err
    assert f"SIGINT: the same command with --ckpt_path last resumes from step {done}, saved in run/last.ckpt" in output
    assert "Traceback" not in output
    assert fit(*LONG, "--ckpt_path=last") == 0
    assert events.of("train") == [event for event in seen if event[0] == "train"]
    assert set(events.of("validated")) == {event for event in seen if event[0] == "validated"}
    assert same(weights(root / "last.ckpt"), final)


def test_a_validation_inside_an_epoch_is_repeated_whole(fit, root, events):
    often = ("--trainer.max_steps=9", "--trainer.val_check_interval=3")
    assert fit(*often) == 0
    seen, events.seen, final = events.seen, [], weights(root / "last.ckpt")
    root.rename(root.with_name("whole"))
    for place in (("train", 2, 2), ("val", 3, 1), ("validated", 6)):
        events.at = {place: [signal.SIGINT]}
        assert fit(*often, *(["--ckpt_path=last"] if root.exists() else [])) == 130
    assert fit(*often, "--ckpt_path=last") == 0
    assert events.of("train") == [event for event in seen if event[0] == "train"]
    assert set(events.of("val")) == {event for event in seen if event[0] == "val"}
    assert same(weights(root / "last.ckpt"), final)


def test_ctrl_c_in_the_last_step_lets_the_run_end(fit, root, events, whole):
    events.at = {("train", 11, 1): [signal.SIGINT]}
    assert fit(*LONG) == 0
    assert same(weights(root / "last.ckpt"), whole[1])


def test_sigterm_does_as_ctrl_c(fit, root, events, whole):
    events.at = {("train", 6, 1): [signal.SIGTERM]}
    assert fit(*LONG) == 143
    assert fit(*LONG, "--ckpt_path=last") == 0
    assert same(weights(root / "last.ckpt"), whole[1])


def test_a_second_ctrl_c_ends_at_once_and_leaves_the_last_good_checkpoint(fit, root, events, whole, capfd):
    events.at = {("train", 3, 3): [signal.SIGINT, signal.SIGINT]}
    assert fit(*LONG, "--checkpoint_minutes=0") == 130
    assert "resumes from step 3" in capfd.readouterr().err
    assert fit(*LONG, "--ckpt_path=last") == 0
    assert same(weights(root / "last.ckpt"), whole[1])


def test_no_checkpoint_is_written_while_gradients_are_accumulated(fit, root, events):
    half = ("--trainer.accumulate_grad_batches=2", "--trainer.max_steps=6", "--checkpoint_minutes=0")
    assert fit(*half) == 0
    final = weights(root / "last.ckpt")
    root.rename(root.with_name("whole"))
    events.at = {("train", 1, 2): [signal.SIGINT]}
    assert fit(*half) == 130
    assert torch.load(root / "last.ckpt", weights_only=True)["global_step"] == 2
    assert fit(*half, "--ckpt_path=last") == 0
    assert same(weights(root / "last.ckpt"), final)


UNEVEN = ("--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=3", "--trainer.max_steps=6")
"""Of 5 batches in an epoch, which are 3 updates, the validation after the 3rd and the 6th falls inside an update."""


def test_stopped_in_a_validation_inside_an_update_a_run_repeats_its_batches(fit, root, events):
    """Also inside the first update of all, and where the run went on before."""
    assert fit(*UNEVEN, "--trainer.accumulate_grad_batches=4") == 0
    final, read = weights(root / "last.ckpt"), bytes_read(root)
    root.rename(root.with_name("whole"))
    for place in (("val", 0, 1), ("val", 0, 0), ("val", 2, 1), ("validated", 4)):
        events.at = {place: [signal.SIGTERM]}
        arguments = (*UNEVEN, "--trainer.accumulate_grad_batches=4", "--ckpt_path=last")
        assert fit(*arguments) == 143
        assert not events.at
        assert torch.load(root / "last.ckpt", weights_only=True)["global_step"] == place[1]
    assert fit(*arguments) == 0
    assert same(weights(root / "last.ckpt"), final)
    assert bytes_read(root) == read


def bytes_read(root) -> int:
    callbacks = torch.load(root / "last.ckpt", weights_only=True)["callbacks"]
    return callbacks["Throughput"]["bytes"]


def test_a_best_checkpoint_written_inside_an_update_is_gone_on_with_exactly(fit, root, events, monkeypatch):
    kept = []
    save = BestCheckpoint._save_checkpoint

    def keeping(self, trainer, filepath):
        save(self, trainer, filepath)
        kept.append((trainer.global_step, (root / "best.ckpt").read_bytes()))

    monkeypatch.setattr(BestCheckpoint, "_save_checkpoint", keeping)
    assert fit(*UNEVEN) == 0
    final = weights(root / "last.ckpt")
    step, best = kept[0]
    assert step == 1
    shutil.rmtree(root)
    root.mkdir()
    (root / "best.ckpt").write_bytes(best)
    assert fit(*UNEVEN, "--ckpt_path=last") == 0
    assert same(weights(root / "last.ckpt"), final)


def test_dropout_is_the_same_after_a_stop(fit, root, events):
    dropping = ("--model.net.dropout=0.3",)
    assert fit(*dropping) == 0
    final = weights(root / "last.ckpt")
    root.rename(root.with_name("whole"))
    events.at = {("train", 5, 0): [signal.SIGINT]}
    assert fit(*dropping) == 130
    assert fit(*dropping, "--ckpt_path=last") == 0
    assert same(weights(root / "last.ckpt"), final)


def test_without_checkpoints_ctrl_c_ends_as_orderly(fit, root, events):
    events.at = {("train", 2, 2): [signal.SIGINT]}
    assert fit("--trainer.enable_checkpointing=false") == 130
    assert not list(root.glob("*.ckpt"))


def test_a_finished_run_that_is_made_longer_misses_no_batch(fit, root, events):
    constant = ("--model.optimizer.decay=constant",)
    assert fit(*constant, "--trainer.max_steps=12") == 0
    seen, events.seen, final = events.seen, [], weights(root / "last.ckpt")
    root.rename(root.with_name("whole"))
    for steps in (3, 5, 8, 12):
        resume = () if steps == 3 else ("--ckpt_path=last",)
        assert fit(*constant, f"--trainer.max_steps={steps}", *resume) == 0
    assert events.of("train") == [event for event in seen if event[0] == "train"]
    assert same(weights(root / "last.ckpt"), final)


def test_the_same_seed_gives_the_same_run_and_another_gives_another(fit, root):
    final = []
    for number, seed in enumerate((0, 0, 1)):
        assert fit(f"--seed_everything={seed}", f"--trainer.default_root_dir={root}{number}") == 0
        final.append(weights(root.with_name(f"run{number}") / "last.ckpt"))
    assert same(final[0], final[1])
    assert not same(final[0], final[2])
