"""Checkpoints that a training run wrote, and files that only look like them."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_adapters import ByteStream, Format, ImageAdapter, TextAdapter
from megabyte_mm import generate, load_model
from megabyte_mm.checkpoint import SPEC_KEY


class NoteAdapter(TextAdapter):
    name = "note"
    suffixes = (".note",)

    def __init__(self, ink: str = "black") -> None:
        self.ink = ink

    def settings(self) -> dict[str, Any]:
        return {"ink": self.ink}


def change(path: Path, **entries: Any) -> None:
    """Put other values into a checkpoint's own entry; None takes one out."""
    checkpoint = torch.load(path, weights_only=True)
    spec = checkpoint[SPEC_KEY] | entries
    checkpoint[SPEC_KEY] = {key: value for key, value in spec.items() if value is not None}
    torch.save(checkpoint, path)


def test_a_checkpoint_gives_back_the_model_and_all_that_files_need(save_checkpoint):
    path = save_checkpoint(ImageAdapter("L", (8, 8), patch=2), window=64, classes=["cat", "dog"])
    bundle = load_model(path)
    assert isinstance(bundle.adapter, ImageAdapter)
    assert bundle.adapter.settings() == ImageAdapter("L", (8, 8), patch=2).settings()
    assert (bundle.conditions, bundle.window, bundle.fixed_length) == (("none", "cat", "dog"), 64, True)
    assert (bundle.config.max_len, bundle.config.patch_size, bundle.config.conditions) == (64, 4, 3)
    assert not bundle.model.training
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert {f"model.{name}": weight.tolist() for name, weight in bundle.model.state_dict().items()} == {
        name: weight.tolist() for name, weight in saved.items()
    }


def test_other_weights_of_a_training_run_are_left_alone(save_checkpoint):
    path = save_checkpoint(TextAdapter(), window=16)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["val_bpb.nats"] = torch.zeros(())
    checkpoint["optimizer_states"] = [{"state": {}}]
    torch.save(checkpoint, path)
    assert load_model(path).window == 16


def test_a_loaded_model_draws(save_checkpoint):
    bundle = load_model(str(save_checkpoint(TextAdapter(), window=16)))
    assert generate(bundle.model, torch.zeros(2, 3, dtype=torch.int64), 5).shape == (2, 8)


def test_a_checkpoint_stays_usable_when_its_file_is_replaced(save_checkpoint):
    path = save_checkpoint(TextAdapter(), window=16)
    bundle = load_model(path)
    before = [weight.clone() for weight in bundle.model.parameters()]
    path.write_bytes(bytes(path.stat().st_size))
    assert all(torch.equal(a, b) for a, b in zip(before, bundle.model.parameters(), strict=True))


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("document.xml", "<w/>")


