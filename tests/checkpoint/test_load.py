"""Checkpoints that a training run wrote, and files that only look like them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_adapters import ImageAdapter, TextAdapter
from fuzz import contracts, seeds
from fuzz.mutators import mutate_checkpoint
from megabyte_mm import load_model
from megabyte_mm.checkpoint import SPEC_KEY


class NoteAdapter(TextAdapter):
    name = "note"
    suffixes = (".note",)

    def __init__(self, ink: str = "black") -> None:
        self.ink = ink

    def settings(self) -> dict[str, Any]:
        return {"ink": self.ink}


def change(path: Path, **entries: Any) -> None:
    """Change values of a checkpoint's own entry; None removes one."""
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


def test_a_missing_file_and_a_folder_raise_their_own_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        load_model(tmp_path / "gone.ckpt")
    with pytest.raises(IsADirectoryError):
        load_model(tmp_path)


def test_a_missing_best_checkpoint_points_to_the_last(save_checkpoint, tmp_path):
    save_checkpoint(TextAdapter(), window=16, name="last.ckpt")
    with pytest.raises(FileNotFoundError, match=r"there is .*last\.ckpt: best\.ckpt comes with the first validation"):
        load_model(tmp_path / "best.ckpt")


def test_a_format_of_a_newer_version_or_of_none_is_refused(save_checkpoint):
    path = save_checkpoint(TextAdapter(), window=16)
    change(path, format=99)
    with pytest.raises(ValueError, match=r"tiny\.ckpt: written by a newer megabyte-mm \(format 99\); upgrade"):
        load_model(path)
    formats: list[Any] = [0, -1, True, 1.0, float("nan"), "1", []]
    for written in formats:
        change(path, format=written)
        with pytest.raises(ValueError, match=r"tiny\.ckpt: a damaged checkpoint: its format is"):
            load_model(path)


def test_an_unknown_model_and_foreign_weights_are_refused(save_checkpoint):
    path = save_checkpoint(TextAdapter(), window=16)
    spec = torch.load(path, weights_only=True)[SPEC_KEY]
    change(path, model=spec["model"] | {"config": spec["model"]["config"] | {"patch_size": 2}})
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
    with pytest.raises(ValueError, match=r"tiny\.ckpt: trained with the custom adapter 'note'.*--adapter"):
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
    arguments = [
        "generate",
        str(path),
        "--out",
        str(tmp_path / "out"),
        "--num_samples=1",
        "--length=3",
        "--backend=eager",
    ]
    code = f"""
import sys
for name in ("lightning", "lightning.pytorch", "pytorch_lightning", "tensorboard"):
    sys.modules[name] = None
from megabyte_mm.cli.main import main
sys.exit(main({arguments!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["sample-000.txt"]


# Hostile checkpoints


def spec_of(path: Path) -> dict[str, Any]:
    return dict(torch.load(path, weights_only=True)[SPEC_KEY])


def repack(path: Path, kind: int, **members: bytes) -> None:
    """Write the archive again, with other contents of the members of these names."""
    with zipfile.ZipFile(path) as archive:
        contents = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in contents.items():
            archive.writestr(name, members.get(name.split("/")[-1].replace(".", "_"), content))


def change_model(path, changes):
    """Change fields of the model's config."""
    model = spec_of(path)["model"]
    change(path, model=model | {"config": model["config"] | changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"global_stack": {"dim": 10**9, "layers": 1, "heads": 1}},
        {"global_stack": {"dim": 4 * 10**18, "layers": 1, "heads": 1}},
        {"global_stack": {"dim": 4 * 10**30, "layers": 1, "heads": 1}},
        {"local_stack": {"dim": 8, "layers": 10**9, "heads": 1}},
        {"local_stack": {"dim": 8, "layers": 1, "heads": 1, "feedforward": 10**12}},
        {"patch_size": 2},
        {"conv_encoder": True},
    ],
)
def test_a_model_of_another_size_than_its_weights_is_refused_before_it_is_built(save_checkpoint, changes):
    path = save_checkpoint(TextAdapter(), window=16)
    change_model(path, changes)
    with pytest.raises(ValueError, match=r"tiny\.ckpt: its weights are not those of the model that it describes$"):
        load_model(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"global_stack": {"dim": "16", "layers": 1, "heads": 1}}, "global_stack.dim is '16'; it must be a whole"),
        ({"global_stack": {"dim": 16, "layers": 1, "heads": 3}}, "global_stack.dim 16 is not a multiple of heads 3"),
        ({"patch_size": float("nan")}, "patch_size is nan; it must be a whole number"),
        ({"max_len": 10**12}, "its window is 16 and its model's max_len 1000000000000; they must be equal"),
        ({"conditions": 10**9}, r"its conditions \['none'\] are not the 1000000000 names"),
        ({"trap\n": 1}, r"trap\\n is not a field of MegabyteConfig"),
    ],
)
def test_a_field_of_a_model_that_cannot_be_is_named(save_checkpoint, changes, reason):
    path = save_checkpoint(TextAdapter(), window=16)
    change_model(path, changes)
    with pytest.raises(ValueError, match=rf"tiny\.ckpt: {reason}"):
        load_model(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"window": float("nan")}, "its window is nan; it must be a whole number from 1 to"),
        ({"window": True}, "its window is True"),
        ({"window": -1}, "its window is -1"),
        ({"window": 10**12}, "its window is 1000000000000"),
        ({"conditions": "none"}, "its conditions 'none' are not"),
        ({"conditions": []}, r"its conditions \[\] are not"),
        ({"fixed_length": True}, "its window of 16 and fixed_length True are not those of its adapter's streams"),
        ({"fixed_length": None}, "its window of 16 and fixed_length None are not"),
        ({"adapter": {"name": "os.system", "settings": {}}}, "trained with the custom adapter 'os.system'"),
        ({"adapter": {"name": "../text", "settings": {}}}, "trained with the custom adapter '../text'"),
        ({"adapter": {"name": "text", "settings": {"x": 1}}}, "the adapter 'text' cannot be built with {'x': 1}"),
        ({"adapter": {"name": [], "settings": {}}}, "a damaged checkpoint"),
        ({"adapter": "text"}, "a damaged checkpoint"),
        ({"adapter": {"name": "audio", "settings": {"rate": 0.5}}}, "rate must be a whole number, not 0.5"),
        ({"adapter": {"name": "audio", "settings": {"channels": True}}}, "channels must be a whole number, not True"),
        ({"adapter": {"name": "image", "settings": {"patch": float("nan")}}}, "patch must be a whole number, not nan"),
        ({"adapter": {"name": "image", "settings": {"size": [8.0, 8]}}}, "width must be a whole number, not 8.0"),
        (
            {"adapter": {"name": "image", "settings": {"size": [10**9, 10**9]}}},
            "its window of 16 and fixed_length False",
        ),
    ],
)
def test_the_spec_of_the_data_is_checked(save_checkpoint, changes, reason):
    path = save_checkpoint(TextAdapter(), window=16)
    change(path, data=spec_of(path)["data"] | changes)
    with pytest.raises(ValueError, match=rf"tiny\.ckpt: {reason}"):
        load_model(path)


