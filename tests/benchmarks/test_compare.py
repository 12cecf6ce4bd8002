"""compare.py trains what its experiment names, gives each as much time, and writes what it found."""

import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.compare import __main__ as comparing
from benchmarks.compare import run as running
from benchmarks.compare.__main__ import main
from benchmarks.compare.experiment import read_experiment
from benchmarks.compare.plot import curves
from benchmarks.compare.results import Point, Results
from benchmarks.compare.run import Limit, Machine, Run
from benchmarks.compare.schedule import take_turns
from benchmarks.peers import PEERS
from megabyte_mm.evaluation.methods import METHODS
from megabyte_mm.evaluation.scoring import score_streams

HERE = Machine(torch.device("cpu"), bf16=False)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Time that goes by a hundredth of a second whenever a run looks at the clock, however slow the machine is."""
    looks = itertools.count()
    monkeypatch.setattr(running, "time", SimpleNamespace(perf_counter=lambda: next(looks) / 100))


@pytest.fixture
def new_run(texts, experiment):
    def make(seed=0, limit=Limit(0.2), **settings):  # noqa: B008 - frozen
        [entry] = read_experiment(experiment({"a": settings}))
        return Run(entry, seed, entry.open_data(texts, seed, None), HERE, limit)

    return make


def compare(experiment, texts, tmp_path, *options):
    out = tmp_path / "out"
    words = [str(experiment), "--data", texts, "--out", str(out), "--device", "cpu", "--slice", "0.05", *options]
    assert main(words) == 0
    return json.loads((out / "results.json").read_text(encoding="utf-8")), out


def test_all_models_and_seeds_are_trained_for_as_long(experiment, texts, tmp_path, capsys):
    models = {"wide": {}, "slow": {"optimizer": {"lr": 1e-5}}, "strided": {"methods": ["sliding+strided"]}}
    found, out = compare(experiment(models), texts, tmp_path, "--seconds", "0.3", "--seeds", "0", "7")
    finals = {(p["model"], p["seed"], p["method"]): p for p in found["points"] if p["final"]}
    assert len(finals) == 2 * 4
    assert all(0.3 <= point["seconds"] < 0.33 for point in finals.values())
    assert all(math.isfinite(point["bpb"]) for point in found["points"])
    assert found["models"]["slow"]["optimizer"]["lr"] == 1e-5
    assert found["models"]["wide"]["net"]["max_len"] == 16
    assert found["models"]["wide"]["architecture"] == "megabyte"
    assert found["command"].startswith("python -m benchmarks.compare")
    table = (out / "table.md").read_text(encoding="utf-8")
    assert all(f"| {name} " in table for name in ("wide", "slow", "strided", "strided, sliding+strided", "seed 7"))
    printed = capsys.readouterr().out
    assert table.strip() in printed
    assert printed.count(" bpb ") == len(found["points"])


def test_a_curve_is_of_one_set_of_windows_and_the_table_of_the_final_one(experiment, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "validate", lambda self, data, method: float(len(data.val_dataloader().dataset)))
    options = ("--seconds", "0.3", "--val_windows", "2", "--final_windows", "5")
    found, out = compare(experiment({"a": {}}), texts, tmp_path, *options)
    points = [Point(**point) for point in found["points"]]
    assert [(point.share, point.bpb, point.final) for point in points] == [
        *((share, 2.0, False) for share in (1 / 8, 1 / 4, 1 / 2, 1.0)),
        (1.0, 5.0, True),
    ]
    [line] = curves(Results({}, points), "seconds").axes[0].lines
    assert np.asarray(line.get_ydata()).tolist() == [2.0] * 4
    assert np.asarray(line.get_xdata()).tolist() == [point.seconds for point in points[:4]]
    [row] = Results({}, points).table().rows
    assert row[-1] == "5.0000"
    assert "Not finished" not in (out / "table.md").read_text(encoding="utf-8")


def test_plain_is_measured_at_the_end_whatever_the_methods(experiment, texts, tmp_path):
    found, out = compare(experiment({"a": {"methods": ["sliding"]}}), texts, tmp_path, "--seconds", "0.1")
    assert [point["method"] for point in found["points"] if point["final"]] == ["plain", "sliding"]
    assert "Not finished" not in (out / "table.md").read_text(encoding="utf-8")


def test_an_unfinished_run_stands_in_the_table_with_its_last_point(tmp_path):
    points = [Point("a", seed, 0.5, 1.0, 10, 100, 3.0, 100.0, 5) for seed in (0, 1)]
    points.append(Point("a", 1, 1.0, 2.0, 20, 200, 2.0, 100.0, 5, final=True))
    table = Results({}, points).table()
    assert table.rows[0][-3:] == ("3.0000", "2.0000", "2.5000 ± 1.0000")
    assert "windows of the plot: a (seed 0)." in table.notes[-1]


@pytest.mark.parametrize(("option", "notes"), [("--final_windows", 1), ("--val_windows", 0)])
def test_sliding_rows_of_some_windows_are_said_not_to_compare(option, notes, experiment, texts, tmp_path):
    models = {"a": {"methods": ["sliding"]}, "b": {}}
    found, out = compare(experiment(models), texts, tmp_path, "--seconds", "0.1", option, "3")
    assert sum("other bytes" in note for note in found["notes"]) == notes
    assert ("--final_windows 3" in (out / "table.md").read_text(encoding="utf-8")) == bool(notes)


def test_an_earlier_comparison_is_not_overwritten_unasked(experiment, texts, tmp_path, capsys):
    words = [str(experiment({"a": {}})), "--data", texts, "--out", str(tmp_path / "out"), "--device", "cpu"]
    earlier = tmp_path / "out" / "results.json"
    earlier.parent.mkdir()
    earlier.write_text("{}", encoding="utf-8")
    assert main([*words, "--seconds", "0.1"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "--overwrite" in told
    assert earlier.read_text(encoding="utf-8") == "{}"
    assert main([*words, "--seconds", "0.1", "--overwrite"]) == 0
    assert json.loads(earlier.read_text(encoding="utf-8"))["points"]


def test_a_model_may_be_named_by_a_number(experiment, texts, tmp_path):
    found, out = compare(experiment({8: {}, "b": {}}), texts, tmp_path, "--seconds", "0.1", "--only", "8")
    assert {point["model"] for point in found["points"]} == {"8"}
    assert (out / "bpb.png").exists()


def test_curves_are_drawn(experiment, texts, tmp_path):
    _, out = compare(experiment({"a": {}, "b": {}}), texts, tmp_path, "--seconds", "0.1")
    assert (out / "bpb.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in out.iterdir()} == {"results.json", "table.md", "bpb.png"}


def test_a_peer_that_is_not_installed_is_left_out_with_a_note(experiment, texts, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(PEERS["mblm"], "installed", lambda: None)
    models = {"ours": {}, "theirs": {"peer": "mblm"}}
    found, out = compare(experiment(models), texts, tmp_path, "--seconds", "0.1")
    assert found["notes"] == ["theirs is left out: mblm is not installed (docs/benchmarks.md)."]
    assert found["notes"][0] in (out / "table.md").read_text(encoding="utf-8")
    assert found["notes"][0] in capsys.readouterr().out


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_trained_beside_ours(name, experiment, texts, tmp_path):
    if PEERS[name].installed() is None:
        pytest.skip(f"{PEERS[name].package} is not installed: see docs/benchmarks.md")
    found, _ = compare(experiment({"ours": {}, "theirs": {"peer": name}}), texts, tmp_path, "--seconds", "0.1")
    assert {point["model"] for point in found["points"] if point["final"]} == {"ours", "theirs"}
    assert found["notes"] == []


def test_operations_may_end_a_run_instead_of_time(experiment, texts, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(comparing, "draw", lambda results, path, progress: drawn.append(progress))
    models = {"small": {}, "large": {"net": {"local_stack": {"layers": 3}}}, "theirs": {"peer": "mblm"}}
    found, _ = compare(experiment(models), texts, tmp_path, "--flops", "3e7")
    steps = {point["model"]: point["steps"] for point in found["points"]}
    assert set(steps) == {"small", "large"}
    assert steps["small"] > steps["large"]
    assert "theirs is left out under --flops" in found["notes"][0]
    assert drawn == ["flops"]


def test_under_flops_curves_are_drawn_against_operations():
    points = [Point("a", 0, share, share, 10, 100, 2.0, 100.0, 5, flops=share * 4e9) for share in (0.5, 1.0)]
    [axes] = curves(Results({}, points), "flops").axes
    assert axes.get_xlabel() == "training operations"
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [2e9, 4e9]


def test_small_figures_of_the_table_keep_three_digits():
    point = Point("a", 0, 1.0, 0.12345, 10, 1234567, 2.0, 100.0, 5, flops=1.2345e12, final=True)
    [line] = [line for line in Results({}, [point]).table().text().splitlines() if line.startswith("| a ")]
    assert [cell.strip() for cell in line.split("|")][3:8] == ["0.123", "10", "1,234,567", "100", "0.00123"]


def test_the_same_seed_trains_the_same_whatever_takes_turns_with_it(new_run):
    alone, between = new_run(net={"dropout": 0.5}), new_run(net={"dropout": 0.5})
    other = new_run(seed=1, net={"dropout": 0.5})
    for _ in range(4):
        alone.train(0.0)
    for _ in range(4):
        between.train(0.0)
        torch.rand(3)
        other.train(0.0)
    weights = [torch.cat([p.detach().flatten() for p in run.model.parameters()]) for run in (alone, between, other)]
    assert torch.equal(alone._random_state[0], between._random_state[0])
    assert not torch.equal(alone._random_state[0], other._random_state[0])
    torch.testing.assert_close(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2], atol=1e-2)


def test_training_leaves_torchs_own_generator_alone(new_run):
    before = torch.get_rng_state()
    new_run(net={"dropout": 0.5}).train(0.0)
    assert torch.equal(torch.get_rng_state(), before)


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
    assert shares[-1] == 1.0
    assert run.seconds == pytest.approx(0.4, abs=0.03)


def test_runs_take_turns_forwards_and_backwards(monkeypatch, new_run):
    runs = [new_run() for _ in range(3)]
    turns = []
    for number, run in enumerate(runs):
        run.milestones = [1.0]
        monkeypatch.setattr(run, "train", lambda seconds, number=number: turns.append(number))
        monkeypatch.setattr(run, "reach_milestone", lambda run=run: run.milestones.pop() if len(turns) > 6 else None)
    list(take_turns(runs, 1.0, lambda run, share: iter(())))
    assert turns == [0, 1, 2, 2, 1, 0, 0, 1, 2]


def test_bytes_are_counted_without_what_fills_a_window(new_run):
    run = new_run(batch_size=1, limit=Limit(60.0))
    for _ in range(25):  # an epoch: 25 windows, all of whose bytes are the file's
        run._step()
    assert run.bytes == 400


def test_validation_gives_what_scoring_the_streams_gives(new_run, texts):
    run = new_run(net={"dropout": 0.5})
    generator = torch.Generator().manual_seed(0)
    for weights in run.model.parameters():  # far from uniform predictions, so that no two methods agree
        nn.init.normal_(weights, std=0.5, generator=generator)
    data = run.entry.open_data(texts, 0, None)
    found = {method: run.validate(data, method) for method in METHODS}
    run.model.eval()
    scored = {method: bits_per_byte(run.model, data, method) for method in METHODS}
    assert found == pytest.approx(scored, rel=1e-5)
    assert all(abs(one - other) > 1e-4 * one for one, other in itertools.combinations(scored.values(), 2))


def bits_per_byte(model, data, method):
    lengths = data.val.lengths.tolist()
    streams = [(data.val.read(row, 0, length), 0) for row, length in enumerate(lengths)]
    scores = list(score_streams(model, streams, data.window, data.unit, data.fixed_length, method))
    return sum(score.total_nats for score in scores) / sum(lengths) / math.log(2)


def test_a_huge_gradient_is_clipped(new_run, monkeypatch):
    run = new_run()
    learn, norms = run._learn, []

    def explode(batch):
        learn(batch)
        for weights in run.model.parameters():
            weights.grad *= 1e6

    def gradient_norm():
        norms.append(float(torch.cat([weights.grad.flatten() for weights in run.model.parameters()]).norm()))

    monkeypatch.setattr(run, "_learn", explode)
    monkeypatch.setattr(run._optimizer, "step", gradient_norm)
    run._step()
    assert norms == [pytest.approx(1.0, rel=1e-3)]


def test_an_interrupted_comparison_keeps_its_results(experiment, texts, tmp_path, monkeypatch):
    def interrupted(self, seconds, train=Run.train):
        if self.milestones[0] == 1.0:
            raise KeyboardInterrupt
        train(self, seconds)

    monkeypatch.setattr(running.Run, "train", interrupted)
    words = [str(experiment({"a": {}})), "--data", texts, "--out", str(tmp_path / "out"), "--seconds", "0.2"]
    assert main([*words, "--device", "cpu"]) == 130
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert found["points"][-1]["share"] < 1.0
    assert (tmp_path / "out" / "bpb.png").read_bytes().startswith(b"\x89PNG")
    assert "Not finished, and validated on the windows of the plot: a (seed 0)." in (
        tmp_path / "out" / "table.md"
    ).read_text(encoding="utf-8")
    assert not list((tmp_path / "out").glob(".*"))


def test_a_diverged_run_is_written_and_comes_last(tmp_path):
    points = [Point(name, 0, 1.0, 1.0, 10, 100, bpb, 100.0, 5) for name, bpb in (("bad", math.nan), ("good", 2.5))]
    results = Results({}, points)
    results.write(tmp_path)
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [point["bpb"] for point in written["points"]] == [None, 2.5]
    assert [row[0] for row in results.table().rows] == ["good", "bad"]


@pytest.mark.parametrize("wrong", [["--seconds", "0"], ["--slice", "-1"], ["--seeds", "1", "1"], ["--only", "lunch"]])
def test_a_wrong_option_is_told_in_a_line(wrong, experiment, texts, tmp_path, capsys):
    words = [str(experiment({"a": {}})), "--data", texts, "--out", str(tmp_path / "out"), *wrong]
    with pytest.raises(SystemExit) as stop:
        raise SystemExit(main(words))
    assert stop.value.code == 2
    assert wrong[0] in capsys.readouterr().err
