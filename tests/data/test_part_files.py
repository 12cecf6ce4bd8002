"""Records of several parts, as people keep them on disk, and what cannot be read as such."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_adapters import ImageAdapter, TextAdapter
from megabyte_mm.data import ByteData, Source
from megabyte_mm.data.part_files import PartRule, find_parts
from megabyte_mm.errors import FieldError

TEXT = PartRule(TextAdapter())
PICTURE = PartRule(ImageAdapter(size=(2, 2), patch=2))


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".png":
            Image.fromarray(np.full((2, 2, 3), len(name), np.uint8)).save(file)
        else:
            file.write_text(f"about {file.stem}")
    return folder


def found(folder: Path, **rules: PartRule) -> dict[str, dict[str, str]]:
    """The key of each file or text, by part."""
    return {name: dict(files.keys or {}) for name, files in find_parts(str(folder), rules).items()}


def test_files_of_one_name_belong_together(tmp_path):
    touch(tmp_path, "a.png", "a.txt", "b/c.png", "b/c.txt", "README.md")
    assert found(tmp_path, text=TEXT, image=PICTURE) == {
        "text": {"a.txt": "a", "b/c.txt": "b/c"},
        "image": {"a.png": "a", "b/c.png": "b/c"},
    }


def test_suffixes_tell_pictures_apart(tmp_path):
    touch(tmp_path, "1.input.png", "1.OUTPUT.png", "2.input.png")
    rules = {name: PartRule(PICTURE.adapter, suffix=f".{name}.png") for name in ("input", "output")}
    assert found(tmp_path, **rules) == {
        "input": {"1.input.png": "1", "2.input.png": "2"},
        "output": {"1.OUTPUT.png": "1"},
    }


@pytest.mark.parametrize("suffix", [".png", None])
def test_the_longer_suffix_says_whose_a_file_is(tmp_path, suffix):
    touch(tmp_path, "1.png", "1.MASK.png", "2.png")
    rules = {"image": PartRule(PICTURE.adapter, suffix=suffix), "mask": PartRule(PICTURE.adapter, suffix=".mask.png")}
    assert found(tmp_path, **rules) == {"image": {"1.png": "1", "2.png": "2"}, "mask": {"1.MASK.png": "1"}}
    assert list(find_parts(str(tmp_path), rules, ["image"])["image"].names) == ["1.png", "2.png"]
    assert list(find_parts(str(tmp_path), rules, ["mask", "image"])) == ["mask", "image"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_table_holds_texts(tmp_path, kind):
    touch(tmp_path, "train/a.png", "train/b.png", "val/c.png")
    for split, rows in {
        "train": [("a.png", "a cat"), ("b.png", "a, dog"), ("a.png", "zwei")],
        "val": [("c.png", "ü")],
    }.items():
        entries = [{"file_name": name, "caption": text} for name, text in rows]
        lines = [json.dumps(entry) for entry in entries]
        if kind == "csv":
            lines = ["file_name,caption", *(f'{name},"{text}"' for name, text in rows)]
        (tmp_path / split / f"metadata.{kind}").write_text("\n".join(lines), encoding="utf-8")
    parts = find_parts(str(tmp_path), {"text": TEXT, "image": PICTURE})
    assert parts["text"].texts == {"train/a": "a cat", "train/a#2": "zwei", "train/b": "a, dog", "val/c": "ü"}
    assert parts["text"].keys == {"train/a": "train/a", "train/a#2": "train/a", "train/b": "train/b", "val/c": "val/c"}
    data = ByteData(str(tmp_path), parts=["text", "image"], sources=SOURCES, cache_dir=str(tmp_path / "cache"))
    data.setup()
    joined = data.opened.validation_records["text", "image"]
    assert [joined.read(0, 0).tobytes().decode(), len(joined)] == ["ü", 1]
    # Two captions of one picture are two records.
    assert len(data.train_dataloader().dataset) == 3


SOURCES = {"text": Source(patch_size=4), "image": Source(adapter=PICTURE.adapter)}


def test_a_table_pairs_files(tmp_path):
    touch(tmp_path, "x/1.png", "y/9.png", "x/2.png")
    (tmp_path / "metadata.csv").write_text("input_file_name,output_file_name\nx/1.png,y/9.png\nx/2.png,y/8.png\n")
    rules = {name: PartRule(PICTURE.adapter) for name in ("input", "output")}
    assert found(tmp_path, **rules) == {
        "input": {"x/1.png": "x/1", "x/2.png": "x/2"},
        "output": {"y/9.png": "x/1"},
    }


def test_class_folders_are_texts(tmp_path):
    touch(tmp_path, "train/cat/1.png", "train/dog/1.png", "val/cat/2.png")
    for rule in (TEXT, PartRule(TextAdapter(), folder=True)):
        parts = find_parts(str(tmp_path), {"text": rule, "image": PICTURE})
        assert parts["text"].texts == {"train/cat/1": "cat", "train/dog/1": "dog", "val/cat/2": "cat"}


@pytest.mark.parametrize(
    ("names", "table", "rules", "message"),
    [
        (["a.png", "a.jpg", "a.txt"], "", {}, "suffix is missing: a.jpg and a.png would be the same part"),
        (["a.png"], "", {}, "data.sources.text: .* holds nothing for it"),
        (["a.png"], "caption\nx\n", {}, "row 1 of metadata.csv has no file_name"),
        (["a.png"], "file_name,caption\na.png\n", {}, "row 1 of metadata.csv has no file_name, or lacks a value"),
        (
            ["a.png"],
            "file_name,b,c\na.png,1,2\n",
            {},
            "data.sources.text.column is missing: the table has the columns b",
        ),
        (["a.png"], "file_name,b\na.png,1\n", {"text": PartRule(TextAdapter(), column="c")}, "column c: the table has"),
        (["a.png"], "", {"text": PartRule(TextAdapter(), column="c")}, "column c: there is no metadata.csv"),
        (
            ["a.png"],
            "x_file_name,y_file_name\na.png,a.png\n",
            {},
            "image.column is missing: the table names files in x_",
        ),
    ],
)
def test_what_is_ambiguous_or_missing_is_refused(tmp_path, names, table, rules, message):
    touch(tmp_path, *names)
    if table:
        (tmp_path / "metadata.csv").write_text(table)
    with pytest.raises(FieldError, match=message):
        find_parts(str(tmp_path), {"text": TEXT, "image": PICTURE, **rules})


def test_a_table_names_files_of_texts(tmp_path):
    touch(tmp_path, "images/a.png", "texts/one.txt")
    (tmp_path / "metadata.csv").write_text("image_file_name,text_file_name,label\nimages/a.png,texts/one.txt,3\n")
    for rule in (TEXT, PartRule(TextAdapter(), column="text_file_name")):
        parts = find_parts(str(tmp_path), {"text": rule, "image": PICTURE})
        assert parts["text"].texts is None
        assert parts["text"].keys == {"texts/one.txt": "images/a"}


def test_a_file_of_several_rows_is_refused(tmp_path):
    touch(tmp_path, "a.png", "b.png", "x.png")
    (tmp_path / "metadata.csv").write_text("input_file_name,output_file_name\na.png,x.png\nb.png,x.png\n")
    with pytest.raises(FieldError, match="output.column output_file_name: x.png is in the rows of a and of b"):
        find_parts(str(tmp_path), {name: PartRule(PICTURE.adapter) for name in ("input", "output")})


def test_a_list_is_no_text(tmp_path):
    touch(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": ["x"]}')
    with pytest.raises(FieldError, match=r"data.sources.text.column text: \['x'\] of a is no text"):
        find_parts(str(tmp_path), {"text": TEXT, "image": PICTURE})


def test_a_file_is_no_folder_of_records(tmp_path):
    with pytest.raises(FieldError, match=r"data.path .*a.png: records of several parts are read from a folder"):
        find_parts(str(touch(tmp_path, "a.png") / "a.png"), {"text": TEXT})
