"""compare.py trains what its experiment names, gives each as much time, and writes what it found."""

import itertools
import json
import math
from types import SimpleNamespace

import pytest
import torch

from benchmarks.compare import main
from benchmarks.comparison import runs as running
from benchmarks.comparison.experiment import read_experiment
from benchmarks.comparison.results import Point, Results
from benchmarks.comparison.rounds import take_turns
from benchmarks.comparison.runs import Limit, Machine, Run
from benchmarks.peers import PEERS

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
    models = {"wide": {}, "slow": {"optimizer": {"lr": 1e-5}}, "strided": {"methods": ["plain", "sliding+strided"]}}
    found, out = compare(experiment(models), texts, tmp_path, "--seconds", "0.3", "--seeds", "0", "7")
    finals = {(p["model"], p["seed"], p["method"]): p for p in found["points"] if p["share"] == 1.0}
    assert len(finals) == 2 * 4
    assert all(0.3 <= point["seconds"] < 0.33 for point in finals.values())
    assert all(math.isfinite(point["bpb"]) for point in found["points"])
    assert found["models"]["slow"]["optimizer"]["lr"] == 1e-5
    assert found["models"]["wide"]["net"]["max_len"] == 16
    assert found["models"]["wide"]["architecture"] == "megabyte"
    assert found["command"].startswith("python benchmarks/compare.py")
    table = (out / "table.md").read_text(encoding="utf-8")
    assert all(f"| {name} " in table for name in ("wide", "slow", "strided", "strided, sliding+strided", "seed 7"))
    printed = capsys.readouterr().out
    assert table.strip() in printed
    assert printed.count(" bpb ") == len(found["points"])


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
    assert {point["model"] for point in found["points"] if point["share"] == 1.0} == {"ours", "theirs"}
    assert found["notes"] == []


def test_operations_may_end_a_run_instead_of_time(experiment, texts, tmp_path):
    models = {"small": {}, "large": {"net": {"local_stack": {"layers": 3}}}, "theirs": {"peer": "mblm"}}
    found, _ = compare(experiment(models), texts, tmp_path, "--flops", "3e7")
    steps = {point["model"]: point["steps"] for point in found["points"]}
    assert set(steps) == {"small", "large"}
    assert steps["small"] > steps["large"]
    assert "theirs is left out under --flops" in found["notes"][0]


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


def test_validation_scores_every_byte(new_run, texts):
    run = new_run()
    data = run.entry.open_data(texts, 0, None)
    for method in ("plain", "sliding", "strided", "sliding+strided"):
        assert 4.0 < run.validate(data, method) < 10.0


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
    assert "Not finished: a." in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
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
