"""train_step.py measures what it says, in processes that take turns and end. Its figures are nobody's promise."""

import json
import mmap
import os
import time
from dataclasses import replace
from functools import partial

import pytest
import torch

from benchmarks.harness import workers
from benchmarks.harness.memory import PeakMemory
from benchmarks.harness.report import Table
from benchmarks.harness.workers import WorkerError, worker
from benchmarks.harness.workloads import workloads
from benchmarks.peers import PEERS, build_peer
from benchmarks.train_step import __main__ as train_step
from benchmarks.train_step.__main__ import main
from benchmarks.train_step.implementations import CANDIDATES, OURS, Candidate, about, build, start_steps
from benchmarks.train_step.lengths import GROWTH, PATCH_SIZES, TITLE, fitted, shape_of
from benchmarks.train_step.memory import BUDGET, budget_for
from benchmarks.train_step.plot import draw
from benchmarks.train_step.shapes import SHAPES, baseline, paper_config, paper_text, shapes
from benchmarks.train_step.stepper import start_products
from megabyte_mm.models.flops import multiplied_weights

CPU = torch.device("cpu")
PLAIN = [candidate for candidate in CANDIDATES if not candidate.compiled]
"""Compilation takes many seconds."""


@pytest.fixture
def toy():
    [workload] = workloads(toy=True)
    return workload


@pytest.fixture
def figures(tmp_path, capsys):
    def run(*options):
        file = tmp_path / "figures.json"
        words = ["--toy", "--device", "cpu", "--rounds", "2", "--length_rounds", "1", "--json", str(file), *options]
        assert main(words) == 0
        return json.loads(file.read_text(encoding="utf-8")), capsys.readouterr().out

    return run


def test_every_part_of_ours_is_measured_and_written(figures, tmp_path):
    written, printed = figures("--only", OURS, "Transformer", "--plot", str(tmp_path / "plot.png"))
    assert list(written) == ["machine", *train_step.PARTS]
    assert {part: {title: len(rows) for title, rows in written[part].items()} for part in train_step.PARTS} == {
        "speed": {"Training steps": 2, "Matrix products": 1},
        "lengths": {TITLE: 3, GROWTH: 1},
        "memory": {"Memory of forward and backward": 4},
        "input": {"Input": 3},
    }
    ours, transformer = written["speed"]["Training steps"]
    assert ours["implementation"] == OURS
    assert ours["time / ours"] == 1.0
    assert 0 < ours["FLOP/s of peak, weights"] < ours["FLOP/s of peak, with attention"] < 1
    assert transformer["bytes/s"] == pytest.approx(32e3 / transformer["ms per step"])
    assert all(row["step time / loader time"] > 1 for row in written["input"]["Input"])
    assert all(0 < row["waiting in fit"] < 1 for row in written["input"]["Input"])
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "| shape " in printed
    assert "paper's exponent" in printed


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_timed_in_both_settings(name, figures):
    if PEERS[name].installed() is None:
        pytest.skip(f"{PEERS[name].package} is not installed: see docs/benchmarks.md")
    asked = [candidate.name for candidate in PLAIN if candidate.peer == name and not candidate.float32]
    written, _ = figures("--parts", "speed", "--only", *asked)
    rows = written["speed"]["Training steps"]
    assert [row["implementation"] for row in rows] == asked
    assert [row["time / ours"] for row in rows] == [None, None]
    assert [row["FLOP/s of peak, weights"] for row in rows] == [None, None]
    assert rows[0]["precision"] == "float32"


@pytest.mark.parametrize("name", PEERS)
def test_a_peers_own_loss_is_that_of_its_logits(name, toy):
    if PEERS[name].installed() is None:
        pytest.skip(f"{PEERS[name].package} is not installed: see docs/benchmarks.md")
    for as_it_comes in (False, True):
        torch.manual_seed(0)
        peer = build_peer(name, toy.config, CPU, as_it_comes).eval()
        ids_BT = toy.ids(2, toy.window, CPU)
        torch.testing.assert_close(peer.own_loss(ids_BT), peer.nll(ids_BT).mean())


