"""Exported folders: what a checkpoint says, bit for bit, and folders that only look like them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_adapters import AudioAdapter, ImageAdapter, TextAdapter, spec
from fuzz import contracts, seeds
from fuzz.mutators import mutate_exported
from megabyte_mm import load_model
from megabyte_mm.checkpoint import SPEC_KEY, Bundle, make_spec
from megabyte_mm.checkpoint.exported import CONFIG_FILE, DIGEST, WEIGHTS_FILE, read_exported, write_exported
from megabyte_mm.export.folder import export_config
from megabyte_mm.models import PerceiverARConfig, StackConfig, TransformerConfig
from tests.checkpoint.test_load import NoteAdapter, Trap


def exported(bundle: Bundle, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    write_exported(folder, export_config(bundle), bundle.model.state_dict())
    return folder


def save_other(path: Path, config: Any, data: dict[str, Any]) -> Path:
    """A checkpoint of any architecture and data."""
    model = config.build()
    weights = {f"model.{name}": weight for name, weight in model.state_dict().items()}
    torch.save({SPEC_KEY: make_spec(model, data), "state_dict": weights}, path)
    return path


STACK = StackConfig(dim=8, layers=1, heads=1)
PLAIN = {"adapter": spec(TextAdapter()), "fixed_length": False, "window": 16, "conditions": ["none"]}
MIX: dict[str, Any] = {
    "sources": {
        "pictures": {"adapter": spec(ImageAdapter("L", (4, 4), patch=2)), "fixed_length": True},
        "sounds": {"adapter": spec(AudioAdapter(rate=8000, channels=1)), "fixed_length": False},
    },
    "window": 16,
    "conditions": ["none", "pictures", "sounds"],
}


@pytest.fixture(params=["megabyte", "transformer", "perceiver_ar", "mix"])
def checkpoint(request, save_checkpoint, tmp_path) -> Path:
    if request.param == "megabyte":
        found: Path = save_checkpoint(ImageAdapter("L", (8, 8), patch=2), window=64, classes=["cat", "dog"])
        return found
    config, data = {
        "transformer": (TransformerConfig(max_len=16, conditions=1, stack=STACK), PLAIN),
        "perceiver_ar": (PerceiverARConfig(max_len=16, latents=4, conditions=1, stack=STACK), PLAIN),
        "mix": (TransformerConfig(max_len=16, conditions=3, stack=STACK), MIX),
    }[request.param]
    return save_other(tmp_path / "other.ckpt", config, data)


def test_an_export_is_the_checkpoint_bit_for_bit(checkpoint, tmp_path):
    ours = load_model(checkpoint)
    theirs = load_model(exported(ours, tmp_path / "exported"))
    before, after = ours.model.state_dict(), theirs.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    ids, condition = torch.arange(16)[None], torch.tensor([len(ours.conditions) - 1])
    assert torch.equal(ours.model(ids, condition), theirs.model(ids, condition))
    assert ours.spec() == theirs.spec()
    assert (ours.conditions, ours.window, ours.config) == (theirs.conditions, theirs.window, theirs.config)
    for name, its in ours.modalities.items():
        assert type(theirs.modalities[name].adapter) is type(its.adapter)
        assert theirs.modalities[name].adapter.settings() == its.adapter.settings()


def test_the_spec_of_a_bundle_is_that_of_its_checkpoint(checkpoint):
    assert load_model(checkpoint).spec() == torch.load(checkpoint, weights_only=True)[SPEC_KEY]


def test_an_adapter_of_the_users_own_comes_by_its_class(save_checkpoint, tmp_path):
    path = save_checkpoint(NoteAdapter("blue"), window=16)
    folder = exported(load_model(path, adapter=NoteAdapter), tmp_path / "exported")
    adapter = load_model(folder, adapter=NoteAdapter).adapter
    assert isinstance(adapter, NoteAdapter)
    assert adapter.ink == "blue"
    with pytest.raises(ValueError, match=r"config\.json: trained with the custom adapter 'note'"):
        load_model(folder)


def test_tied_weights_are_written_under_every_name(tmp_path):
    one = torch.arange(12.0).reshape(3, 4)
    weights = {"a": one, "b": one, "c": one.T, "d": one[1:]}
    write_exported(tmp_path, {"format": 2, "model": {}, "data": {}}, weights)
    _, found = read_exported(tmp_path)
    assert all(torch.equal(found[name], weight) for name, weight in weights.items())


@pytest.mark.skipif(os.name != "posix", reason="Windows has no permissions of this kind")
def test_whoever_may_read_the_config_may_read_the_weights(tmp_path):
    write_exported(tmp_path, {"format": 2, "model": {}, "data": {}}, {"a": torch.zeros(1)})
    assert (tmp_path / WEIGHTS_FILE).stat().st_mode == (tmp_path / CONFIG_FILE).stat().st_mode


# Damaged and hostile folders


@pytest.fixture
def folder(save_checkpoint, tmp_path) -> Path:
    return exported(load_model(save_checkpoint(TextAdapter(), window=16)), tmp_path / "exported")


def change(folder: Path, **entries: Any) -> None:
    """Let the config say something else; None takes an entry out."""
    config = json.loads((folder / CONFIG_FILE).read_text()) | entries
    (folder / CONFIG_FILE).write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def cut(folder: Path) -> None:
    change(folder, **{DIGEST: None})
    (folder / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:-5])


def flip(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS_FILE).read_bytes())
    content[-5] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(content)


def reshape(folder: Path) -> None:
    config, weights = read_exported(folder)
    write_exported(folder, config, weights | {"x": torch.zeros(3)})


def pickled(folder: Path) -> None:
    change(folder, **{DIGEST: None})
    torch.save({"a": Trap(folder / "sprung")}, folder / WEIGHTS_FILE)


def writes(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


HARM: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda folder: (folder / WEIGHTS_FILE).unlink(), "there is no file model.safetensors"),
    "no config": (lambda folder: (folder / CONFIG_FILE).unlink(), "there is no file config.json"),
    "weights cut short": (cut, "/model.safetensors: not a safetensors file, or a damaged one"),
    "a bit flipped": (flip, "/model.safetensors: damaged, or not the weights that config.json was written with"),
    "a weight more": (reshape, "/config.json: its weights are not those of the model that it describes"),
    "a pickle": (pickled, "/model.safetensors: not a safetensors file"),
    "no JSON": (writes(CONFIG_FILE, b"{"), "/config.json: not a JSON file, or a damaged one"),
    "no text": (writes(CONFIG_FILE, b"\xff\xfe"), "/config.json: not a JSON file, or a damaged one"),
    "deep": (writes(CONFIG_FILE, b"[" * 10**6), "/config.json: not a JSON file, or a damaged one"),
    "a list": (writes(CONFIG_FILE, b"[]"), "/config.json: not the config of a megabyte-mm model"),
    "another's": (
        writes(CONFIG_FILE, b'{"model_type": "bert"}'),
        "/config.json: not the config of a megabyte-mm model",
    ),
    "newer": (lambda folder: change(folder, format=99), "/config.json: written by a newer megabyte-mm (format 99)"),
    "no model": (lambda folder: change(folder, model=3), "/config.json: a damaged checkpoint"),
    "huge": (lambda folder: os.truncate(folder / CONFIG_FILE, 2**25), "/config.json: too large"),
}


@pytest.mark.parametrize("harm", HARM)
def test_what_is_no_export_is_refused_by_the_name_of_its_file(folder, harm):
    damage, reason = HARM[harm]
    damage(folder)
    with pytest.raises(ValueError, match=r"exported") as refused:
        load_model(folder)
    assert str(refused.value).startswith(str(folder))
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (folder / "sprung").exists()


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzzed") / "exported"


TINY = seeds.packed_export()


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), at=st.integers(0, 4000), piece=st.binary(max_size=8))
def test_a_changed_export_is_loaded_properly_or_refused_by_name(fuzzed, seed, at, piece):
    def change(content: bytes) -> bytes:
        place = at % (len(content) + 1)
        return content[:place] + piece + content[place + len(piece) :]

    seeds.unpack_export(mutate_exported(TINY, seed, change), fuzzed)
    contracts.check_checkpoint(fuzzed)


def test_the_seed_of_the_fuzzer_is_a_good_export(fuzzed):
    seeds.unpack_export(TINY, fuzzed)
    assert contracts.check_checkpoint(fuzzed)
    assert load_model(fuzzed).provenance.steps == 3
