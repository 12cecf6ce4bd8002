"""Checkpoints that are folders, whole, damaged and hostile; written here by one process alone."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_adapters import TextAdapter
from fuzz import contracts
from megabyte_mm import load_model
from megabyte_mm.checkpoint.dcp import (
    META_FILE,
    TENSOR_INDEX,
    is_sharded_checkpoint,
    read_into,
    read_sharded_checkpoint,
    write_meta,
    write_tensors,
)


def write_sharded(checkpoint: dict[str, Any], folder: Path) -> None:
    write_tensors(checkpoint, folder)
    write_meta(checkpoint, folder)


def moments(*values: float) -> dict[str, Any]:
    return {"step": torch.tensor(3.0), "exp_avg": torch.tensor(values)}


@pytest.fixture
def checkpoint() -> dict[str, Any]:
    """Two weights of different kinds, and an optimizer that has them in another order than the model."""
    groups = [{"lr": 0.5, "params": ["model.b"]}, {"lr": 0.1, "params": ["model.a"]}]
    return {
        "state_dict": {"model.a": torch.arange(6.0).view(2, 3), "model.b": torch.ones(4, dtype=torch.bfloat16)},
        "optimizer_states": [{"state": {"model.a": moments(1, 2), "model.b": moments(3)}, "param_groups": groups}],
        "epoch": 7,
    }


@pytest.fixture
def folder(checkpoint, tmp_path):
    """What `write_sharded` makes of it."""
    write_sharded(checkpoint, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A small folder that no test changes."""
    folder = tmp_path_factory.mktemp("shards") / "b.ckpt"
    groups = [{"lr": 0.1, "params": ["model.a"]}]
    optimizer = {"state": {"model.a": moments(1)}, "param_groups": groups}
    write_sharded({"state_dict": {"model.a": torch.ones(2)}, "optimizer_states": [optimizer]}, folder)
    return folder


@pytest.fixture
def model_folder(save_checkpoint, tmp_path):
    """A model as a folder."""
    file = torch.load(save_checkpoint(TextAdapter(), window=16), weights_only=True)
    write_sharded(file, tmp_path / "model.ckpt")
    return tmp_path / "model.ckpt"


def test_a_folder_gives_back_what_a_file_would_hold(checkpoint, folder):
    found = read_sharded_checkpoint(folder)
    assert found["epoch"] == 7
    for name, weight in checkpoint["state_dict"].items():
        assert torch.equal(found["state_dict"][name], weight)
        assert found["state_dict"][name].dtype == weight.dtype
    (optimizer,) = found["optimizer_states"]
    assert [group["params"] for group in optimizer["param_groups"]] == [[0], [1]]
    assert [optimizer["state"][number]["exp_avg"].tolist() for number in (0, 1)] == [[3.0], [1.0, 2.0]]


def test_weights_are_read_without_moments(folder):
    found = read_sharded_checkpoint(folder, moments=False)
    assert set(found["state_dict"]) == {"model.a", "model.b"}
    assert "state" not in found["optimizer_states"][0]


def test_a_tensor_that_is_not_there_or_of_another_shape_is_refused_by_name(folder):
    for name, shape in {"state_dict.model.c": 4, "state_dict.model.b": 5}.items():
        with pytest.raises(ValueError, match=rf"a\.ckpt: .*{name}"):
            read_into({name: torch.zeros(shape)}, folder)


def test_a_folder_does_not_say_where_it_was_written(folder):
    assert str(folder.parent).encode() not in (folder / TENSOR_INDEX).read_bytes() + (folder / META_FILE).read_bytes()


class Opener:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("opened",)


def put_code_into_the_table(folder: Path) -> None:
    table = pickle.loads((folder / TENSOR_INDEX).read_bytes())
    table.planner_data = Opener()
    (folder / TENSOR_INDEX).write_bytes(pickle.dumps(table))


def put_code_into_the_rest(folder: Path) -> None:
    torch.save({"epoch": Opener()}, folder / META_FILE)