def test_peers_that_are_not_installed_are_left_out_with_a_note(monkeypatch):
    for peer in PEERS.values():
        monkeypatch.setattr(peer, "installed", lambda: None)
    left, notes = train_step._candidates(train_step._options(["--toy", "--device", "cpu"]), CPU)
    assert {candidate.peer for candidate in left} == {None}
    assert [note.split()[0] for note in notes if "not installed" in note] == [peer.package for peer in PEERS.values()]


def test_rows_in_float32_are_left_out_where_fit_takes_it_anyway(monkeypatch):
    monkeypatch.setattr("benchmarks.train_step.implementations.best_precision", lambda accelerator: "32-true")
    left, notes = train_step._candidates(train_step._options(["--toy", "--device", "cpu"]), CPU)
    assert not any(candidate.float32 for candidate in left)
    assert any("float32" in note for note in notes)


@pytest.mark.parametrize("candidate", [one for one in PLAIN if one.peer is None], ids=lambda one: one.name)
def test_a_step_takes_time_and_tells_how_much_it_computes(candidate, toy, monkeypatch):
    kept = []
    monkeypatch.setattr("benchmarks.train_step.implementations.keep_freed_memory", lambda: kept.append(True))
    found, take = start_steps(candidate, toy, CPU)
    assert take(2).seconds > 0
    assert kept
    assert found.parameters > 0
    assert found.matrix_flops is not None
    assert found.flops is not None
    assert found.flops > found.matrix_flops


def test_a_compiled_candidate_compiles(toy, monkeypatch):
    modes = []
    monkeypatch.setattr("megabyte_mm.models.Megabyte.compile_blocks", lambda self, mode="default": modes.append(mode))
    for candidate in CANDIDATES:
        if candidate.peer is None:
            build(candidate, toy, CPU)
    assert modes == ["default"]


def test_a_model_of_weights_alone_takes_six_operations_for_each(toy):
    model = build(Candidate(OURS), toy, CPU)
    weights = multiplied_weights(model)
    for_each_byte = weights["global_stack"] / model.patch_size + sum(
        count for name, count in weights.items() if name != "global_stack"
    )
    assert about(model).matrix_flops == pytest.approx(6 * for_each_byte)


def test_the_baseline_reads_long_windows_in_blocks():
    assert {shape.name: baseline(shape).context for shape in SHAPES} == {
        "text-2048": None,
        "text-8192": None,
        "image-64": 2048,
        "audio-16k": 2048,
    }


def test_the_papers_text_model_is_for_a_gpu_alone():
    names = [shape.name for shape in SHAPES]
    assert [shape.name for shape in shapes(CPU, toy=False)] == names
    assert [shape.name for shape in shapes(torch.device("cuda"), toy=False)] == [*names, "paper-text"]
    shape = paper_text()
    assert (shape.window, shape.patch_size, shape.config.dropout) == (8192, 8, 0.0)


def test_a_power_law_is_found_again():
    lengths = [2**power for power in range(13, 22)]
    exponent, factor = fitted(lengths, [3e-7 * length ** (4 / 3) for length in lengths])
    assert exponent == pytest.approx(4 / 3)
    assert factor == pytest.approx(3e-7)


@pytest.mark.parametrize("power", PATCH_SIZES)
def test_patches_of_all_lengths_fit_the_same_stacks(power):
    shape = shape_of(power)
    assert shape.window == 2**power
    assert 0.9 < shape.patch_size / shape.window ** (1 / 3) < 1.1
    assert replace(shape.config, patch_size=None, max_len=None) == replace(
        shape_of(13).config, patch_size=None, max_len=None
    )


def test_a_long_picture_is_read_anew_whatever_its_length():
    config = paper_config("image640_megabyte")
    budgets = [budget_for(config, 192 * patches) for patches in (64, 12800)]
    assert budgets[0] < BUDGET
    assert budgets[1] == BUDGET


