"""An experiment's file says which models are compared, and every mistake in it is told."""

import pytest

from benchmarks.compare import main
from benchmarks.comparison.experiment import ROOT, read_experiment
from megabyte_mm.models import MegabyteConfig


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks" / "experiments").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_experiments_of_the_project_can_be_read(path):
    assert "megabyte" in {entry.name for entry in read_experiment(path)}


def test_the_experiment_of_the_guide_can_be_read(tmp_path):
    guide = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    path = tmp_path / "experiment.yaml"
    path.write_text(guide.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    entries = {entry.name: entry for entry in read_experiment(path)}
    assert list(entries) == ["megabyte", "wider", "raster", "theirs", "scored"]
    assert entries["wider"].batch_size == 4
    assert entries["raster"].data["adapter"]["init_args"]["scan"] == "raster"
    assert entries["theirs"].net == entries["megabyte"].net


def test_a_shipped_config_is_extended_by_changes():
    image = read_experiment(ROOT / "benchmarks" / "experiments" / "kodak64.yaml")[0]
    assert image.data["adapter"]["init_args"] == {
        "mode": "RGB",
        "fit": "crop",
        "scan": "patch",
        "patch": 4,
        "size": [64, 64],
    }
    assert image.optimizer.lr == 2e-3


def test_another_class_does_not_inherit_arguments(experiment):
    raw = {"adapter": {"class_path": "data_adapters.FileAdapter"}}
    audio = {"adapter": {"class_path": "data_adapters.AudioAdapter", "init_args": {"rate": 8000}}}
    [first, second] = read_experiment(experiment({"a": {}, "b": {"data": raw}}, data=audio))
    assert first.data["adapter"] == audio["adapter"]
    assert second.data["adapter"] == raw["adapter"]


def test_a_net_may_stand_below_init_args(experiment):
    net = {"class_path": "megabyte_mm.MegabyteConfig", "init_args": {"patch_size": 8}}
    [entry] = read_experiment(experiment({"a": {"net": net}}))
    assert isinstance(entry.net, MegabyteConfig)
    assert (entry.net.patch_size, entry.net.init_std) == (8, 0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nett": {}}, "model a: unknown nett"),
        ({"net": {"dims": 3}}, "model a, net: unknown dims"),
        ({"net": {"local_stack": {"dims": 3}}}, "model a, net: local_stack.dims is no field"),
        ({"net": {"patch_size": 5}}, "model a, net: global_stack.dim 16"),
        ({"net": {"class_path": "Lunch"}}, "model a: unknown class_path 'Lunch'"),
        ({"optimizer": {"rate": 1}}, "model a, optimizer: unknown rate"),
        ({"optimizer": {"lr": "1e-3"}}, "model a, optimizer: lr is the text '1e-3'; YAML wants 1.0e-3"),
        ({"optimizer": {"lr": -1.0}}, "model a, optimizer: lr is -1.0"),
        ({"net": {"patch_size": 1}, "methods": ["strided"]}, "model a: strided needs"),
        ({"data": {"path": "x"}}, "model a, data: unknown path"),
        ({"peer": "lunch"}, "model a: unknown peer 'lunch'"),
        ({"methods": ["lunch"]}, "model a: unknown methods lunch"),
        ({"net": {"max_len": 12}}, "model a: max_len is 12, but the data have 16"),
        (
            {"data": {"adapter": {"class_path": "data_adapters.TextAdapter", "init_args": {"x": 1}}}},
            "model a: data.adapter: .*argument",
        ),
    ],
)
def test_a_mistake_in_an_experiment_is_told_in_a_line(settings, message, experiment, texts, tmp_path, capsys):
    words = [str(experiment({"a": settings})), "--data", texts, "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    with pytest.raises(ValueError, match=message):
        raise ValueError(told)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: {a: {}, a: {}}", "a is set twice"),
        ("models: {a: {}", "expected"),
        ("models: {}", "names no models"),
        ("- a", "holds no settings"),
        ("{defaults: {extends: configs/text.yaml}, models: {a: {}}}", "defaults: unknown extends"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused(text, message, tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_experiment(path)
