"""A run that diverges stops, and leaves the checkpoint from before."""

import math

import pytest
import torch

from megabyte_mm.checkpoint.safety import NOT_FINITE
from tests.training.conftest import same, weights

TOO_HIGH = ("--model.optimizer.lr=1e30", "--model.optimizer.warmup_steps=0", "--trainer.gradient_clip_val=0")


@pytest.mark.parametrize(("every", "what"), [(1, "the loss is not finite"), (1000, "the weights are not finite")])
def test_a_run_that_diverges_stops_and_replaces_no_checkpoint(fit, root, capfd, every, what):
    assert fit("--trainer.max_steps=4") == 0
    before = weights(root / "last.ckpt"), weights(root / "best.ckpt")
    capfd.readouterr()
    schedule = ("--trainer.max_steps=12", f"--trainer.log_every_n_steps={every}", "--trainer.val_check_interval=1000")
    assert fit("--ckpt_path=last", *schedule, *TOO_HIGH) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert f"{what}: training has diverged; checkpoints are of earlier steps: start again with a lower" in last
    after = weights(root / "last.ckpt"), weights(root / "best.ckpt")
    assert all(same(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_a_checkpoint_of_a_run_that_diverged_is_refused_by_name(fit, root, capfd, command):
    assert fit("--trainer.max_steps=4", "--trainer.val_check_interval=1000") == 0
    content = torch.load(root / "last.ckpt", weights_only=True)
    next(iter(content["state_dict"].values())).view(-1)[0] = math.nan
    torch.save(content, root / "last.ckpt")
    assert fit("--ckpt_path=last", command=command) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.endswith(f"{root / 'last.ckpt'}: {NOT_FINITE}")
