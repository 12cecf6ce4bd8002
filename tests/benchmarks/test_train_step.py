"""Smoke test of `python -m benchmarks.train_step`, and what its figures rest on."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks.harness.workloads import paper_config, toy
from benchmarks.peers import PEERS
from benchmarks.train_step import __main__ as train_step
from benchmarks.train_step import implementations
from benchmarks.train_step.implementations import IMPLEMENTATIONS, OURS, Implementation, build, model_info, set_up_steps
from benchmarks.train_step.lengths import GROWTH, PATCH_SIZES, TITLE, fit_power_law, workload_of_length
from benchmarks.train_step.memory import BUDGET, budget_for
from benchmarks.train_step.workloads import WORKLOADS, paper_text, transformer, workloads_for
from tests.benchmarks.conftest import CPU, every_peer


@pytest.fixture
def figures(tmp_path, capsys):
    def run(*options):
        file = tmp_path / "figures.json"
        words = ["--toy", "--device", "cpu", "--rounds", "2", "--length_rounds", "1", "--json", str(file), *options]
        assert train_step.main(words) == 0
        return json.loads(file.read_text(encoding="utf-8")), capsys.readouterr().out

    return run


def test_every_part_is_measured_and_written(figures, tmp_path):
    written, printed = figures("--only", OURS, "Transformer", "--plot", str(tmp_path / "plot.png"))
    assert written.pop("machine")["torch"] == torch.__version__
    assert {part: {title: len(rows) for title, rows in tables.items()} for part, tables in written.items()} == {
        "speed": {"Training steps": 2, "Matrix products": 1},
        "lengths": {TITLE: 3, GROWTH: 1},
        "memory": {"Memory of forward and backward": 4},
        "input": {"Input": 1},
        "attention": {"Attention, forward and backward": 4},
        "allocator": {"Training steps with and without kept freed memory": 2},
    }
    ours, baseline = written["speed"]["Training steps"]
    assert (ours["implementation"], ours["time / ours"]) == (OURS, 1.0)
    assert 0 < ours["FLOP/s of peak, weights"] < ours["FLOP/s of peak, with attention"] < 1
    assert baseline["bytes/s"] == pytest.approx(32e3 / baseline["ms per step"])
    [row] = written["input"]["Input"]
    assert row["step time / loader time"] > 1
    assert 0 < row["waiting in fit"] < 1
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "paper's exponent" in printed


@every_peer
def test_a_peer_is_timed_with_its_own_and_with_our_settings(name, figures):
    chosen = [one.name for one in IMPLEMENTATIONS if one.peer == name and not one.float32]
    written, _ = figures("--parts", "speed", "--only", *chosen)
    rows = written["speed"]["Training steps"]
    assert [row["implementation"] for row in rows] == chosen
    assert [row["FLOP/s of peak, weights"] for row in rows] == [None, None]
    assert rows[0]["precision"] == "float32"


def test_absent_peers_and_repeated_rows_are_left_out_with_a_note(monkeypatch):
    for peer in PEERS.values():
        monkeypatch.setattr(peer, "installed", lambda: None)
    monkeypatch.setattr(implementations, "fit_precision", lambda device: "float32")
    chosen, notes = train_step.choose_implementations(None, CPU)
    assert [one.name for one in chosen] == [OURS, f"{OURS}, compiled", "Transformer"]
    assert len(notes) == len(PEERS) + 1


def test_our_steps_keep_freed_memory_and_count_operations_as_fit_does(monkeypatch):
    kept = []
    monkeypatch.setattr(implementations, "keep_freed_memory", lambda: kept.append(True))
    info, take = set_up_steps(Implementation(OURS), toy(), CPU)
    assert take(2).seconds > 0
    assert kept
    assert info.matrix_flops is not None
    assert info.flops is not None
    assert info.flops > info.matrix_flops


def test_six_operations_are_counted_for_each_weight_that_a_byte_meets():
    config = transformer(toy())
    model = build(Implementation("Transformer", transformer=True), toy(), CPU)
    products = config.stack.layers * 12 * config.stack.dim**2 + 257 * config.stack.dim
    assert model_info(model).matrix_flops == pytest.approx(6 * products)


def test_only_the_compiled_implementation_compiles(monkeypatch):
    modes = []
    monkeypatch.setattr("megabyte_mm.models.Megabyte.compile_blocks", lambda self, mode="default": modes.append(mode))
    for one in IMPLEMENTATIONS:
        if one.peer is None:
            build(one, toy(), CPU)
    assert modes == ["default"]


def test_the_transformer_reads_long_windows_in_blocks():
    assert {one.name: transformer(one).context for one in WORKLOADS} == {
        "text-2048": None,
        "text-8192": None,
        "image-64": 2048,
        "audio-16k": 2048,
    }


def test_the_papers_text_model_is_for_a_gpu_alone():
    names = [one.name for one in WORKLOADS]
    assert [one.name for one in workloads_for(CPU, tiny=False)] == names
    assert [one.name for one in workloads_for(torch.device("cuda"), tiny=False)] == [*names, "paper-text"]
    workload = paper_text()
    assert (workload.window, workload.patch_size, workload.config.dropout) == (8192, 8, 0.0)


def test_a_power_law_is_recovered():
    lengths = [2**power for power in range(13, 22)]
    exponent, factor = fit_power_law(lengths, [3e-7 * length ** (4 / 3) for length in lengths])
    assert exponent == pytest.approx(4 / 3)
    assert factor == pytest.approx(3e-7)


def test_patches_grow_as_the_cube_root_of_the_length_and_the_stacks_do_not():
    for power in PATCH_SIZES:
        workload = workload_of_length(power)
        assert workload.window == 2**power
        assert 0.9 < workload.patch_size / workload.window ** (1 / 3) < 1.1
        assert replace(workload.config, patch_size=None, max_len=None) == replace(
            workload_of_length(13).config, patch_size=None, max_len=None
        )


def test_a_long_picture_is_recomputed_whatever_its_length():
    config = paper_config("image640_megabyte")
    budgets = [budget_for(config, 192 * patches) for patches in (64, 12800)]
    assert budgets[0] < BUDGET
    assert budgets[1] == BUDGET


@pytest.mark.parametrize(
    "wrong",
    [["--rounds", "1"], ["--longest", "22"], ["--only", "lunch"], ["--plot", "x.png", "--parts", "memory"]],
)
def test_a_wrong_option_is_named_in_one_line(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        train_step.main([*wrong, "--device", "cpu"])
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("python -m benchmarks.train_step: error: ")
    assert wrong[0] in last


def test_a_failure_at_a_later_workload_loses_no_earlier_one(tmp_path, monkeypatch):
    later = replace(toy(), name="later", batch=0)
    monkeypatch.setattr(train_step, "workloads_for", lambda *_: [toy(), later])
    file = tmp_path / "figures.json"
    words = ["--toy", "--device", "cpu", "--rounds", "2", "--parts", "speed", "--only", OURS, "--json", str(file)]
    assert train_step.main(words) == 1
    [row] = json.loads(file.read_text(encoding="utf-8"))["speed"]["Training steps"]
    assert row["workload"] == "toy"
