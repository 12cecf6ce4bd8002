"""A checkpoint that lacks something, or holds other things, is refused by name: nothing begins anew in silence."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from megabyte_mm.training.compatibility import check_resumable

Checkpoint = dict[str, Any]


def first(checkpoint: Checkpoint) -> str:
    return next(iter(checkpoint["state_dict"]))


def rename_a_weight(checkpoint: Checkpoint) -> None:
    checkpoint["state_dict"]["model.x"] = checkpoint["state_dict"].pop(first(checkpoint))


def add_a_weight(checkpoint: Checkpoint) -> None:
    checkpoint["state_dict"]["model.x"] = torch.zeros(1)


def reshape_a_weight(checkpoint: Checkpoint) -> None:
    checkpoint["state_dict"][first(checkpoint)] = torch.zeros(3, 3)


def reshape_a_moment(checkpoint: Checkpoint) -> None:
    checkpoint["optimizer_states"][0]["state"][1]["exp_avg_sq"] = torch.zeros(3, 3)


def without(*places: Any) -> Callable[[Checkpoint], None]:
    """A change that takes something out of nested values."""

    def remove(checkpoint: Checkpoint) -> None:
        value: Any = checkpoint
        for place in places[:-1]:
            value = value[place]
        del value[places[-1]]

    return remove


def emptied(*places: Any) -> Callable[[Checkpoint], None]:
    """A change that leaves an empty list or dict of one."""

    def empty(checkpoint: Checkpoint) -> None:
        value: Any = checkpoint
        for place in places:
            value = value[place]
        value.clear()

    return empty


def warm_up_in_no_time(checkpoint: Checkpoint) -> None:
    checkpoint["lr_schedulers"][0]["lr_lambdas"][0]["warmup_time"] = float("nan")


LOOP = ("loops", "fit_loop")
HARM = {
    "no weights": (without("state_dict"), "it holds no weights"),
    "a weight renamed": (rename_a_weight, "it lacks the weight model."),
    "a weight more": (add_a_weight, "the model has no weight model.x"),
    "a weight reshaped": (reshape_a_weight, "is (3, 3), not ("),
    "no optimizer": (without("optimizer_states"), "it lacks optimizer_states"),
    "no groups": (emptied("optimizer_states", 0, "param_groups"), "its optimizer has groups of [] parameters"),
    "no moments": (emptied("optimizer_states", 0, "state"), "its step of parameter 0 is missing"),
    "no moments of one": (without("optimizer_states", 0, "state", 0), "its step of parameter 0 is missing"),
    "no second moment": (without("optimizer_states", 0, "state", 2, "exp_avg_sq"), "its exp_avg_sq of parameter 2 is"),
    "a moment reshaped": (reshape_a_moment, "its exp_avg_sq of parameter 1 is (3, 3), not ("),
    "no schedule": (emptied("lr_schedulers"), "it lacks lr_schedulers"),
    "no rates": (emptied("lr_schedulers", 0, "lr_lambdas"), "it lacks the learning rates of 2 groups"),
    "no time": (warm_up_in_no_time, "its time at the end of warm-up is nan, not a number of seconds"),
    "no loops": (without("loops"), "it lacks loops.fit_loop"),
    "no counter": (without(*LOOP, "epoch_loop.batch_progress"), "it lacks loops.fit_loop.epoch_loop.batch_progress"),
    "no data": (emptied(*LOOP, "state_dict"), "it lacks the position in the data"),
    "no place": (without(*LOOP, "state_dict", "combined_loader", 0, "batches"), "it lacks the position in the data"),
    "no callback": (emptied("callbacks", "Throughput"), "it lacks callbacks.Throughput.bytes"),
}


def test_what_a_run_cannot_resume_from_exactly_is_refused_by_name(fit, root, capsys, monkeypatch):
    assert fit("--trainer.max_steps=1") == 0
    refused = {}

    def check_all(_, *run):
        """In place of the check of a resuming run, whose trainer is not a finished one."""
        for name, (harm, _) in HARM.items():
            checkpoint = torch.load(root / "last.ckpt", weights_only=True)
            check_resumable(checkpoint, *run)
            harm(checkpoint)
            with pytest.raises(ValueError, match=r"weight|lacks|its ") as error:
                check_resumable(checkpoint, *run)
            refused[name] = str(error.value)

    monkeypatch.setattr("megabyte_mm.training.module.check_resumable", check_all)
    assert fit("--ckpt_path=last", "--trainer.max_steps=2") == 0
    assert {name: message in refused[name] for name, (_, message) in HARM.items()} == dict.fromkeys(HARM, True)
    checkpoint = torch.load(root / "last.ckpt", weights_only=True)
    del checkpoint["pytorch-lightning_version"]
    torch.save(checkpoint, "foreign.ckpt")
    assert fit("--ckpt_path=foreign.ckpt", "--trainer.default_root_dir=other") == 2
    assert "error: foreign.ckpt: not a checkpoint of a run" in capsys.readouterr().err


def test_a_run_goes_on_with_its_own_optimizer(fit, root, capsys):
    assert fit("--model.optimizer.muon=true", "--trainer.max_steps=4") == 0
    assert fit("--ckpt_path=last") == 2
    assert "model.optimizer.muon is False, but the checkpoint was trained with True" in capsys.readouterr().err
    assert fit("--ckpt_path=last", "--model.optimizer.muon=true") == 0
    assert fit("--ckpt_path=best", command="validate") == 0
    checkpoint = torch.load(root / "last.ckpt", weights_only=True)
    numbers = checkpoint["optimizer_states"][0]["param_groups"][2]["params"]
    del checkpoint["optimizer_states"][0]["state"][numbers[0]]["exp_avg"]
    torch.save(checkpoint, "tampered.ckpt")
    assert fit("--ckpt_path=tampered.ckpt", "--model.optimizer.muon=true", "--trainer.default_root_dir=other") == 2
    assert f"damaged checkpoint: its exp_avg of parameter {numbers[0]} is missing" in capsys.readouterr().err


def test_a_measurement_needs_the_weights_alone(fit, root, capsys):
    assert fit("--trainer.max_steps=1") == 0
    checkpoint = torch.load(root / "last.ckpt", weights_only=True)
    kept = ("megabyte_mm", "state_dict", "pytorch-lightning_version", "global_step", "epoch")
    torch.save({key: checkpoint[key] for key in kept}, "bare.ckpt")
    assert fit("--ckpt_path=bare.ckpt", command="validate") == 0
    rename_a_weight(checkpoint)
    torch.save(checkpoint, "renamed.ckpt")
    assert fit("--ckpt_path=renamed.ckpt", command="validate") == 2
    assert "renamed.ckpt: a damaged checkpoint: it lacks the weight" in capsys.readouterr().err
