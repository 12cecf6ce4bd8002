"""Labels and splits that tables, lists and .cls files give to the files beside them."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from data_adapters import AudioAdapter, FileAdapter, ImageAdapter, TextAdapter
from megabyte_mm.data.archives import unpacked
from megabyte_mm.data.files import find_files
from megabyte_mm.data.splits import classes_of, split_rows
from megabyte_mm.errors import FieldError


def test_lists_of_names_are_the_splits_as_in_speech_commands(tree):
    sounds = {f"{word}/{i}.wav": 1 for word in ("no", "yes") for i in range(4)}
    lists = {"validation_list.txt": b"no/1.wav\nyes/2.wav\n", "testing_list.txt": b"no/3.wav\r\n\r\n"}
    root = tree({**sounds, **lists})
    files = find_files(str(root), AudioAdapter())
    assert files.names[:2] == ("test/no/3.wav", "train/no/0.wav")
    assert [files.names[row] for row in split_rows(files.names, 0.05)["val"]] == ["val/no/1.wav", "val/yes/2.wav"]
    assert set(classes_of(files.names)) == {"no", "yes"}
    assert files.path("val/yes/2.wav") == root / "yes/2.wav"
    assert (files.unused, dict(files.unread)) == (0, {})
    assert find_files(str(root)).names == files.names  # lists are no texts among the sounds


def test_files_of_no_list_are_left_out_where_one_names_what_trains(tree):
    pictures = {f"{i}.png": 1 for i in range(5)}
    root = tree({**pictures, "train.txt": b"0.png\n1.png\n", "val.txt": b"./2.png\n"})
    files = find_files(str(root), ImageAdapter())
    assert (files.names, files.unused) == (("train/0.png", "train/1.png", "val/2.png"), 2)


def test_texts_called_as_splits_are_no_lists(tree):
    root = tree({"train.txt": b"It was night.\n", "val.txt": b"It was day.\n"})
    assert find_files(str(root)).names == ("train.txt", "val.txt")


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"val_list.txt": b"0.png\n9.png\n"}, "path has a line 2 of val_list.txt that names 9.png, which is not there"),
        ({"val_list.txt": b"0.png\n", "test_list.txt": b"0.png\n"}, "path has 0.png in the lists of test and of val"),
    ],
)
def test_lists_that_contradict_the_folder_are_refused(tree, lists, message):
    with pytest.raises(FieldError, match=message):
        find_files(str(tree({"0.png": 1, "1.png": 1, **lists})), ImageAdapter())


def test_labels_of_a_table_are_classes_below_the_split(tree):
    tables = {
        "train/metadata.csv": b"file_name,label\nimages/0.png,cat\nimages/1.png,a dog/1\n",
        "val/metadata.jsonl": b'{"file_name": "images/2.png", "label": "cat"}\n',
    }
    root = tree({"train/images/0.png": 1, "train/images/1.png": 1, "val/images/2.png": 1, **tables})
    files = find_files(str(root), ImageAdapter())
    assert files.names == ("train/a dog_1/images/1.png", "train/cat/images/0.png", "val/cat/images/2.png")
    assert classes_of(files.names) == ["a dog_1", "cat", "cat"]
    assert files.path("val/cat/images/2.png") == root / "val/images/2.png"


def test_labels_and_lists_go_together(tree):
    table = b"file_name,label\n0.png,cat\n1.png,dog\n2.png,dog\n"
    root = tree({f"{i}.png": 1 for i in range(3)} | {"metadata.csv": table, "validation_list.txt": b"2.png\n"})
    assert find_files(str(root), ImageAdapter()).names == ("train/cat/0.png", "train/dog/1.png", "val/dog/2.png")


def test_a_table_without_labels_changes_nothing(tree):
    root = tree({"0.png": 1, "1.png": 1, "metadata.csv": b"file_name,text\n0.png,a cat\n"})
    assert find_files(str(root), ImageAdapter()).names == ("0.png", "1.png")
    # The file adapter reads every file, but not what only describes others.
    assert find_files(str(tree({"metadata.csv": b"file_name,label\n0.png,1\n1.png,2\n"})), FileAdapter()).names == (
        "1/0.png",
        "2/1.png",
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"file_name,label\n0.png,cat\n", "path has no label of 1.png in metadata.csv"),
        (
            b"file_name,label\n0.png,cat\n1.png,\n",
            "path has a row 2 of metadata.csv that lacks its file_name or its label",
        ),
    ],
)
def test_files_without_a_label_are_refused(tree, table, message):
    with pytest.raises(FieldError, match=message):
        find_files(str(tree({"0.png": 1, "1.png": 1, "metadata.csv": table})), ImageAdapter())


def test_the_classes_of_a_webdataset_are_its_cls_files(tmp_path):
    with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
        for name, content in {"a.png": b"1", "a.cls": b"7", "b.seg.png": b"2", "b.cls": b"cat\n"}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    folder = unpacked(str(tmp_path / "train-0.tar"), tmp_path / "cache")
    assert find_files(folder, ImageAdapter()).names == ("7/a.png", "cat/b.seg.png")


def test_a_text_beside_a_table_of_labels_is_read(tree):
    root = tree({"a.txt": b"a", "b.txt": b"b", "metadata.csv": b"file_name,label\na.txt,x\nb.txt,y\n"})
    assert find_files(str(root), TextAdapter()).names == ("x/a.txt", "y/b.txt")


def test_lists_that_leave_nothing_to_train_on_are_refused(tree):
    root = tree({"0.png": 1, "1.png": 1, "val.txt": b"0.png\n1.png\n"})
    with pytest.raises(FieldError, match="name every file as one to validate or test on: none is left to train on"):
        find_files(str(root), ImageAdapter())


@pytest.mark.parametrize("name", ["metadata.csv", "val.txt", "0.cls", "0.jsonl"])
def test_pipes_in_the_place_of_descriptions_are_not_waited_for(tree, name):
    root = tree({} if name == "0.jsonl" else {"0.txt": 1, "1.txt": 1})
    root.mkdir(exist_ok=True)
    os.mkfifo(root / name)
    with pytest.raises(FieldError, match=f"{name}: is a pipe, not a file"):
        find_files(str(root), TextAdapter())


@pytest.mark.parametrize("rows", [b'{"file_name": "0.png", "label": 1}\n[1]\n', b"[" * 100_000])
def test_tables_of_anything_but_rows_are_refused(tree, rows):
    with pytest.raises(FieldError, match="metadata.jsonl"):
        find_files(str(tree({"0.png": 1, "metadata.jsonl": rows})), ImageAdapter())
