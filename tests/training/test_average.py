"""The moving average of the weights: exact after a resume, validated, and used wherever a checkpoint is."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from megabyte_mm.checkpoint import AVERAGE_KEY, load_model
from megabyte_mm.cli.main import main
from megabyte_mm.training import ByteLM
from tests.training.conftest import same, weights
from tests.training.test_fit import logged

EMA = "--model.ema_decay=0.9"
LONG = (EMA, "--trainer.max_steps=12", "--trainer.val_check_interval=5")


def average(path):
    """The average in a checkpoint."""
    return dict(torch.load(path, weights_only=True)[AVERAGE_KEY])


def state(root):
    """Weights and average of both checkpoints of a run."""
    return [read(root / name) for name in ("last.ckpt", "best.ckpt") for read in (weights, average)]


def interrupt(monkeypatch, hook, step, number):
    """Send SIGINT to this process in the given call of a hook after that many updates."""
    original = getattr(ByteLM, hook)
    done: list[tuple] = []

    def interrupted(module, *arguments):
        if module.global_step == step and arguments[1:] == number and not done:
            done.append(number)  # before the signal, whose handler may raise
            os.kill(os.getpid(), signal.SIGINT)
        return original(module, *arguments)

    monkeypatch.setattr(ByteLM, hook, interrupted)


@pytest.mark.parametrize(
    "place", [("training_step", 3, (3,)), ("validation_step", 5, (1,)), ("on_validation_epoch_end", 10, ())]
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(fit, root, monkeypatch, place):
    assert fit(*LONG) == 0
    whole, figures = state(root), logged(root, "val/bpb")
    root.rename(root.with_name("whole"))
    interrupt(monkeypatch, *place)
    assert fit(*LONG) == 130
    assert fit(*LONG, "--ckpt_path=last") == 0
    assert all(same(ours, theirs) for ours, theirs in zip(state(root), whole, strict=True))
    assert logged(root, "val/bpb", version=1) == figures[-len(logged(root, "val/bpb", version=1)) :]


def test_the_average_follows_the_updates_with_a_decay_that_rises(fit, root, monkeypatch):
    updates = {}

    def record(module, *_):
        updates[module.global_step] = {name: weight.detach().clone() for name, weight in module.named_parameters()}

    monkeypatch.setattr(ByteLM, "on_train_batch_end", record, raising=False)
    assert fit("--model.ema_decay=0.25", "--trainer.max_steps=4", "--trainer.accumulate_grad_batches=2") == 0
    monkeypatch.setattr(ByteLM, "on_train_batch_end", lambda *_: None)
    monkeypatch.setattr(ByteLM, "on_train_start", _stop_with_weights)
    with pytest.raises(_WeightsAtStart) as caught:
        fit("--trainer.default_root_dir=start")
    expected = caught.value.args[0]
    for number, current in sorted((number, last) for number, last in updates.items() if number):
        decay = min(0.25, (1 + number) / (10 + number))
        expected = {name: decay * old + (1 - decay) * current[name] for name, old in expected.items()}
    for name, weight in average(root / "last.ckpt").items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-7)
    assert same(weights(root / "last.ckpt"), updates[4])


class _WeightsAtStart(Exception):
    pass


def _stop_with_weights(module):
    raise _WeightsAtStart({name: weight.detach().clone() for name, weight in module.named_parameters()})


def test_training_is_the_same_with_and_without_an_average(fit, root):
    assert fit(EMA) == 0
    trained = weights(root / "last.ckpt")
    root.rename(root.with_name("averaged"))
    assert fit() == 0
    assert same(weights(root / "last.ckpt"), trained)


def test_figures_and_commands_use_the_average(fit, root, capfd, tmp_path):
    assert fit(EMA) == 0
    path = root / "best.ckpt"
    model = load_model(path).model
    assert same({f"model.{name}": weight for name, weight in model.state_dict().items()}, average(path))
    assert not same(average(path), weights(path))
    figure = f"{min(logged(root, 'val/bpb')):.9f}"[:-3]
    capfd.readouterr()
    assert fit(f"--ckpt_path={path}", command="validate") == 0  # without the option, which no other command needs
    assert figure in capfd.readouterr().out
    assert main(["export", str(path), "exported", "--samples=0"]) == 0
    assert same(load_model("exported").model.state_dict(), model.state_dict())


def test_a_run_starts_or_ends_its_average_with_a_line(fit, root, capfd):
    assert fit("--trainer.max_steps=4") == 0
    assert fit("--trainer.max_steps=8", "--ckpt_path=last", EMA) == 0
    assert "no average of the weights: model.ema_decay starts from its weights" in capfd.readouterr().err
    assert average(root / "last.ckpt").keys() == weights(root / "last.ckpt").keys()
    assert fit("--trainer.max_steps=12", "--ckpt_path=last") == 0
    assert "the checkpoint's average of the weights is not continued" in capfd.readouterr().err
    assert AVERAGE_KEY not in torch.load(root / "last.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.ema_decay=1"], "model.ema_decay is 1.0; it must be between 0 and 1"),
        ([EMA, "--trainer.strategy=fsdp2"], "model.ema_decay does not work with fsdp2"),
    ],
)
def test_what_does_not_work_is_refused_in_one_line(fit, root, capfd, arguments, message):
    assert fit(*arguments) == 2
    assert message in capfd.readouterr().err.splitlines()[-1]
    assert not list(root.glob("*.ckpt"))


def test_a_damaged_average_is_refused_by_name(fit, root, capfd):
    assert fit(EMA) == 0
    content = torch.load(root / "last.ckpt", weights_only=True)
    name = next(iter(content[AVERAGE_KEY]))
    del content[AVERAGE_KEY][name]
    torch.save(content, root / "last.ckpt")
    assert fit(EMA, "--ckpt_path=last") == 2
    assert f"it lacks the weight {name}" in capfd.readouterr().err.splitlines()[-1]
