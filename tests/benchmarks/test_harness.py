"""The benchmarks run, and compare what they say they compare. Their figures are nobody's promise."""

import json
from functools import partial

import pytest
import torch
from torch import nn

from benchmarks.harness import timing, training
from benchmarks.harness.workloads import SHIPPED, shipped, workloads
from benchmarks.peers.base import both_stacks
from benchmarks.peers.megabyte_pytorch import MegabytePytorch, build_network
from benchmarks.train_step.run import main
from megabyte_mm.models import Megabyte

CPU = torch.device("cpu")
needs_peer = pytest.mark.skipif(
    MegabytePytorch.installed() is None, reason="MEGABYTE-pytorch, of the extra bench, is not installed"
)


@pytest.fixture
def toy():
    [workload] = workloads(toy=True)
    return workload


def test_every_part_runs_and_its_tables_are_full(tmp_path, capfd):
    file = tmp_path / "figures.json"
    assert main(["--toy", "--device", "cpu", "--seconds", "0", "--json", str(file)]) == 0
    written = json.loads(file.read_text(encoding="utf-8"))
    tables = [table for part, tables in written.items() if part != "machine" for table in tables.values()]
    assert list(written) == ["machine", "attention", "memory"]
    assert written["machine"]["torch"] == torch.__version__
    assert all(tables)
    assert len(tables[0]) == 4
    printed = capfd.readouterr().out
    assert "| shape " in printed
    assert "| config " in printed


def test_candidates_take_turns_forwards_and_backwards(monkeypatch):
    monkeypatch.setattr(timing, "TURN_SECONDS", 0.0)
    called: list[str] = []
    times = timing.side_by_side({name: partial(called.append, name) for name in "abc"}, 0.0, CPU)
    assert "".join(called) == "aabbcc" + "abc" + "cba" + "abc"
    assert [len(times.seconds[name]) for name in "abc"] == [3, 3, 3]


def test_a_ratio_is_taken_within_rounds():
    times = timing.Times({"slow": [2.0, 20.0, 6.0], "fast": [1.0, 10.0, 2.0]})
    assert times.median("slow") == 6.0
    assert times.ratio("slow", to="fast") == 2.0
    assert times.spread("fast") == (6.0 - 1.5) / 2.0


@pytest.mark.parametrize("name", SHIPPED)
def test_the_windows_of_the_shipped_configs_are_whole_patches(name):
    workload = shipped(name)
    assert workload.window % workload.patch_size == 0


@needs_peer
@pytest.mark.parametrize("name", SHIPPED)
def test_the_peer_has_our_sizes_at_both_levels(name):
    config = shipped(name).config
    levels = zip(both_stacks(config), build_network(config, CPU).transformers, strict=True)
    for stack, theirs in levels:
        linear = [part.weight.numel() for part in theirs.modules() if isinstance(part, nn.Linear)]
        assert sum(linear) == stack.layers * stack.dim**2 * (4 + 2 * stack.feedforward)
        assert [attention.heads for attention, _ in theirs.layers] == [stack.heads] * stack.layers


@pytest.mark.parametrize("wrong", [["--parts", "lunch"], ["--threads", "0"], ["--seconds", "-1"]])
def test_a_wrong_option_is_told_in_a_line(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        main(wrong)
    assert stop.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_a_step_changes_the_weights_in_both_precisions(toy):
    for precision in training.PRECISIONS:
        model = Megabyte(toy.config)
        before = model.local_start_L.detach().clone()
        training.training_step(model, toy.ids(toy.batch, toy.window, CPU), precision)()
        assert not torch.equal(model.local_start_L, before)