def put_code_in_place_of_a_weight(folder: Path) -> None:
    table = pickle.loads((folder / TENSOR_INDEX).read_bytes())
    place = next(iter(table.storage_data.values()))
    content = bytearray((folder / place.relative_path).read_bytes())
    torch.save(Opener(), folder / "code")
    code = (folder / "code").read_bytes()
    content[place.offset : place.offset + place.length] = code
    place.length = len(code)
    (folder / place.relative_path).write_bytes(content)
    (folder / TENSOR_INDEX).write_bytes(pickle.dumps(table))


def let_a_weight_be_no_tensor(folder: Path) -> None:
    from torch.distributed.checkpoint.metadata import BytesStorageMetadata

    table = pickle.loads((folder / TENSOR_INDEX).read_bytes())
    table.state_dict_metadata = dict.fromkeys(table.state_dict_metadata, BytesStorageMetadata())
    (folder / TENSOR_INDEX).write_bytes(pickle.dumps(table))


def let_a_weight_lie_outside(folder: Path) -> None:
    table = pickle.loads((folder / TENSOR_INDEX).read_bytes())
    next(iter(table.storage_data.values())).relative_path = "../other.distcp"
    (folder / TENSOR_INDEX).write_bytes(pickle.dumps(table))


def make_a_weight_huge(folder: Path) -> None:
    table = pickle.loads((folder / TENSOR_INDEX).read_bytes())
    next(iter(table.state_dict_metadata.values())).size = torch.Size([2**40])
    (folder / TENSOR_INDEX).write_bytes(pickle.dumps(table))


def ask_for_a_long_memo(folder: Path) -> None:
    """2^27 places, in 9 bytes."""
    (folder / TENSOR_INDEX).write_bytes(b"\x80\x02Nr\0\0\0\x08.")


def ask_for_a_long_bytearray(folder: Path) -> None:
    (folder / TENSOR_INDEX).write_bytes(b"\x80\x05\x96" + (2**31).to_bytes(8, "little") + b".")


def ask_for_a_bytearray_in_the_rest(folder: Path) -> None:
    torch.save({"megabyte_mm": Filled()}, folder / META_FILE)


class Filled:
    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (2**31,)


def remove_a_shard(folder: Path) -> None:
    next(folder.glob("*.distcp")).unlink()


def cut_a_shard_short(folder: Path) -> None:
    shard = next(folder.glob("*.distcp"))
    shard.write_bytes(shard.read_bytes()[:100])


def remove_the_table(folder: Path) -> None:
    (folder / TENSOR_INDEX).unlink()


def remove_the_rest(folder: Path) -> None:
    (folder / META_FILE).unlink()


HARM = (
    put_code_into_the_table,
    put_code_into_the_rest,
    put_code_in_place_of_a_weight,
    let_a_weight_be_no_tensor,
    let_a_weight_lie_outside,
    make_a_weight_huge,
    ask_for_a_long_memo,
    ask_for_a_long_bytearray,
    ask_for_a_bytearray_in_the_rest,
    remove_a_shard,
    cut_a_shard_short,
    remove_the_table,
    remove_the_rest,
)


@contextmanager
def little_memory() -> Iterator[None]:
    """Let a request for 512 MiB fail, where the system can."""
    if not sys.platform.startswith("linux"):
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**29, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_or_hostile_folder_is_refused_by_name_and_runs_no_code(model_folder, harm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_model(model_folder).window == 16
    harm(model_folder)
    with little_memory(), pytest.raises(ValueError, match=r"model\.ckpt: ") as caught:
        load_model(model_folder)
    contracts.check_refusal(caught.value, model_folder)
    assert not Path("opened").exists()


@settings(max_examples=30)
@given(st.data())
def test_flipped_bytes_of_a_table_or_its_rest_are_read_or_refused_in_one_line(shards, data):
    name = data.draw(st.sampled_from([TENSOR_INDEX, META_FILE]))
    content = bytearray((shards / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with TemporaryDirectory() as folder:
        damaged = Path(shutil.copytree(shards, folder, dirs_exist_ok=True))
        (damaged / name).write_bytes(content)
        with suppress(ValueError):
            read_sharded_checkpoint(damaged)


def test_another_folder_is_no_checkpoint(tmp_path):
    assert not is_sharded_checkpoint(tmp_path)
    assert not is_sharded_checkpoint(tmp_path / "nowhere")