def test_resident_memory_rises_by_what_is_held():
    memory = PeakMemory(CPU)
    memory.begin()
    if memory.rise() is None:
        pytest.skip("this system does not tell")
    # Not from malloc, which other tests may have told to keep what is freed: neither the pages nor what fills them.
    with mmap.mmap(-1, 64 * 2**20) as held:
        for _ in range(0, len(held), 2**16):
            held.write(b"1" * 2**16)
    risen = memory.rise()
    assert risen is not None
    assert risen > 60 * 2**20
    memory.begin()
    risen = memory.rise()
    assert risen is not None
    assert risen < 60 * 2**20


def test_products_of_matrices_are_timed():
    _, multiply = start_products("float32", 16, CPU)
    assert multiply(None) > 0


def test_a_worker_that_cannot_begin_is_named_with_the_reason():
    with (
        pytest.raises(WorkerError, match=r"^lunch: ValueError: invalid literal for int\(\) with base 10: 'pie'$"),
        worker("lunch", partial(unready, "pie"), 1),
    ):
        pass


def test_a_worker_that_is_lost_is_named_with_the_reason():
    with (
        pytest.raises(WorkerError, match="^lunch: its process ended with exit code 3$"),
        worker("lunch", partial(os._exit, 3), 1),
    ):
        pass


def test_a_worker_that_is_killed_at_work_is_named(toy):
    start = partial(start_steps, Candidate(OURS), toy, CPU)
    with worker("lunch", start, 1) as found:
        assert found.ask(1).seconds > 0
        found._process.kill()
        with pytest.raises(WorkerError, match="^lunch: its process was ended by signal 9, as where memory runs out$"):
            found.ask(1)


def test_a_worker_that_fails_at_work_is_named(toy):
    start = partial(start_steps, Candidate(OURS), toy, CPU)
    with pytest.raises(WorkerError, match="^lunch: TypeError: "), worker("lunch", start, 1) as found:
        found.ask("many")
    assert not found._process.is_alive()


def test_a_worker_ends_with_the_block_however_busy(monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 0.2)
    with worker("sleeper", partial(sleeper, 60.0), 1) as found:
        found._connection.send(None)
        began = time.perf_counter()
    assert time.perf_counter() - began < 10
    assert not found._process.is_alive()


def unready(dish):
    return None, int(dish)


def sleeper(seconds):
    return None, lambda _: time.sleep(seconds)


def test_a_failing_candidate_fails_the_program_in_a_line(monkeypatch, capsys):
    def fail(*arguments):
        raise WorkerError("mblm, our settings, text-2048: RuntimeError: no memory")

    monkeypatch.setattr(train_step, "time_steps", fail)
    assert main(["--toy", "--device", "cpu", "--parts", "speed"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "python -m benchmarks.train_step: error: mblm, our settings, text-2048: RuntimeError: no memory"
    )


def test_a_missing_row_is_a_missing_bar(tmp_path):
    table = Table("Training steps", ("shape", "implementation", "bytes/s"))
    table.rows += [("a", "x", 10.0), ("a", "y", 20.0), ("b", "x", 30.0)]
    draw({"speed": [table]}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--parts", "lunch"],
        ["--threads", "0"],
        ["--rounds", "1"],
        ["--length_rounds", "0"],
        ["--longest", "13"],
        ["--longest", "22"],
        ["--shapes", "lunch"],
        ["--only", "lunch"],
        ["--json", "no/such/folder/x.json"],
        ["--plot", "x.png", "--parts", "memory"],
    ],
)
def test_a_wrong_option_is_told_in_a_line(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*wrong, "--device", "cpu"])
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("python -m benchmarks.train_step: error: ")
    assert wrong[0] in last


def test_a_failure_at_a_later_shape_loses_no_earlier_one(toy, tmp_path, monkeypatch):
    later = replace(toy, name="later", batch=0)
    monkeypatch.setattr(train_step, "shapes", lambda *_: [toy, later])
    file = tmp_path / "figures.json"
    words = ["--toy", "--device", "cpu", "--rounds", "2", "--parts", "speed", "--only", OURS, "--json", str(file)]
    assert main(words) == 1
    [kept] = json.loads(file.read_text(encoding="utf-8"))["speed"]["Training steps"]
    assert kept["shape"] == toy.name
