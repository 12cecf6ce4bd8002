"""`prepare` from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_adapters import TextAdapter
from megabyte_mm.cli.main import main
from megabyte_mm.data.files import find_files
from megabyte_mm.data.storage.shards import ShardReader


@pytest.fixture
def photos(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(4):
        path = tmp_path / "photos" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def test_a_config_says_how_files_are_read(photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["prepare", str(photos), "--config", "image", "--out", f"{out}/", "--workers", "1"]) == 0
    message = f"{out}: 4 files as 12.3 kB in 1 shard; 4 resized and cropped from ... to ...\n"
    assert capsys.readouterr().out == message
    reader = ShardReader(out)
    assert reader.metadata["adapter"]["settings"]["size"] == [32, 32]
    assert reader.lengths.tolist() == [32 * 32 * 3] * 4


def test_without_one_the_files_decide_or_an_adapter_is_named(photos, tmp_path):
    assert main(["prepare", str(photos), "--out", str(tmp_path / "own"), "--workers", "1"]) == 0
    assert ShardReader(tmp_path / "own").lengths.tolist() == [40 * 50 * 3] * 4
    named = ["--adapter", "data_adapters.FileAdapter", "--workers", "1"]
    assert main(["prepare", str(photos), "--out", str(tmp_path / "raw"), *named]) == 0
    assert bytes(ShardReader(tmp_path / "raw").read(0)) == (photos / "0.png").read_bytes()


def test_what_cannot_be_read_is_named_and_all_else_is_there(photos, tmp_path, capsys):
    (photos / "5.png").write_bytes(b"no picture")
    command = ["prepare", str(photos), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(command) == 2
    first, message = capsys.readouterr().err.splitlines()
    assert first.startswith("5.png: is not an image in a supported format")
    assert "1 of 5 files cannot be read and are left out, such as 5.png: is not an image" in message
    assert len(ShardReader(tmp_path / "out")) == 4
    assert main([*command, "--allow_skipped"]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_each_source_of_a_mix_gets_a_folder(photos, tmp_path, capsys):
    (photos / "a.txt").write_text("text " * 9)
    config = tmp_path / "mix.yaml"
    source = {"adapter": {"class_path": "data_adapters.ImageAdapter", "init_args": {"size": [4, 4]}}}
    text = {"adapter": "data_adapters.TextAdapter"}
    config.write_text(json.dumps({"data": {"sources": {"image": source, "text": text}}}))
    assert (
        main(["prepare", str(photos), "--config", str(config), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    )
    assert ShardReader(tmp_path / "out/image").names == ("0.png", "1.png", "2.png", "3.png")
    assert ShardReader(tmp_path / "out/text").names == ("a.txt",)
    assert len(capsys.readouterr().out.splitlines()) == 2
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy/notes.md").write_text("mine")
    assert main(["prepare", str(photos), "--config", str(config), "--out", str(tmp_path / "busy")]) == 2
    assert "busy: is not empty (it holds notes.md)" in capsys.readouterr().err
    for path in (tmp_path / "out", tmp_path):  # a mix is no folder of files, and what lies around it holds no text
        with pytest.raises(ValueError, match="out/(image|text): holds prepared data, not files"):
            find_files(str(path), TextAdapter())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone", "--out", "out"], "error: gone: no such file or folder"),
        (["memory://gone", "--out", "out"], "memory://gone: no data there, neither prepared (no index.json) nor files"),
        ([".", "--out", "out", "--config", "image", "--adapter", "x.Y"], "--adapter and --config both choose"),
        ([".", "--out", "out", "--config", "no-such"], "no-such"),
        ([".", "--out", "out"], "--out out: lies in ., whose files are read: choose a folder beside it"),
        ([".", "--out", "out", "--workers", "0"], "--workers is 0; it must be at least 1"),
    ],
)
def test_mistakes_are_reported_and_nothing_is_made(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


def test_files_that_nobody_reads_are_counted_by_suffix(tmp_path, capsys):
    root = tmp_path / "texts"
    root.mkdir()
    for name in ("a.txt", "b.txt", "c.heic"):
        (root / name).write_text("abc")
    assert main(["prepare", str(root), "--out", str(tmp_path / "out"), "--adapter", "data_adapters.TextAdapter"]) == 0
    assert capsys.readouterr().err == f"not read of {root}: 1 .heic\n"
