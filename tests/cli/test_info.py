"""`info` on configs, packaged and own, and on checkpoints; and one line for each mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from data_adapters import ImageAdapter
from megabyte_mm import load_model
from megabyte_mm.cli.config import read_config
from megabyte_mm.cli.export import export
from megabyte_mm.cli.main import main
from megabyte_mm.models import PerceiverARConfig, TransformerConfig


def run_info(capsys, *arguments: str) -> str:
    assert main(["info", *arguments]) == 0
    out: str = capsys.readouterr().out
    return out


def write(path: Path, **sections: object) -> str:
    path.write_text(yaml.safe_dump(sections), encoding="utf-8")
    return str(path)


def test_a_packaged_config_is_found_by_its_name(capsys):
    out = run_info(capsys, "image")
    assert out.startswith("megabyte, window of 3,072 bytes: 64 patches of 48\n\npart ")
    assert "memory of a training step on 4 windows" in out  # data.batch_size of the config
    assert "attention: 49.3 scores per byte and layer, of a Transformer 3,072: 62.3 times as many" in out
    assert "generation: 2.06 layers one after the other per byte" in out


def test_a_model_of_billions_is_laid_out_in_a_moment(capsys):
    out = run_info(capsys, "paper/image64_megabyte_best", "--batch_size", "1")
    [total] = [line for line in out.splitlines() if line.startswith("total ")]
    assert total.split()[1:3] == ["2.82B", "100.0%"]


def test_less_memory_for_activations_is_reported_as_less(tmp_path, capsys):
    held = []
    for memory in (None, 0.001):
        config = write(
            tmp_path / "c.yaml", data={"window": 4096}, model={"net": {"patch_size": 8}, "activation_memory": memory}
        )
        run_info(capsys, config, "--json", str(tmp_path / "costs.json"))
        held.append(json.loads((tmp_path / "costs.json").read_text())["activation_bytes"]["32-true"])
    assert held[1] < held[0] / 4


def test_an_activation_memory_that_is_none_is_refused(tmp_path, capsys):
    assert main(["info", write(tmp_path / "c.yaml", data={"window": 64}, model={"activation_memory": 0})]) == 2
    assert "c.yaml: model.activation_memory is 0.0; it must be above 0" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["transformer", "perceiver_ar"])
def test_the_other_architectures_are_reported_too(name, capsys):
    out = run_info(capsys, f"paper/audio_{name}")
    assert out.startswith(f"{name}, window of ")
    assert "patches of T^(1/3)" in out


def test_the_figures_go_to_a_file(tmp_path, capsys):
    file = tmp_path / "costs.json"
    out = run_info(capsys, "text", "--batch_size", "3", "--json", str(file))
    found = json.loads(file.read_text(encoding="utf-8"))
    assert (found["model"], found["architecture"], found["window"], found["batch_size"]) == (
        *("text", "megabyte", 1024),
        3,
    )
    assert sum(part["parameters"] for part in found["parts"]) == found["parameters"]
    assert sum(part["flops"] for part in found["parts"]) == pytest.approx(found["flops"])
    assert set(found["activation_bytes"]) == {"32-true", "bf16-mixed"}
    assert "on 3 windows" in out


def test_memory_grows_with_the_batch_and_weights_do_not(tmp_path, capsys):
    found = []
    for batch in ("1", "10"):
        run_info(capsys, "text", "--batch_size", batch, "--json", str(tmp_path / "costs.json"))
        found.append(json.loads((tmp_path / "costs.json").read_text(encoding="utf-8")))
    one, ten = found
    assert ten["state_bytes"] == one["state_bytes"]
    assert ten["activation_bytes"]["32-true"] == pytest.approx(10 * one["activation_bytes"]["32-true"])


def test_a_checkpoint_shows_its_own_window(save_checkpoint, capsys, tmp_path):
    path = save_checkpoint(ImageAdapter("L", (8, 8), patch=2), window=64)
    run_info(capsys, str(path), "--json", str(tmp_path / "costs.json"))
    found = json.loads((tmp_path / "costs.json").read_text(encoding="utf-8"))
    assert (found["window"], found["patch_size"], found["batch_size"]) == (64, 4, 1)
    assert found["parameters"] == sum(p.numel() for p in load_model(path).model.parameters())


# Configs


def test_an_export_shows_what_its_checkpoint_shows_and_a_folder_of_a_configs_name_hides_no_config(
    save_checkpoint, capsys, tmp_path, monkeypatch
):
    checkpoint = str(save_checkpoint(ImageAdapter("L", (8, 8), patch=2), window=64))
    monkeypatch.chdir(tmp_path)
    export(checkpoint, "shared", samples=0)
    capsys.readouterr()
    assert run_info(capsys, "shared") == run_info(capsys, checkpoint)
    before = run_info(capsys, "image")
    Path("image").mkdir()
    assert run_info(capsys, "image") == before


def test_a_config_without_anything_on_the_model_is_the_default(tmp_path):
    path = write(tmp_path / "own.yaml", data={"window": 96, "batch_size": 5}, model={"net": {"patch_size": 8}})
    config = read_config(path)
    net = config.build_empty().config
    assert (net.max_len, net.name, config.data.batch_size) == (96, "megabyte", 5)


def test_an_adapter_without_arguments_and_without_a_window_is_read_as_fit_does(tmp_path):
    path = write(tmp_path / "own.yaml", data={"adapter": "data_adapters.TextAdapter"}, model={"net": {"patch_size": 8}})
    config = read_config(path)
    assert (config.build_empty().config.max_len, config.data.batch_size) == (2048, 16)


@pytest.mark.parametrize("prefix", ["", "megabyte_mm.models."])
@pytest.mark.parametrize("kind", [TransformerConfig, PerceiverARConfig])
def test_other_architectures_are_chosen_by_their_class(prefix, kind, tmp_path):
    net = {"class_path": prefix + kind.__name__, "init_args": {"stack": {"dim": 32, "layers": 1, "heads": 2}}}
    path = write(tmp_path / "own.yaml", data={"adapter": {"class_path": "TextAdapter"}}, model={"net": net})
    resolved = read_config(path).build_empty().config
    assert isinstance(resolved, kind)
    assert resolved.max_len == 2048


IMAGE = {"class_path": "data_adapters.ImageAdapter", "init_args": {"size": [8, 8], "patch": 2}}


def net(settings: object) -> dict[str, object]:
    return {"data": {"window": 64}, "model": {"net": settings}}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"net": {"patch_size": 8}}}, "data.window is missing, and there is no data.adapter that fixes it"),
        ({"data": {"window": 64}}, "model.net.patch_size is missing: this modality leaves the patch size to you"),
        ({"data": {"window": "2 kB"}}, "data.window 2 kB: expected int"),
        ({"data": 3}, "data is 3; it must hold settings"),
        ({"dta": {}}, "dta is not a section of a config; known: trainer, model, data, samples"),
        ({"data": {"windw": 64}}, "data.windw: no such option"),
        ({"trainer": {"step": 3}}, "trainer.step: no such option"),
        (net({"colour": 1}), "model.net: Option 'colour' is not accepted"),
        (net({"local_stack": 64}), "model.net.local_stack 64: expected the settings of StackConfig"),
        (net({"block": None}), "model.net.block is null"),
        (net({"block": {"bias": 1}}), "model.net.block.bias 1: expected bool"),
        (net({"block": {"norm": "no"}}), "model.net.block.norm no: expected Literal['layer', 'rms']"),
        (net({"conditions": True}), "model.net.conditions True: expected int"),
        (net({"patch_size": 0}), "patch_size is 0; it must be at least 1"),
        (net({"class_path": "TransformerConfig", "init_args": {"stack": None}}), "model.net: the following arguments"),
        (net({"class_path": "json.JSONDecoder"}), "model.net: Import path json.JSONDecoder does not correspond to"),
        (net({"class_path": "nope.Config"}), "model.net: No module named 'nope'"),
        (net(5), "model.net 5: expected the settings of ModelConfig"),
        (net("ModelConfig"), "model.net: Expected an instantiatable class, but ModelConfig is abstract"),
        ({"data": {"window": 64, "batch_size": 0}}, "data.batch_size 0 must be at least 1"),
        ({"data": {"window": 64, "batch_size": None}}, "data.batch_size is null"),
        ({"data": {"adapter": IMAGE}, "model": {"net": {"patch_size": 8}}}, "model.net.patch_size is 8, but the data"),
        ({"data": {"adapter": IMAGE, "window": 64}}, "data.window 64: files of the image adapter"),
        ({"data": {"adapter": "nope.Own"}}, "data.adapter: No module named 'nope'"),
        (
            {"data": {"adapter": {"class_path": "TextAdapter", "init_args": {"colour": 1}}}},
            "data.adapter: Option 'colour' is not accepted",
        ),
        ({"data": {"adapter": {"init_args": {}}}}, "data.adapter {'init_args': {}}: expected the settings of Adapter"),
    ],
)
def test_a_config_that_does_not_say_enough_is_a_mistake_of_one_line(sections, message, tmp_path, capsys):
    path = write(tmp_path / "own.yaml", **sections)
    assert main(["info", path]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"megabyte-mm info: error: {path}: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonesuch"], "nonesuch: no such file, and no packaged config of that name; there are audio, image"),
        (["x.ckpt"], "x.ckpt: no such file or directory"),
        (["torn.ckpt"], "torn.ckpt: not a checkpoint, or a damaged one"),
        (["torn.yaml"], "torn.yaml: not a config file"),
        (["list.yaml"], "list.yaml: not a config file"),
        (["image", "--batch_size", "0"], "--batch_size is 0; it must be at least 1"),
        (["image", "--json", "nowhere/costs.json"], "nowhere/costs.json: cannot be written"),
    ],
)
def test_a_mistake_is_reported_in_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("torn.ckpt").write_text("no model")
    Path("torn.yaml").write_text("data: {")
    Path("list.yaml").write_text("- data")
    assert main(["info", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"megabyte-mm info: error: {message}")
    assert err.count("\n") == 1
