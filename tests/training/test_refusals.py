"""Settings and checkpoints that cannot work are refused before a file is read, in one line with both values."""

import os
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from data_adapters import AudioAdapter, ImageAdapter, TextAdapter
from megabyte_mm.checkpoint.dcp import write_meta, write_tensors
from megabyte_mm.cli.main import main


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def refused(fit, capsys, monkeypatch):
    """The line that a run is refused with; fails where files were encoded, or more than that line was said."""

    def no_work(*_):
        raise AssertionError("files were encoded")

    monkeypatch.setattr("megabyte_mm.data.sources.load_or_encode", no_work)

    def run(*arguments, command="fit"):
        assert fit(*map(str, arguments), command=command) == 2
        [line] = capsys.readouterr().err.splitlines()
        return line.removeprefix(f"megabyte-mm {command}: error: ")

    return run


@pytest.mark.parametrize(
    "key",
    [
        "trainer.max_stps",
        "data.windw",
        "data.adapter",
        "model.nett",
        "model.net.patchsize",
        "model.net.global_stack.dims",
        "model.optimizer.learning_rate",
        "samples.cuont",
        "sample",
    ],
)
def test_a_misspelled_key_of_a_config_is_named_at_every_level(refused, tmp_path, key):
    value: object = {"class_path": "data_adapters.TextAdaptor"} if key == "data.adapter" else 3
    for part in reversed(key.split(".")):
        value = {part: value}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(value))
    assert (key if key != "data.adapter" else "TextAdaptor").split(".")[-1] in refused("--config", "more.yaml")


def test_a_misspelled_flag_is_named(refused):
    assert "--trainer.max_stps" in refused("--trainer.max_stps", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model.net.patch_size", 3), "global_stack.dim 16 is not a multiple of patch_size 3"),
        (("--model.net.global_stack.heads", 3), "dim 16 is not a multiple of heads 3"),
        (
            ("--model.net.max_len", 64),
            "model.net.max_len is 64, but the data have 32: leave it out, or make them agree",
        ),
        (
            ("--data.adapter", "data_adapters.AudioAdapter", "--model.net.patch_size", 1),
            "model.net.patch_size 1 cuts through the data's 2-byte frames",
        ),
        (
            ("--data.adapter", "data_adapters.ImageAdapter", "--data.adapter.size", "[8, 8]"),
            "data.window 32: files of the image adapter are streams of 192 bytes",
        ),
        (
            ("--data.adapter", "data_adapters.ImageAdapter", "--data.window", 48),
            "model.net.patch_size is 4, but the data have 48: leave it out, or make them agree",
        ),
        (
            ("--data.adapter", "data_adapters.AudioAdapter", "--data.window", 31),
            "data.window 31 must be a positive multiple of 2 bytes",
        ),
        (("--model.method", "strided", "--model.net.patch_size", 1), "model.method strided: "),
    ],
)
def test_sizes_that_do_not_fit_are_reported_with_both_values_before_any_work(refused, arguments, message):
    assert message in refused(*arguments)


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
@pytest.mark.parametrize("adapter", [ImageAdapter("L", (8, 4)), AudioAdapter(rate=8000, channels=1)])
def test_a_checkpoint_of_another_modality_is_refused_before_any_work(refused, save_checkpoint, command, adapter):
    path = save_checkpoint(adapter, window=32)
    line = refused("--ckpt_path", path, command=command)
    message = f"data.adapter.name is 'text', but {adapter.name!r} in the checkpoint"
    assert line.startswith(f"{path}: does not fit the settings of this run: {message}; model.net.")


def test_a_checkpoint_of_other_settings_is_refused_with_both_values(refused, save_checkpoint):
    path = save_checkpoint(AudioAdapter(encoding="mulaw"), window=32)
    arguments = ("--data.adapter", "data_adapters.AudioAdapter", "--data.window", 64, "--ckpt_path", path)
    message = (
        "data.adapter.encoding is 'pcm16', but 'mulaw' in the checkpoint; data.window is 64, but 32 in the checkpoint"
    )
    assert refused(*arguments).startswith(f"{path}: does not fit the settings of this run: {message}")


def test_a_folder_of_shards_is_compared_before_any_work_too(refused, save_checkpoint):
    found = torch.load(save_checkpoint(TextAdapter(), window=64), weights_only=True)
    write_tensors(found, Path("shards.ckpt"))
    write_meta(found, Path("shards.ckpt"))
    message = "shards.ckpt: does not fit the settings of this run: data.window is 32, but 64 in the checkpoint"
    assert refused("--ckpt_path", "shards.ckpt").startswith(message)
    write_meta({}, Path("shards.ckpt"))
    assert refused("--ckpt_path", "shards.ckpt") == "shards.ckpt: not a checkpoint of megabyte-mm"


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_a_checkpoint_that_holds_code_is_refused_and_none_of_it_runs(refused, tmp_path, command):
    torch.save({"megabyte_mm": Trap(tmp_path / "sprung"), "state_dict": {}}, tmp_path / "trap.ckpt")
    assert refused("--ckpt_path", "trap.ckpt", command=command) == "trap.ckpt: not a checkpoint, or a damaged one"
    assert not (tmp_path / "sprung").exists()


def test_nobody_may_ask_for_code_to_run(refused, tmp_path):
    torch.save({"megabyte_mm": Trap(tmp_path / "sprung")}, tmp_path / "trap.ckpt")
    line = refused("--ckpt_path", "trap.ckpt", "--weights_only", "false")
    assert line.startswith("weights_only false would run whatever code a checkpoint holds")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"state_dict": {"model.x": torch.zeros(1)}, "pytorch-lightning_version": "2.6.6"}, "not a checkpoint of"),
        ({"x": torch.zeros(1)}, "not a checkpoint of megabyte-mm"),
        ({"megabyte_mm": {"data": 3}}, "a damaged checkpoint: its data or model are missing"),
    ],
    ids=["foreign", "state_dict", "damaged"],
)
def test_what_is_no_checkpoint_of_this_program_is_refused_by_name(refused, content, reason):
    torch.save(content, "odd.ckpt")
    assert refused("--ckpt_path", "odd.ckpt").startswith(f"odd.ckpt: {reason}")
    Path("cut.ckpt").write_bytes(Path("odd.ckpt").read_bytes()[:-100])
    assert refused("--ckpt_path", "cut.ckpt") == "cut.ckpt: not a checkpoint, or a damaged one"


def test_prefixes_of_another_modality_and_pictures_beyond_the_window_are_refused(save_checkpoint, tmp_path, capsys):
    Image.new("L", (16, 16)).save("large.png")
    for adapter, name, message in (
        (TextAdapter(), "text.ckpt", "large.png: is of modality image; this model reads text"),
        (ImageAdapter("L", patch=2), "image.ckpt", "large: 256 bytes exceed the model's window of 64"),
    ):
        path = save_checkpoint(adapter, window=64, name=name)
        assert main(["generate", str(path), "--out", "out", "--prefix", "large.png", "--device", "cpu"]) == 2
        assert message in capsys.readouterr().err
