"""Several paths as one data set."""

from __future__ import annotations

import json

import pytest

from data_adapters import FileAdapter, TextAdapter
from megabyte_mm.cli.config import read_config
from megabyte_mm.cli.main import main
from megabyte_mm.data.collect import collect_files
from megabyte_mm.data.module import ByteData
from megabyte_mm.data.splits import classes_of
from megabyte_mm.data.storage.shards import ShardReader
from megabyte_mm.errors import FieldError


@pytest.fixture
def names(tree, tmp_path):
    """The names of files in several paths of a tree."""

    def read(files, *paths, adapter=None):
        root = tree(files)
        found = collect_files([str(root / path) for path in paths], adapter or FileAdapter(), tmp_path / "cache")
        origin = {name: found.path(name).relative_to(root).as_posix() for name in found.names}
        return found, origin

    return read


def test_folders_of_files_are_classes_called_as_the_folders(names):
    found, origin = names({"cats/1.png": 1, "dogs/1.png": 1, "other/1.png": 1}, "cats", "dogs/")
    assert origin == {"cats/1.png": "cats/1.png", "dogs/1.png": "dogs/1.png"}
    assert classes_of(found.names) == ["cats", "dogs"]


def test_class_folders_of_several_paths_are_one_class(names):
    found, origin = names({"a/cat/1.png": 1, "b/cat/1.png": 1, "b/dog/x/2.png": 1}, "a", "b")
    assert origin == {"cat/a/1.png": "a/cat/1.png", "cat/b/1.png": "b/cat/1.png", "dog/x/b/2.png": "b/dog/x/2.png"}
    assert classes_of(found.names) == ["cat", "cat", "dog"]


def test_splits_of_all_paths_are_one_and_the_rest_trains(names):
    files = {"a/Train/cat/1.png": 1, "a/valid/cat/2.png": 1, "a/3.png": 1, "b/train.txt": 1, "b/dev.txt": 1}
    found, origin = names({**files, "c/cat/1.png": 1}, "a", "b", "c")
    assert origin == {
        "train/cat/a/1.png": "a/Train/cat/1.png",
        "val/cat/a/2.png": "a/valid/cat/2.png",
        "train/b/train.txt": "b/train.txt",
        "val/b/dev.txt": "b/dev.txt",
        "train/cat/c/1.png": "c/cat/1.png",
    }
    assert found.unused == 1


def test_paths_called_as_splits_are_the_splits(names):
    files = {"x/train/1.png": 1, "y/val/1.png": 1, "y/test.png": 1}
    _, origin = names(files, "x/train", "y/val", "y/test.png")
    assert origin == {
        "train/x/1.png": "x/train/1.png",
        "val/y/1.png": "y/val/1.png",
        "test/y/test.png": "y/test.png",
    }


def test_paths_of_one_name_are_numbered_where_their_files_have_one_name(names):
    _, origin = names({"x/photos/1.png": 1, "y/photos/1.png": 1, "z/photos/2.png": 1}, *(f"{i}/photos" for i in "xyz"))
    assert origin == {
        "photos/1.png": "x/photos/1.png",
        "photos-2/1.png": "y/photos/1.png",
        "photos/2.png": "z/photos/2.png",
    }


def test_documents_of_several_tables_are_one_set(tree, tmp_path):
    lines = {"a.jsonl": b'{"text": "one"}\n{"text": "two"}\n', "b.csv": b"text\nthree\n"}
    root = tree(lines)
    paths = [str(root / name) for name in lines]
    found = collect_files(paths, TextAdapter(), tmp_path)
    assert found.texts is not None
    assert [found.texts[name] for name in found.names] == ["one", "two", "three"]
    data = ByteData(paths, TextAdapter(), window=8, batch_size=1, val_share=0.4)
    data.setup()
    assert len(data.train) + len(data.val) == 3
    assert data.path == ", ".join(paths)


@pytest.mark.parametrize(
    ("files", "paths", "adapter", "message"),
    [
        ({"a/1.png": 1, "b/1.wav": 1}, ("a", "b"), None, r"a \(image\) and .*b \(audio\) are of different modalities"),
        ({"a/b/1.txt": 1}, ("a", "a/b"), None, "1.txt lies in two of the paths: give each file once"),
        ({"a/1.txt": 1}, ("a", "a"), None, "a path is given twice"),
        ({"a/1.txt": 1}, ("a", "link"), None, "1.txt lies in two of the paths: give each file once"),
        ({"a/1.txt": 1}, (), None, "is empty"),
        ({"a.jsonl": b'{"text": "x"}', "b.txt": 1}, ("a.jsonl", "b.txt"), None, "some hold documents"),
    ],
)
def test_paths_that_are_no_data_set_are_refused(tree, tmp_path, files, paths, adapter, message):
    root = tree(files)
    (root / "link").symlink_to(root / "a")
    with pytest.raises(FieldError, match=message):
        collect_files([str(root / path) for path in paths], adapter, tmp_path / "cache")


def test_prepared_data_and_records_of_parts_take_one_path(tree, tmp_path):
    root = tree({"a/1.txt": 9, "a/2.txt": 9, "b/1.txt": 9})
    main(["prepare", str(root / "a"), "--out", str(tmp_path / "prepared")])
    with pytest.raises(FieldError, match="holds prepared data, which cannot be joined with others"):
        ByteData([str(tmp_path / "prepared"), str(root / "b")], TextAdapter(), window=8).setup()
    with pytest.raises(FieldError, match="records of several parts lie in one folder: give one path"):
        ByteData([str(root / "a"), str(root / "b")], parts=["text", "image"], window=8).setup()


def test_the_command_line_takes_a_list(tree, tmp_path, capsys):
    root = tree({"a/1.txt": 30, "b/1.txt": 30, "b/2.txt": 30})
    paths = [str(root / "a"), str(root / "b")]
    main(["prepare", *paths, "--out", str(tmp_path / "out")])
    assert "3 files" in capsys.readouterr().out
    assert ShardReader(tmp_path / "out").names == ("a/1.txt", "b/1.txt", "b/2.txt")
    config = tmp_path / "run.yaml"
    main(["fit", "--config", "text", "--data.path", json.dumps(paths), "--print_config"])
    config.write_text(capsys.readouterr().out)
    assert read_config(str(config)).data.paths == paths
