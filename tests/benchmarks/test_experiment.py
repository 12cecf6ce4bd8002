"""An experiment's file names the models to compare, and every mistake in it is reported."""

from dataclasses import replace

import pytest

from benchmarks.compare.__main__ import main
from benchmarks.compare.experiment import ROOT, read_experiment
from data_adapters import FileAdapter
from megabyte_mm.models import MegabyteConfig, TransformerConfig


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
        "transform": "subtract_green",
        "patch": 4,
        "size": [64, 64],
    }
    assert (image.optimizer.warmup_steps, image.optimizer.muon) == (30, True)


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


def test_arguments_below_init_args_change_only_what_they_say(experiment):
    [entry] = read_experiment(experiment({"a": {"net": {"init_args": {"local_stack": {"layers": 3}}}}}))
    assert isinstance(entry.net, MegabyteConfig)
    assert entry.net.local_stack is not None
    assert (entry.net.local_stack.layers, entry.net.local_stack.dim) == (3, 16)


@pytest.mark.parametrize("name", ["TransformerConfig", "megabyte_mm.models.TransformerConfig"])
def test_an_architecture_may_be_named_without_arguments_as_in_fit(name, experiment):
    [entry] = read_experiment(experiment({"a": {"net": name}}))
    assert entry.net == TransformerConfig()


@pytest.mark.parametrize("name", ["FileAdapter", "data_adapters.FileAdapter"])
def test_an_adapter_may_be_named_without_arguments_as_in_fit(name, experiment, texts):
    [entry] = read_experiment(experiment({"a": {"data": {"adapter": name}}}))
    assert isinstance(entry.open_data(texts, 0, None).adapter, FileAdapter)


def test_what_is_changed_in_a_class_named_without_arguments_is_of_that_class(experiment):
    models = {"a": {"net": {"stack": {"dim": 32, "layers": 1, "heads": 2}}}}
    [entry] = read_experiment(experiment(models, defaults={"net": "TransformerConfig"}))
    assert isinstance(entry.net, TransformerConfig)
    assert entry.net.stack.dim == 32


def test_a_config_class_of_the_users_own_is_found_by_its_import_path(experiment, tmp_path, monkeypatch):
    code = "from megabyte_mm.models import TransformerConfig\nclass OwnConfig(TransformerConfig): ..."
    (tmp_path / "own_models.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    [entry] = read_experiment(experiment({"a": {"net": "own_models.OwnConfig"}}))
    assert type(entry.net).__name__ == "OwnConfig"


def test_empty_sections_change_nothing(experiment, texts):
    adapter = {"class_path": "data_adapters.TextAdapter", "init_args": None}
    empty = {"net": None, "optimizer": None, "data": None, "peer": None, "methods": None}
    models = {"a": {}, "b": {"data": {"adapter": adapter}}, "c": empty, "d": None}
    first, *others = [replace(entry, name="") for entry in read_experiment(experiment(models))]
    assert others == [first] * 3
    assert first.open_data(texts, 0, None).geometry.window == 16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nett": {}}, "model a: unknown nett"),
        ({3: {}}, "model a: unknown 3"),
        (3, "model a is 3; it must hold settings"),
        ({"net": {"dims": 3}}, "model a, net: dims is not a field"),
        ({"net": {"local_stack": {"dims": 3}}}, "model a, net: local_stack.dims is not a field"),
        ({"net": {"patch_size": 5}}, "model a, net: global_stack.dim 16"),
        ({"net": {"max_len": 12}}, "model a: max_len is 12, but the data have 16"),
        ({"net": "lunch.Config"}, "model a, net: 'lunch.Config' names no model's config"),
        ({"net": "ModelConfig"}, "model a, net: 'ModelConfig' names no model's config"),
        ({"net": {"class_path": "TransformerConfig", "init_args": 3}}, "model a: net: init_args is 3; it"),
        ({"optimizer": 1e-3}, "model a: optimizer is 0.001; it must hold settings"),
        ({"optimizer": {"rate": 1}}, "model a, optimizer: rate is not a field"),
        ({"optimizer": {"lr": "1e-3"}}, "model a, optimizer: lr is '1e-3'; .* YAML wants 1.0e-3"),
        ({"net": {"patch_size": 1}, "methods": ["strided"]}, "model a: strided needs"),
        ({"methods": ["plain", 3]}, "model a: unknown methods 3"),
        ({"methods": "sliding"}, r"model a: methods is 'sliding'; it must be a list such as \[plain"),
        ({"peer": ["mblm"]}, "model a: unknown peer"),
        ({"net": "TransformerConfig", "peer": "mblm"}, "model a: a peer takes its sizes from a MegabyteConfig"),
        ({"extends": ["configs/text.yaml"]}, r"model a: extends is \['configs/text.yaml'\]; it must be a config file"),
        ({"extends": "configs/lunch.yaml"}, "model a: extends is configs/lunch.yaml, but there is no file "),
        ({"batch_size": 0}, "model a: batch_size is 0; it must be a whole number of at least 1"),
        ({"batch_size": True}, "model a: batch_size is True; it"),
        ({"data": [1]}, r"model a: data is \[1\]; it must hold settings"),
        ({"data": {"path": "x"}}, "model a, data: unknown path"),
        ({"data": {"window": "64"}}, "model a, data: window is '64'; it must be a whole number"),
        ({"data": {"val_batch_size": 0}}, "model a: data.val_batch_size 0 must be at least 1"),
        ({"data": {"adapter": "Lunch"}}, "model a: data.adapter: cannot import 'data_adapters.Lunch'"),
        ({"data": {"adapter": {"class_path": 3}}}, "model a: data.adapter: class_path is 3; it"),
        ({"data": {"adapter": {"class_path": "TextAdapter", "init_args": {"x": 1}}}}, "data.adapter: .*argument"),
        (
            {"data": {"adapter": {"class_path": "AudioAdapter", "init_args": {"rate": "8000"}}}},
            "model a: data.adapter: rate must be a whole number, not '8000'",
        ),
    ],
)
def test_a_mistake_in_an_experiment_is_reported_in_one_line(settings, message, experiment, texts, tmp_path, capsys):
    words = [str(experiment({"a": settings})), "--data", texts, "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(words) == 2
    message_line = capsys.readouterr().err
    assert message_line.count("\n") == 1
    with pytest.raises(ValueError, match=message):
        raise ValueError(message_line)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: {a: {}, a: {}}", "a is set twice"),
        ("models: {a: {}", "expected"),
        ("models: {}", "names no models"),
        ("- a", "holds no settings"),
        ("{defaults: {extends: configs/text.yaml}, models: {a: {}}}", "defaults: unknown extends"),
        ("models: [a, b]", r"experiment.yaml: models is \['a', 'b'\]; it must hold settings, each with a name"),
        ("{models: {a: {}}, defaults: [1]}", r"experiment.yaml: defaults is \[1\]; it must hold settings"),
        ("{models: {a: {}}, defaults: {net: 3}}", "experiment.yaml, defaults: net is 3; it must hold settings"),
        ("{models: {a: {}}, extends: b.yaml}", "experiment.yaml: extends is b.yaml, but there is no file"),
        ("{models: {a: {}}, 3: 4}", "experiment.yaml: unknown 3"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused(text, message, tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_experiment(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no file .*lunch.yaml$"):
        read_experiment(tmp_path / "lunch.yaml")
