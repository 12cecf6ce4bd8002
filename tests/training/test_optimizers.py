"""Runs with other optimizers than AdamW: they resume exactly, and with no other one."""

import pytest
import torch

from tests.training.conftest import same, weights

CONSTANT = "--model.optimizer.decay=constant"
OPTIMIZERS = {
    "SGD": ["--model.optimizer.algorithm=SGD"],
    "SGD with momentum": [
        "--model.optimizer.algorithm=SGD",
        "--model.optimizer.options={momentum: 0.9, nesterov: true}",
    ],
    "NAdam": ["--model.optimizer.algorithm=torch.optim.NAdam", "--model.optimizer.options.momentum_decay=0.01"],
    "Adafactor": ["--model.optimizer.algorithm=torch.optim.Adafactor"],
    "AdamW": ["--model.optimizer.options.amsgrad=true"],
}


@pytest.mark.parametrize("arguments", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_run_resumes_exactly_with_any_optimizer(fit, root, tmp_path, arguments):
    assert fit(*arguments, CONSTANT, "--trainer.max_steps=4") == 0
    assert fit(*arguments, CONSTANT, "--ckpt_path=last") == 0
    assert fit(*arguments, CONSTANT, f"--trainer.default_root_dir={tmp_path / 'whole'}") == 0
    assert same(weights(root / "last.ckpt"), weights(tmp_path / "whole/last.ckpt"))


def test_a_run_does_not_resume_with_another_optimizer_or_without_its_state(fit, root, capsys):
    arguments = OPTIMIZERS["SGD with momentum"]
    assert fit(*arguments, "--trainer.max_steps=4") == 0
    assert fit("--ckpt_path=last") == 2
    line = "model.optimizer.algorithm is AdamW, but the checkpoint was trained with SGD"
    assert line in capsys.readouterr().err
    assert fit(*OPTIMIZERS["Adafactor"], "--ckpt_path=last") == 2
    assert "is Adafactor, but the checkpoint was trained with SGD" in capsys.readouterr().err
    checkpoint = torch.load(root / "last.ckpt", weights_only=True)
    del checkpoint["optimizer_states"][0]["state"][1]["momentum_buffer"]
    torch.save(checkpoint, root / "last.ckpt")
    assert fit(*arguments, "--ckpt_path=last") == 2
    assert "its momentum_buffer of parameter 1 is missing" in capsys.readouterr().err


def test_options_change_when_a_run_resumes(fit, root):
    arguments = OPTIMIZERS["SGD with momentum"]
    assert fit(*arguments, "--trainer.max_steps=4") == 0
    assert fit(*arguments, "--model.optimizer.options.momentum=0.5", "--ckpt_path=last") == 0
    groups = torch.load(root / "last.ckpt", weights_only=True)["optimizer_states"][0]["param_groups"]
    assert [group["momentum"] for group in groups] == [0.5, 0.5]


def test_a_wrong_optimizer_is_one_line(fit, capsys):
    assert fit("--model.optimizer.algorithm=torch.optim.NAdm") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "model.optimizer.algorithm is 'torch.optim.NAdm', which is no optimizer" in line
    assert fit("--model.optimizer.algorithm=SGD", "--model.optimizer.options={momntum: 0.9}") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "model.optimizer.options do not suit SGD: " in line