@pytest.mark.parametrize(
    "odd",
    [
        lambda weight: weight.to(torch.int64),
        lambda weight: weight[:1].expand(weight.shape),
        lambda weight: weight.to_sparse(),
        lambda weight: weight.to(torch.complex64),
        lambda weight: torch.empty(weight.shape, device="meta"),
    ],
    ids=["whole numbers", "repeated", "sparse", "complex", "none at all"],
)
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_weights_that_are_no_plain_tensors_are_refused(save_checkpoint, odd):
    path = save_checkpoint(TextAdapter(), window=16)
    checkpoint = torch.load(path, weights_only=True)
    name = next(name for name, weight in checkpoint["state_dict"].items() if weight.ndim == 2 and len(weight) > 1)
    checkpoint["state_dict"][name] = odd(checkpoint["state_dict"][name])
    torch.save(checkpoint, path)
    with pytest.raises(
        ValueError, match=rf"tiny\.ckpt: its weight {name.removeprefix('model.')} is not a plain tensor"
    ):
        load_model(path)


def test_an_archive_that_unpacks_to_more_than_it_holds_is_refused(save_checkpoint):
    path = save_checkpoint(TextAdapter(), window=16)
    repack(path, zipfile.ZIP_STORED)
    assert load_model(path).window == 16
    repack(path, zipfile.ZIP_DEFLATED, data_pkl=bytes(2**20))
    with pytest.raises(ValueError, match=r"tiny\.ckpt: not a checkpoint, or a damaged one"):
        load_model(path)


def test_a_pickle_may_not_ask_for_memory(save_checkpoint):
    path = save_checkpoint(TextAdapter(), window=16)
    repack(path, zipfile.ZIP_STORED, data_pkl=b"\x80\x02c__builtin__\nbytearray\n(J\xff\xff\xff\x7ftR.")
    with pytest.raises(ValueError, match=r"tiny\.ckpt: not a checkpoint, or a damaged one"):
        load_model(path)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no pipes among its files")
def test_a_pipe_is_no_checkpoint_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.ckpt")
    with pytest.raises(ValueError, match=r"pipe\.ckpt: not a checkpoint"):
        load_model(tmp_path / "pipe.ckpt")


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed") / "fuzzed.ckpt"


TINY = seeds.checkpoint()


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), at=st.integers(0, len(TINY)), piece=st.binary(max_size=8))
def test_a_changed_checkpoint_is_loaded_properly_or_refused_by_name(fuzzed, seed, at, piece):
    def change(content: bytes) -> bytes:
        place = at % (len(content) + 1)
        return content[:place] + piece + content[place + len(piece) :]

    fuzzed.write_bytes(mutate_checkpoint(TINY, seed, change))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        contracts.check_checkpoint(fuzzed)


def test_a_flipped_bit_of_a_weight_is_found(save_checkpoint):
    path = save_checkpoint(TextAdapter(), window=16)
    content = bytearray(path.read_bytes())
    weight = load_model(path).model.state_dict()["local_stack.blocks.0.attention.qkv.weight"].numpy().tobytes()
    content[content.index(weight) + 5] ^= 64
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"tiny\.ckpt: not a checkpoint, or a damaged one"):
        load_model(path)


def test_classes_are_known_in_any_spelling_of_their_accents(save_checkpoint, tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    for known in (composed, decomposed):
        path = save_checkpoint(
            ImageAdapter("L", (8, 8), patch=2), window=64, classes=["a", known], name=f"{len(known)}.ckpt"
        )
        bundle = load_model(path)
        assert [bundle.condition_number(name) for name in (composed, decomposed)] == [2, 2]
        assert bundle.condition_from_folder(tmp_path / decomposed / "1.png", tmp_path) == 2
