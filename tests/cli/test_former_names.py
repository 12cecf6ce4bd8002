"""Configs and options of former versions are read under the present names."""

from __future__ import annotations

from importlib import import_module

import pytest
import yaml

from data_adapters import ImageAdapter
from megabyte_mm.cli.config import read_config
from megabyte_mm.cli.former_names import CLASS_PATHS, with_present_names, with_present_options
from megabyte_mm.models import PerceiverARConfig


def test_every_present_class_path_can_be_imported():
    for path in CLASS_PATHS.values():
        module, _, name = path.rpartition(".")
        assert isinstance(getattr(import_module(module), name), type), path


@pytest.mark.parametrize(
    ("text", "present"),
    [
        ("model: {net: {byte_scale: 5}}", 'model: {net: {"embedding_scale": 5}}'),
        ("model:\n  net:\n    init_args:\n      byte_scale: 5 # old", None),
        ("model: {net: megabyte_mm.models.transformer.TransformerConfig}", None),
        ("data: {path: byte_scale, sources: {byte_scale: {}}}", "data: {path: byte_scale, sources: {byte_scale: {}}}"),
        ("model: &a {net: {again: *a, byte_scale: 3}}", 'model: &a {net: {again: *a, "embedding_scale": 3}}'),
        ("model: {net: {", "model: {net: {"),
    ],
)
def test_names_are_replaced_where_a_config_uses_them(text, present):
    replaced = with_present_names(text)
    assert replaced == (present or replaced)
    assert present == text or replaced != text
    assert replaced.count("\n") == text.count("\n")


def test_options_are_replaced_and_their_values_too():
    old = "megabyte_mm.models.perceiver_ar.PerceiverARConfig"
    typed = ["--model.net", old, "--model.net.byte_scale", "5", "--model.net.init_args.byte_scale=5"]
    typed += ['--model={"net": {"byte_scale": 4}}', "--data.path", "byte_scale", "--samples", "{byte_scale: 1}"]
    assert with_present_options(typed) == [
        *("--model.net", "megabyte_mm.models.PerceiverARConfig"),
        *("--model.net.embedding_scale", "5", "--model.net.init_args.embedding_scale=5"),
        *('--model={"net": {"embedding_scale": 4}}', "--data.path", "byte_scale", "--samples", "{byte_scale: 1}"),
    ]


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
    adapter = config.data.source_settings[""].adapter
    assert isinstance(adapter, ImageAdapter)
    assert adapter.length == 48
