import contextlib
import io
import logging
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from megabyte_mm.data.module import ByteData
from megabyte_mm.training.console import StepProgressBar, configure_output, format_step


def quiet(**settings) -> Trainer:
    nothing: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(accelerator="cpu", devices=1, **nothing, **settings)


def test_lines_go_where_stderr_is_now_and_noise_goes_nowhere(capsys):
    configure_output()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").info("💡 Tip: buy something")
    logging.getLogger("megabyte_mm.training").info("step 3")
    with contextlib.redirect_stderr(io.StringIO()) as bar:
        logging.getLogger("lightning.pytorch.utilities.rank_zero").warning("something is wrong")
    assert capsys.readouterr().err == "step 3\n"
    assert bar.getvalue() == "something is wrong\n"


@pytest.mark.parametrize(
    ("limits", "description", "step"),
    [({"max_steps": 9}, "Epoch 3", "0/9"), ({"max_epochs": 5}, "Epoch 3/4", "0"), ({"max_epochs": -1}, "Epoch 3", "0")],
)
def test_the_bar_names_the_epoch_and_the_step(limits, description, step):
    trainer, bar = quiet(**limits), StepProgressBar()
    trainer.fit_loop.max_epochs = limits.get("max_epochs", -1)
    bar._trainer = trainer
    assert bar._get_train_description(3).strip() == description
    assert format_step(trainer) == step


def test_ctrl_c_before_training_ends_with_130(fit, root, monkeypatch):
    def interrupted(data):
        raise KeyboardInterrupt

    monkeypatch.setattr(ByteData, "prepare_data", interrupted)
    assert fit() == 130
    assert not list(root.glob("*.ckpt"))


def test_resuming_is_reported_in_one_line(fit, root, capfd):
    assert fit() == 0
    capfd.readouterr()
    assert fit("--ckpt_path=last", "--trainer.max_steps=9") == 0
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == f"Restored all states from the checkpoint at {root / 'last.ckpt'}"
    assert lines[1].startswith("megabyte, ")
    assert torch.load(root / "last.ckpt", weights_only=True)["global_step"] == 9
