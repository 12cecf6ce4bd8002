"""Weights that are infinite or not a number are refused by every command that reads them, with the file's name."""

from __future__ import annotations

import math

import pytest
import torch

from data_adapters import TextAdapter
from megabyte_mm.checkpoint import AVERAGE_KEY, load_model
from megabyte_mm.checkpoint.safety import NOT_FINITE, are_finite
from megabyte_mm.cli.main import main


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("entry", ["state_dict", AVERAGE_KEY])
def test_a_checkpoint_with_such_a_weight_is_refused_by_name(save_checkpoint, entry, number):
    path = save_checkpoint(TextAdapter(), window=16)
    content = torch.load(path, weights_only=True)
    content[AVERAGE_KEY] = {name: weight.clone() for name, weight in content["state_dict"].items()}
    if entry == "state_dict":
        del content[AVERAGE_KEY]
    name = list(content[entry])[-1]
    content[entry][name].view(-1)[0] = number
    torch.save(content, path)
    with pytest.raises(ValueError, match="its weights are not finite") as caught:
        load_model(path)
    assert str(caught.value) == f"{path}: {NOT_FINITE}"


def test_the_trained_weights_do_not_count_where_there_is_an_average(save_checkpoint):
    path = save_checkpoint(TextAdapter(), window=16)
    content = torch.load(path, weights_only=True)
    content[AVERAGE_KEY] = {name: torch.zeros_like(weight) for name, weight in content["state_dict"].items()}
    torch.save(content, path)
    assert all(not weight.any() for weight in load_model(path).model.state_dict().values())


def test_of_sharded_weights_the_local_part_counts():
    class Sharded:
        def to_local(self):
            return torch.tensor([math.nan])

    assert not are_finite([torch.ones(2), Sharded()])  # type: ignore[list-item]
    assert are_finite([torch.ones(2), torch.ones(0)])


@pytest.mark.parametrize(
    "command", ["generate --out=new", "score text.txt", "compress text.txt --out=new", "export new"]
)
def test_commands_name_the_file_in_one_line(save_checkpoint, tmp_path, monkeypatch, capfd, command):
    path = save_checkpoint(TextAdapter(), window=16)
    content = torch.load(path, weights_only=True)
    next(iter(content["state_dict"].values())).view(-1)[0] = math.nan
    torch.save(content, path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("a text")
    name, *inputs = command.split()
    before = set(tmp_path.rglob("*"))
    assert main([name, str(path), *inputs]) == 2
    assert capfd.readouterr().err == f"megabyte-mm {name}: error: {path}: {NOT_FINITE}\n"
    assert set(tmp_path.rglob("*")) == before