class Trap:
    """Would make a file if it were ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: path.write_bytes(b""), "not a checkpoint, or a damaged one"),
        (lambda path: path.write_bytes(b"\x89PNG" + bytes(500)), "not a checkpoint, or a damaged one"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "not a checkpoint, or a damaged one"),
        (write_zip, "not a checkpoint, or a damaged one"),
        (lambda path: torch.save({"state_dict": {}, "epoch": 3}, path), "not a checkpoint of megabyte-mm"),
        (lambda path: torch.save([1, 2], path), "not a checkpoint of megabyte-mm"),
        (lambda path: torch.save({SPEC_KEY: 3, "state_dict": {}}, path), "a damaged checkpoint"),
        (lambda path: torch.save({SPEC_KEY: {"format": 1}, "state_dict": {}}, path), "a damaged checkpoint"),
        (lambda path: torch.save({SPEC_KEY: {"format": 1}}, path), "a damaged checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_refused_by_name(tmp_path, write, reason):
    path = tmp_path / "odd.ckpt"
    write(path)
    with pytest.raises(ValueError, match=rf"odd\.ckpt: {reason}"):
        load_model(path)


def test_a_checkpoint_cut_short_is_refused(save_checkpoint):
    path = save_checkpoint(TextAdapter(), window=16)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="a damaged one"):
        load_model(path)


def test_a_checkpoint_runs_no_code(tmp_path):
    torch.save({SPEC_KEY: Trap(tmp_path / "sprung"), "state_dict": {}}, tmp_path / "trap.ckpt")
    with pytest.raises(ValueError, match=r"trap\.ckpt: not a checkpoint"):
        load_model(tmp_path / "trap.ckpt")
    assert not (tmp_path / "sprung").exists()


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        load_model(tmp_path / "gone.ckpt")
    with pytest.raises(IsADirectoryError):
        load_model(tmp_path)


def test_a_missing_best_checkpoint_points_to_the_last(save_checkpoint, tmp_path):
    save_checkpoint(TextAdapter(), window=16, name="last.ckpt")
    with pytest.raises(FileNotFoundError, match=r"there is .*last\.ckpt: best\.ckpt comes with the first validation"):
        load_model(tmp_path / "best.ckpt")


def test_a_newer_format_asks_for_an_upgrade(save_checkpoint):
    path = save_checkpoint(TextAdapter(), window=16)
    change(path, format=2)
    with pytest.raises(ValueError, match=r"tiny\.ckpt: written by a newer megabyte-mm \(format 2\); upgrade"):
        load_model(path)


def test_an_unknown_model_and_foreign_weights_are_refused(save_checkpoint):
    path = save_checkpoint(TextAdapter(), window=16)
    spec = torch.load(path, weights_only=True)[SPEC_KEY]
    change(path, model=spec["model"] | {"config": spec["model"]["config"] | {"max_len": 32}})
    with pytest.raises(ValueError, match=r"tiny\.ckpt: its weights are not those of the model"):
        load_model(path)
    change(path, model={"name": "gpt", "config": {}})
    with pytest.raises(ValueError, match=r"tiny\.ckpt: unknown model 'gpt'; known: megabyte"):
        load_model(path)


def test_an_adapter_of_the_users_own_comes_by_its_class(save_checkpoint):
    path = save_checkpoint(NoteAdapter("blue"), window=16)
    bundle = load_model(path, adapter=NoteAdapter)
    assert isinstance(bundle.adapter, NoteAdapter)
    assert bundle.adapter.ink == "blue"
    with pytest.raises(ValueError, match=r"tiny\.ckpt: trained with an adapter of your own, 'note'.*--adapter"):
        load_model(path)
    with pytest.raises(ValueError, match="trained with the adapter 'note', not with 'text'"):
        load_model(path, adapter=TextAdapter)


def test_an_adapter_that_has_changed_its_settings_is_refused(save_checkpoint):
    class Changed(NoteAdapter):
        def __init__(self, colour: str = "black") -> None:
            super().__init__(colour)

    with pytest.raises(ValueError, match=r"the adapter 'note' cannot be built with \{'ink': 'blue'\}"):
        load_model(save_checkpoint(NoteAdapter("blue"), window=16), adapter=Changed)


def test_neither_loading_nor_generating_needs_lightning(save_checkpoint, tmp_path):
    path = save_checkpoint(TextAdapter(), window=16)
    code = f"""
import sys
for name in ("lightning", "lightning.pytorch", "pytorch_lightning", "tensorboard"):
    sys.modules[name] = None
from megabyte_mm.cli import main
sys.exit(main(["generate", {str(path)!r}, "--out", {str(tmp_path / "out")!r}, "--num_samples=1", "--length=3"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["sample-000.txt"]


def test_the_format_of_a_prefix_is_the_adapters_own(save_checkpoint, tmp_path):
    """A bundle's adapter writes what it reads: nothing of the model stands between."""
    adapter = load_model(save_checkpoint(ImageAdapter("L", (8, 8), patch=2), window=64)).adapter
    form: Format = adapter.default_format()
    adapter.write(ByteStream(np.arange(64, dtype=np.uint8), form), tmp_path / "a.png")
    assert adapter.read(tmp_path / "a.png").data.tolist() == list(range(64))
