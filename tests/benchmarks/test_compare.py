"""`python -m benchmarks.compare` gives each model of an experiment the same training time and validates all alike."""

import itertools
import json
import math
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.compare import __main__ as compare
from benchmarks.compare import run as running
from benchmarks.compare.experiment import read_experiment
from benchmarks.compare.plot import curves
from benchmarks.compare.results import Point, Results
from benchmarks.compare.rounds import train_interleaved
from benchmarks.compare.run import Limit, Machine, Run
from benchmarks.peers import PEERS
from megabyte_mm.evaluation.methods import METHODS
from megabyte_mm.evaluation.scoring import score_streams
from tests.benchmarks.conftest import CPU, every_peer


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that advances by a hundredth of a second whenever a run reads it, however slow the machine is."""
    reads = itertools.count()
    monkeypatch.setattr(running, "time", SimpleNamespace(perf_counter=lambda: next(reads) / 100))


@pytest.fixture
def new_run(texts, experiment):
    def make(seed=0, limit=Limit(0.2), **settings):  # noqa: B008 - frozen
        [entry] = read_experiment(experiment({"a": settings}))
        return Run(entry, seed, entry.open_data(texts, seed, None), Machine(CPU, bf16=False), limit)

    return make


@pytest.fixture
def comparison(experiment, texts, tmp_path):
    def run(models, *options, code=0):
        out = tmp_path / "out"
        words = [str(experiment(models)), "--data", texts, "--out", str(out), "--device", "cpu", "--slice", "0.05"]
        assert compare.main([*words, "--seconds", "0.1", *options]) == code
        return json.loads((out / "results.json").read_text(encoding="utf-8")), out

    return run


def test_all_models_and_seeds_are_trained_for_the_same_time(comparison, capsys):
    models = {"wide": {}, "slow": {"optimizer": {"lr": 1e-5}}, 8: {"methods": ["sliding+strided"]}}
    written, out = comparison(models, "--seconds", "0.3", "--seeds", "0", "7")
    finals = {(p["model"], p["seed"], p["method"]): p for p in written["points"] if p["final"]}
    assert len(finals) == 2 * 4
    assert {method for model, _, method in finals if model == "8"} == {"plain", "sliding+strided"}
    assert all(0.3 <= point["seconds"] < 0.33 for point in finals.values())
    assert all(math.isfinite(point["bpb"]) for point in written["points"])
    assert written["models"]["slow"]["optimizer"]["lr"] == 1e-5
    assert written["models"]["wide"]["net"]["max_len"] == 16
    assert written["models"]["wide"]["architecture"] == "megabyte"
    assert written["command"].startswith("python -m benchmarks.compare")
    assert {path.name for path in out.iterdir()} == {"results.json", "table.md", "bpb.png"}
    table = (out / "table.md").read_text(encoding="utf-8")
    assert all(f"| {name} " in table for name in ("wide", "slow", "8", "8, sliding+strided", "seed 7"))
    assert "Not finished" not in table
    printed = capsys.readouterr().out
    assert table.strip() in printed
    assert printed.count(" bpb ") == len(written["points"])


def test_a_curve_is_of_one_set_of_windows_and_the_table_of_the_final_one(comparison, monkeypatch):
    monkeypatch.setattr(Run, "validate", lambda self, data, method: float(len(data.val_dataloader().dataset)))
    written, _ = comparison({"a": {}}, "--seconds", "0.3", "--val_windows", "2", "--final_windows", "5")
    points = [Point(**point) for point in written["points"]]
    assert [(point.share, point.bpb, point.final) for point in points] == [
        *((share, 2.0, False) for share in (1 / 8, 1 / 4, 1 / 2, 1.0)),
        (1.0, 5.0, True),
    ]
    [line] = curves(Results({}, points), "seconds").axes[0].lines
    assert np.asarray(line.get_ydata()).tolist() == [2.0] * 4
    assert np.asarray(line.get_xdata()).tolist() == [point.seconds for point in points[:4]]
    [row] = Results({}, points).table().rows
    assert row[-1] == "5.0000"


def test_an_unfinished_run_is_in_the_table_with_its_last_point():
    points = [Point("a", seed, 0.5, 1.0, 10, 100, 3.0, 100.0, 5) for seed in (0, 1)]
    points.append(Point("a", 1, 1.0, 2.0, 20, 200, 2.0, 100.0, 5, final=True))
    table = Results({}, points).table()
    assert table.rows[0][-3:] == ("3.0000", "2.0000", "2.5000 ± 1.0000")
    assert "windows of the plot: a (seed 0)." in table.notes[-1]


@pytest.mark.parametrize(("option", "notes"), [("--final_windows", 1), ("--val_windows", 0)])
def test_a_note_says_when_sliding_rows_are_of_other_bytes(option, notes, comparison):
    written, out = comparison({"a": {"methods": ["sliding"]}}, option, "3")
    assert sum("other bytes" in note for note in written["notes"]) == notes
    assert ("--final_windows 3" in (out / "table.md").read_text(encoding="utf-8")) == bool(notes)


def test_an_earlier_comparison_is_replaced_with_overwrite_only(comparison, tmp_path, capsys):
    earlier = tmp_path / "out" / "results.json"
    earlier.parent.mkdir()
    earlier.write_text("{}", encoding="utf-8")
    assert comparison({"a": {}}, code=2)[0] == {}
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "--overwrite" in message
    written, _ = comparison({"a": {}, "b": {}}, "--overwrite", "--only", "b")
    assert {point["model"] for point in written["points"]} == {"b"}


def test_a_peer_that_is_not_installed_is_left_out_with_a_note(comparison, monkeypatch, capsys):
    monkeypatch.setattr(PEERS["mblm"], "installed", lambda: None)
    written, out = comparison({"ours": {}, "theirs": {"peer": "mblm"}})
    assert written["notes"] == ["theirs is left out: mblm is not installed (docs/benchmarks.md)."]
    assert written["notes"][0] in (out / "table.md").read_text(encoding="utf-8")
    assert written["notes"][0] in capsys.readouterr().out


@every_peer
def test_a_peer_is_trained_beside_ours(name, comparison):
    written, _ = comparison({"ours": {}, "theirs": {"peer": name}})
    assert {point["model"] for point in written["points"] if point["final"]} == {"ours", "theirs"}
    assert written["notes"] == []


def test_operations_may_end_a_run_instead_of_time(comparison, monkeypatch):
    axes = []
    monkeypatch.setattr(compare, "plot", lambda results, path, progress: axes.append(progress))
    models = {"small": {}, "large": {"net": {"local_stack": {"layers": 3}}}, "theirs": {"peer": "mblm"}}
    written, _ = comparison(models, "--flops", "3e7")
    steps = {point["model"]: point["steps"] for point in written["points"]}
    assert set(steps) == {"small", "large"}
    assert steps["small"] > steps["large"]
    assert "theirs is left out under --flops" in written["notes"][0]
    assert axes == ["flops"]


def test_operations_are_on_the_axis_of_the_plot():
    points = [Point("a", 0, share, share, 10, 100, 2.0, 100.0, 5, flops=share * 4e9) for share in (0.5, 1.0)]
    [axes] = curves(Results({}, points), "flops").axes
    assert axes.get_xlabel() == "training operations"
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [2e9, 4e9]


def test_small_figures_of_the_table_keep_three_digits():
    point = Point("a", 0, 1.0, 0.12345, 10, 1234567, 2.0, 100.0, 5, flops=1.2345e12, final=True)
    [line] = [line for line in Results({}, [point]).table().text().splitlines() if line.startswith("| a ")]
    assert [cell.strip() for cell in line.split("|")][3:8] == ["0.123", "10", "1,234,567", "100", "0.00123"]


def test_a_run_is_the_same_alone_and_among_others(new_run):
    alone, among = new_run(net={"dropout": 0.5}), new_run(net={"dropout": 0.5})
    other = new_run(seed=1, net={"dropout": 0.5})
    for _ in range(4):
        alone.train(0.0)
    for _ in range(4):
        before = torch.get_rng_state()
        among.train(0.0)
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
        other.train(0.0)
    weights = [torch.cat([p.detach().flatten() for p in run.model.parameters()]) for run in (alone, among, other)]
    assert torch.equal(alone._random_state[0], among._random_state[0])
    torch.testing.assert_close(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2], atol=1e-2)


def test_the_learning_rate_falls_with_the_runs_own_time(new_run):
    run = new_run(limit=Limit(10.0))
    rates = []
    for seconds in (0.0, 2.5, 5.0):
        run.seconds, run.steps = seconds, 5
        run._step()
        rates.append(run._optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3, 0.75e-3, 0.5e-3])


def test_a_slice_ends_at_a_milestone(new_run):
    run = new_run(limit=Limit(0.4))
    shares = []
    while run.milestones:
        run.train(seconds=60.0)
        shares.append(run.reach_milestone())
        assert run.share >= shares[-1]
    assert shares == [1 / 8, 1 / 4, 1 / 2, 1.0]
    assert run.seconds == pytest.approx(0.4, abs=0.03)


def test_runs_are_interleaved_forwards_and_backwards():
    order = []

    class Stub:
        def __init__(self, number):
            self.number, self.milestones = number, [1.0]

        def train(self, seconds):
            order.append(self.number)

        def reach_milestone(self):
            return self.milestones.pop() if len(order) > 6 else None

    runs = cast(list[Run], [Stub(number) for number in range(3)])
    list(train_interleaved(runs, 1.0, lambda run, share: iter(())))
    assert order == [0, 1, 2, 2, 1, 0, 0, 1, 2]


def test_bytes_are_counted_without_what_fills_a_window(new_run):
    run = new_run(batch_size=1, limit=Limit(60.0))
    for _ in range(25):  # an epoch: 25 windows, all of whose bytes are the file's
        run._step()
    assert run.bytes == 400


def test_validation_equals_scoring_of_the_streams(new_run, texts):
    run = new_run(net={"dropout": 0.5})
    generator = torch.Generator().manual_seed(0)
    for weights in run.model.parameters():  # far from uniform predictions, so that no two methods agree
        nn.init.normal_(weights, std=0.5, generator=generator)
    data = run.entry.open_data(texts, 0, None)
    validated = {method: run.validate(data, method) for method in METHODS}
    run.model.eval()
    scored = {method: bits_per_byte(run.model, data, method) for method in METHODS}
    assert validated == pytest.approx(scored, rel=1e-5)
    assert all(abs(one - other) > 1e-4 * one for one, other in itertools.combinations(scored.values(), 2))


def bits_per_byte(model, data, method):
    lengths = data.val.lengths.tolist()
    streams = [(data.val.read(row, 0, length), 0) for row, length in enumerate(lengths)]
    window, unit, fixed_length = data.geometry.window, data.geometry.unit, data.geometry.fixed_length
    scores = list(score_streams(model, streams, window, unit, fixed_length, method))
    return sum(score.total_nats for score in scores) / sum(lengths) / math.log(2)


def test_a_huge_gradient_is_clipped(new_run, monkeypatch):
    run = new_run()
    backward, norms = run._backward, []

    def explode(batch):
        backward(batch)
        for weights in run.model.parameters():
            weights.grad *= 1e6

    def gradient_norm():
        norms.append(float(torch.cat([weights.grad.flatten() for weights in run.model.parameters()]).norm()))

    monkeypatch.setattr(run, "_backward", explode)
    monkeypatch.setattr(run._optimizer, "step", gradient_norm)
    run._step()
    assert norms == [pytest.approx(1.0, rel=1e-3)]


def test_an_interrupted_comparison_keeps_its_results(comparison, monkeypatch):
    def interrupted(self, seconds, train=Run.train):
        if self.milestones[0] == 1.0:
            raise KeyboardInterrupt
        train(self, seconds)

    monkeypatch.setattr(running.Run, "train", interrupted)
    written, out = comparison({"a": {}}, "--seconds", "0.2", code=130)
    assert written["points"][-1]["share"] < 1.0
    assert (out / "bpb.png").read_bytes().startswith(b"\x89PNG")
    assert "Not finished" in (out / "table.md").read_text(encoding="utf-8")
    assert not list(out.glob(".*"))


def test_a_diverged_run_is_written_and_comes_last(tmp_path):
    points = [Point(name, 0, 1.0, 1.0, 10, 100, bpb, 100.0, 5) for name, bpb in (("bad", math.nan), ("good", 2.5))]
    results = Results({}, points)
    results.write(tmp_path)
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [point["bpb"] for point in written["points"]] == [None, 2.5]
    assert [row[0] for row in results.table().rows] == ["good", "bad"]


@pytest.mark.parametrize("wrong", [["--seconds", "0"], ["--seeds", "1", "1"], ["--only", "lunch"]])
def test_a_wrong_option_is_named_in_one_line(wrong, experiment, texts, tmp_path, capsys):
    words = [str(experiment({"a": {}})), "--data", texts, "--out", str(tmp_path / "out"), *wrong]
    with pytest.raises(SystemExit) as stop:
        raise SystemExit(compare.main(words))
    assert stop.value.code == 2
    assert wrong[0] in capsys.readouterr().err
