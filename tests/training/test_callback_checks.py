"""Lightning's own callbacks work, or are refused by name before any training; runs that end early say why."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    LearningRateFinder,
    ModelCheckpoint,
    StochasticWeightAveraging,
)

from megabyte_mm.errors import FieldError
from megabyte_mm.training import ByteLM
from megabyte_mm.training.callback_checks import check_callbacks, check_monitors

CALLBACKS = "lightning.pytorch.callbacks."
REFUSED = {
    "BatchSizeFinder": "trainer.callbacks BatchSizeFinder is not supported: set data.batch_size",
    "LearningRateFinder": "trainer.callbacks LearningRateFinder is not supported: compare short runs",
    "EMAWeightAveraging": "a run with it cannot resume exactly; set model.ema_decay",
    "StochasticWeightAveraging": "StochasticWeightAveraging is not supported: a run with it cannot resume exactly",
    "EarlyStopping --trainer.callbacks.monitor=val_loss": (
        "EarlyStopping monitors 'val_loss', which no run logs: take one of val/bpb, train/bpb, train/loss"
    ),
}


@pytest.mark.parametrize("callback", REFUSED)
def test_a_callback_that_does_not_work_is_refused_in_one_line(fit, root, capfd, callback):
    assert fit(*f"--trainer.callbacks={CALLBACKS}{callback}".split()) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert REFUSED[callback] in line
    assert not list(root.glob("*.ckpt"))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(BatchSizeFinder, {}), (LearningRateFinder, {}), (StochasticWeightAveraging, {"swa_lrs": 1.0})],
)
def test_a_subclass_is_refused_by_its_own_name(kind, settings):
    with pytest.raises(FieldError, match="Derived is not supported"):
        check_callbacks([Own(), type("Derived", (kind,), {})(**settings)])


def test_a_trainer_in_python_refuses_them_too():
    trainer = Trainer(max_epochs=1, callbacks=[LearningRateFinder()], logger=False, accelerator="cpu")
    with pytest.raises(FieldError, match="LearningRateFinder is not supported"):
        trainer.fit(ByteLM())


class Own(Callback):
    """A callback from elsewhere, which may log figures."""


@pytest.mark.parametrize(
    ("monitor", "others", "refused"),
    [
        ("val/bpb", [], False),
        ("val/bpb/images", [], False),
        ("val/bpb/sounds", [], True),
        ("loss", [], True),
        ("loss", [Own()], False),
        ("val/loss", [Own()], True),
    ],
)
@pytest.mark.parametrize("kind", [EarlyStopping, ModelCheckpoint])
def test_a_monitor_must_be_a_figure_that_is_logged(kind, monitor, others, refused):
    callbacks = [kind(monitor=monitor), *others]
    if refused:
        with pytest.raises(FieldError, match=f"{kind.__name__} monitors '{monitor}'.* val/bpb/images"):
            check_monitors(callbacks, ["images"])
    else:
        check_monitors(callbacks, ["images"])


def test_a_wrong_monitor_beside_a_callback_that_may_log_it_is_one_line_too(fit, capfd):
    own = "[{class_path: tests.training.test_callback_checks.Own}, {class_path: %sEarlyStopping, init_args: %s}]"
    assert fit(f"--trainer.callbacks={own % (CALLBACKS, '{monitor: nonsense}')}") == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("megabyte-mm fit: error: trainer.callbacks: EarlyStopping monitors 'nonsense'")
    assert "val/bpb" in line


def test_early_stopping_ends_the_run_with_its_reason_and_the_last_checkpoint(fit, root, capfd):
    stopping = (
        "--trainer.callbacks.monitor=val/bpb",
        "--trainer.callbacks.min_delta=9",
        "--trainer.callbacks.patience=1",
    )
    long = ("--trainer.max_steps=40", "--trainer.val_check_interval=2")
    assert fit(f"--trainer.callbacks={CALLBACKS}EarlyStopping", *stopping, *long) == 0
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "ended at step" in line]
    assert line.startswith("ended at step 4: EarlyStopping: Monitored metric val/bpb did not improve")
    assert line.endswith("the model so far is in run/last.ckpt")
    assert torch.load(root / "last.ckpt", weights_only=True)["global_step"] == 4


@pytest.mark.parametrize(
    ("limit", "reason"),
    [("--trainer.max_time=00:00:00:01", "trainer.max_time has passed"), ("--trainer.max_epochs=1", "max_epochs 1 is")],
)
def test_a_limit_that_ends_a_run_is_named(fit, capfd, limit, reason):
    assert fit(limit, "--trainer.max_steps=100000", "--trainer.val_check_interval=100000") == 0
    output = capfd.readouterr().err
    assert "ended at step" in output
    assert reason in output


def test_a_run_with_nothing_to_do_says_so(fit, capfd):
    assert fit() == 0
    assert "ended at step" not in capfd.readouterr().err
    assert fit("--ckpt_path=last") == 0
    line = capfd.readouterr().err.splitlines()[-1]
    assert line == "nothing to do: the run is at step 8 of trainer.max_steps 8; set a larger one"
