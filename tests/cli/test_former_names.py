"""Configs and options of former versions are read under the present names."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import yaml

from data_adapters import ImageAdapter
from megabyte_mm.cli.config import ConfigParser, add_settings, read_config
from megabyte_mm.cli.former_names import CLASS_PATHS, with_present_names, with_present_options
from megabyte_mm.models import PerceiverARConfig

LOGGER = "megabyte_mm.training.loggers.DurableCSVLogger"
BAR = "megabyte_mm.training.console.StepProgressBar"


def test_every_present_class_path_can_be_imported():
    for path in CLASS_PATHS.values():
        module, _, name = path.rpartition(".")
        assert isinstance(getattr(import_module(module), name), type), path


@pytest.mark.parametrize(
    ("text", "present"),
    [
        ("model: {net: {byte_scale: 5}}", 'model: {net: {"embedding_scale": 5}}'),
        (
            "model:\n  net:\n    init_args:\n      byte_scale: 5 # old",
            'model:\n  net:\n    init_args:\n      "embedding_scale": 5 # old',
        ),
        (
            "model: {net: megabyte_mm.models.transformer.TransformerConfig}",
            'model: {net: "megabyte_mm.models.TransformerConfig"}',
        ),
        ("data: {path: byte_scale, sources: {byte_scale: {}}}", "data: {path: byte_scale, sources: {byte_scale: {}}}"),
        ("model: &a {net: {again: *a, byte_scale: 3}}", 'model: &a {net: {again: *a, "embedding_scale": 3}}'),
        ("model: {net: {byte_scale", "model: {net: {byte_scale"),
        ("byte_scale: 5", '"embedding_scale": 5'),
        ("init_args: {byte_scale: 5}", 'init_args: {"embedding_scale": 5}'),
        ("net: {init_args: {byte_scale: 5}}", 'net: {init_args: {"embedding_scale": 5}}'),
        ("byte_scale: {path: files}", "byte_scale: {path: files}"),  # a source of that name
        (
            "logger: {class_path: CSVLog}\ncallbacks: [RunBar]",
            f'logger: {{class_path: "{LOGGER}"}}\ncallbacks: ["{BAR}"]',
        ),
        ("data: {path: CSVLog}", "data: {path: CSVLog}"),
    ],
)
def test_names_are_replaced_where_a_config_uses_them(text, present):
    assert with_present_names(text) == present


def test_options_are_replaced_and_their_values_too():
    old = "megabyte_mm.models.perceiver_ar.PerceiverARConfig"
    typed = ["--model.net", old, "--model.net.byte_scale", "5", "--model.net.init_args.byte_scale=5"]
    typed += ['--model={"net": {"byte_scale": 4}}', "--data.path", "byte_scale", "--samples", "{byte_scale: 1}"]
    assert with_present_options(typed) == [
        *("--model.net", "megabyte_mm.models.PerceiverARConfig"),
        *("--model.net.embedding_scale", "5", "--model.net.init_args.embedding_scale=5"),
        *('--model={"net": {"embedding_scale": 4}}', "--data.path", "byte_scale", "--samples", "{byte_scale: 1}"),
    ]


def test_class_names_without_a_module_are_replaced_in_options():
    typed = ["--trainer.logger", "CSVLog", "--trainer.callbacks+=CountEpochs", "--trainer.callbacks", "[RunBar]"]
    assert with_present_options([*typed, "--data.path", "CSVLog"]) == [
        *("--trainer.logger", LOGGER),
        "--trainer.callbacks+=megabyte_mm.data.module.FixEpochRestart",
        *("--trainer.callbacks", f'["{BAR}"]', "--data.path", "CSVLog"),
    ]


@pytest.mark.parametrize(
    ("option", "part"),
    [
        ("model.net", {"byte_scale": 5.0}),
        ("model.net", {"class_path": "MegabyteConfig", "init_args": {"byte_scale": 5.0}}),
        ("model", {"net": {"class_path": "MegabyteConfig", "init_args": {"byte_scale": 5.0}}}),
        ("config", {"model": {"net": "part.yaml"}}),
    ],
)
def test_files_of_parts_of_a_config_are_read_with_former_names(tmp_path, monkeypatch, option, part):
    monkeypatch.chdir(tmp_path)
    Path("part.yaml").write_text("byte_scale: 5.0")
    Path("given.yaml").write_text(yaml.safe_dump(part))
    parser = ConfigParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    add_settings(parser)
    settings = parser.parse_args([f"--{option}", "given.yaml"])
    assert settings.model.net.init_args.embedding_scale == 5.0


def test_a_config_is_read_where_classes_of_its_trainer_are_missing(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("{trainer: {callbacks: [{class_path: my_callbacks.Mine}]}, data: {batch_size: 3}}")
    assert read_config(str(path)).data.batch_size == 3
    path.write_text("{trainers: {}}")
    with pytest.raises(ValueError, match="trainers is not a section of a config"):
        read_config(str(path))


def test_a_config_with_former_class_paths_and_fields_is_read(tmp_path):
    net = {
        "class_path": "megabyte_mm.models.perceiver_ar.PerceiverARConfig",
        "init_args": {"stack": {"dim": 8, "layers": 1, "heads": 2}, "byte_scale": 3.0},
    }
    image = {"class_path": "data_adapters.image.ImageAdapter", "init_args": {"size": [4, 4], "patch": 2}}
    path = tmp_path / "former.yaml"
    path.write_text(yaml.safe_dump({"model": {"net": net}, "data": {"adapter": image}}))
    config = read_config(str(path))
    assert isinstance(config.model.net, PerceiverARConfig)
    assert config.model.net.embedding_scale == 3.0
    adapter = config.data.settings.sources[""].adapter
    assert isinstance(adapter, ImageAdapter)
    assert adapter.length == 48
