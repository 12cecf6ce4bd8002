"""Documents of .jsonl and .csv files."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

from data_adapters import TextAdapter
from megabyte_mm.data.module import ByteData

TEXTS = ["one", "two\nlines, and a comma", 'with "quotes"', "größer", "", *(f"text {i}" for i in range(15))]


def write(path: Path, texts: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "text", "more"])
            rows.writerows([number, text, "x"] for number, text in enumerate(texts))
        return path
    lines = [json.dumps({"id": number, "text": text}, ensure_ascii=False) for number, text in enumerate(texts)]
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return path


def documents(path: Path) -> tuple[set[str], set[str]]:
    data = ByteData(str(path), TextAdapter(), window=32, batch_size=1)
    data.setup("fit")
    return tuple(
        {records.read(i).tobytes().decode() for i in range(len(records))} for records in (data.train, data.val)
    )  # type: ignore[return-value]


@pytest.mark.filterwarnings("ignore:skipped 1 files")
@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_each_line_is_a_document(tmp_path, suffix):
    train, val = documents(write(tmp_path / f"a{suffix}", TEXTS))
    assert train | val == set(TEXTS) - {""}
    assert val
    assert not train & val


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id;text\n1;hello\n", "a.csv: its columns are separated by ';': save it with commas"),
        ("text\n" + "long " * 40_000, None),
    ],
)
def test_tables_with_other_separators_are_refused_and_long_fields_are_not(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_text(content + "\nb\n")
    if message is None:
        limit = csv.field_size_limit()
        assert max(map(len, set.union(*documents(path)))) > limit == 131_072
        assert csv.field_size_limit() == limit
        return
    with pytest.raises(ValueError, match=message):
        documents(path)


def test_only_line_feeds_end_the_lines_of_a_table(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,n\n"one\u2028two\x0b\x85",1\nthree,2\n', encoding="utf-8", newline="")
    assert set.union(*documents(path)) == {"one\u2028two\x0b\x85", "three"}


def test_files_are_splits_and_may_be_packed(tmp_path):
    write(tmp_path / "docs/train.jsonl", ["a", "b"])
    write(tmp_path / "docs/valid.jsonl", ["c"])
    assert documents(tmp_path / "docs") == ({"a", "b"}, {"c"})
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(write(tmp_path / "b.jsonl", ["c", "d"]).read_bytes()))
    assert set.union(*documents(packed)) == {"c", "d"}


def test_beside_other_texts_and_without_the_column_they_are_texts(tmp_path):
    line = write(tmp_path / "texts/train.jsonl", ["a"]).read_text()
    (tmp_path / "texts/val.txt").write_text("b")
    assert documents(tmp_path / "texts") == ({line}, {"b"})
    (tmp_path / "tables").mkdir()
    for split in ("train", "val"):
        (tmp_path / f"tables/{split}.csv").write_text(f"name,size\n{split},1\n")
    assert documents(tmp_path / "tables") == ({"name,size\ntrain,1\n"}, {"name,size\nval,1\n"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "a"}\n{"txt": "b"}\n', r"a.jsonl: line 2 has no field 'text' that is a text"),
        ("a.jsonl", '{"text": "a"}\n\n{"text": 3}\n', r"a.jsonl: line 3 has no field 'text' that is a text"),
        ("a.jsonl", '{"text": "a"}\n{"text"\n', r"a.jsonl: line 2 is no JSON: "),
        ("a.jsonl", "\n", r"a.jsonl: holds no documents"),
        ("a.csv", "id,text\n1,a\n2\n", r"a.csv: row 2 has no text"),
        ("a.csv", 'id,text\n1,"a\n', r"a.csv: cannot be read behind 0 documents"),
    ],
)
def test_a_line_without_a_text_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        documents(tmp_path / name)
