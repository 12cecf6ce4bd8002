"""The benchmarks run, and compare what they say they compare. Their figures are nobody's promise."""

import json
from functools import partial

import pytest
import torch
from torch import nn

from benchmarks import decoding, timing, training
from benchmarks.peers.megabyte_pytorch import MISSING, build_network, peer_version
from benchmarks.peers.wrapping import both_stacks
from benchmarks.run import main
from benchmarks.workloads import SHIPPED, shipped, workloads
from megabyte_mm.alphabet import SYMBOLS
from megabyte_mm.generation import generate
from megabyte_mm.models import Megabyte

CPU = torch.device("cpu")
needs_peer = pytest.mark.skipif(peer_version() is None, reason="MEGABYTE-pytorch, of the extra bench, is not installed")


@pytest.fixture
def toy():
    [workload] = workloads(toy=True)
    return workload


def test_every_part_runs_and_its_tables_are_full(tmp_path, capfd):
    file = tmp_path / "figures.json"
    assert main(["--toy", "--device", "cpu", "--seconds", "0", "--batches", "2", "--json", str(file)]) == 0
    written = json.loads(file.read_text(encoding="utf-8"))
    tables = [table for part, tables in written.items() if part != "machine" for table in tables.values()]
    assert list(written) == ["machine", "attention", "memory", "decoding"]
    assert written["machine"]["torch"] == torch.__version__
    assert [len(table) for table in tables[::2]] == [4, 4 if peer_version() else 3]
    printed = capfd.readouterr().out
    assert (MISSING in printed) == (peer_version() is None)
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


def test_recomputing_draws_the_bytes_that_the_cache_draws(toy):
    ways = decoding._ways(toy, CPU)
    prefix = toy.ids(3, toy.window - toy.patch_size, CPU)
    drawn = ways[decoding.CACHED](prefix)
    assert drawn.shape == (3, toy.window)
    assert torch.equal(ways[decoding.RECOMPUTED](prefix), drawn)


def test_recomputing_reads_again_for_every_byte(toy, monkeypatch):
    lengths = []

    def forward(ids_BT, condition_B):
        lengths.append(ids_BT.shape[1])
        return torch.zeros(*ids_BT.shape, SYMBOLS)

    model = decoding.Recomputing(toy.config).eval()
    monkeypatch.setattr(model, "forward", forward)
    generate(model, toy.ids(1, 5, CPU), 3, allow_end=False)
    assert lengths == [6, 7, 8]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_windows_of_the_shipped_configs_are_whole_patches(name):
    workload = shipped(name)
    assert workload.window % workload.patch_size == 0


def test_without_the_peer_ours_is_timed_alone_and_a_line_says_so(toy, monkeypatch):
    monkeypatch.setattr(decoding, "peer_version", lambda: None)
    [table] = decoding.time_decoding([toy], [1], CPU, 0.0)
    assert MISSING in table.text()
    assert "| MEGABYTE-pytorch" not in table.text()


@needs_peer
@pytest.mark.parametrize("name", SHIPPED)
def test_the_peer_has_our_sizes_at_both_levels(name):
    config = shipped(name).config
    levels = zip(both_stacks(config), build_network(config, CPU).transformers, strict=True)
    for stack, theirs in levels:
        linear = [part.weight.numel() for part in theirs.modules() if isinstance(part, nn.Linear)]
        assert sum(linear) == stack.layers * stack.dim**2 * (4 + 2 * stack.feedforward)
        assert [attention.heads for attention, _ in theirs.layers] == [stack.heads] * stack.layers


@needs_peer
def test_the_peer_goes_on_from_the_prefix_to_the_end_of_the_window(toy, capfd):
    prefix = toy.ids(2, toy.window - toy.patch_size, CPU)
    drawn = decoding.peer_generate(build_network(toy.config, CPU).eval(), prefix)
    assert drawn.shape == (2, toy.window)
    assert torch.equal(drawn[:, : prefix.shape[1]], prefix)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("wrong", [["--parts", "lunch"], ["--threads", "0"], ["--seconds", "-1"], ["--batches", "0"]])
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
