"""Pictures in arrays and tables of media, read as the files that they stand for."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from data_adapters import ImageAdapter, TextAdapter
from megabyte_mm.data.arrays import unpack_arrays
from megabyte_mm.data.module import ByteData

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 4, 4), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
CLASSES = np.arange(12) % 3


def opened(path: Path, mode: Any = "L", **settings: Any) -> ByteData:
    data = ByteData(str(path), ImageAdapter(mode, (4, 4), scan="raster"), **settings)
    data.setup("fit")
    return data


def pixels(data: ByteData) -> dict[str, list[bytes]]:
    """The bytes of the records of each split."""
    splits = {"train": data.train, "val": data.val, "test": data.test}
    return {split: sorted(records.read(i).tobytes() for i in range(len(records))) for split, records in splits.items()}


def flat(array: np.ndarray) -> list[bytes]:
    return sorted(picture.tobytes() for picture in array)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def packed(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def test_pictures_of_npy_and_npz_with_labels(tmp_path):
    np.save(tmp_path / "a.npy", COLOUR)
    found = pixels(opened(tmp_path / "a.npy", "RGB"))
    assert sorted(found["train"] + found["val"]) == flat(COLOUR)
    # As Keras stores MNIST.
    np.savez(tmp_path / "m.npz", x_train=GREY[:8], y_train=CLASSES[:8], x_test=GREY[8:, ..., None], y_test=CLASSES[8:])
    data = opened(tmp_path / "m.npz", classes=True)
    assert data.geometry.conditions == ("none", "0", "1", "2")
    found = pixels(data)
    assert sorted(found["train"] + found["val"]) == flat(GREY[:8])
    assert found["test"] == flat(GREY[8:])
    label_of = {picture.tobytes(): str(label) for picture, label in zip(GREY, CLASSES, strict=True)}
    for i in range(len(data.train)):
        assert data.geometry.conditions[data.train.conditions[i]] == label_of[data.train.read(i).tobytes()]


@pytest.mark.parametrize("name", ["a.npz", "a-idx3-ubyte.gz"])
def test_large_arrays_stay_on_the_disk(tmp_path, name):
    pictures = np.random.default_rng(0).integers(0, 256, (128, 256, 256), np.uint8)
    if name == "a.npz":
        np.savez_compressed(tmp_path / name, x=pictures)
    else:
        (tmp_path / name).write_bytes(gzip.compress(idx(pictures), 1))
    (tmp_path / "unpacked").mkdir()
    tracemalloc.start()
    unpack_arrays("data", tmp_path / name, tmp_path / "unpacked", lambda count: None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < pictures.nbytes
    written = sorted((tmp_path / "unpacked").iterdir())
    assert len(written) == 128
    np.testing.assert_array_equal(np.asarray(Image.open(written[9])), pictures[9])


def test_rows_of_channels_one_by_one(tmp_path):
    """As ImageNet32 and CIFAR-10 store them."""
    np.savez(tmp_path / "train.npz", data=COLOUR.transpose(0, 3, 1, 2).reshape(12, -1), labels=CLASSES)
    data = opened(tmp_path / "train.npz", "RGB", classes=True)
    found = pixels(data)
    assert sorted(found["train"] + found["val"]) == flat(COLOUR)
    assert data.geometry.conditions == ("none", "0", "1", "2")


def test_arrays_of_one_split_in_several_files_are_all_read(tmp_path):
    """As ImageNet64 comes: the pictures of a class have the same numbers in each file."""
    for name, part in (
        ("train_data_batch_1", COLOUR[:4]),
        ("train_data_batch_2", COLOUR[4:8]),
        ("val_data", COLOUR[8:]),
    ):
        (tmp_path / "set").mkdir(exist_ok=True)
        labels, rows = np.ones(4, np.int64), part.transpose(0, 3, 1, 2).reshape(4, -1)
        np.savez(tmp_path / "set" / f"{name}.npz", data=rows, labels=labels, mean=np.zeros(48))
    found = pixels(opened(tmp_path / "set", "RGB"))
    assert found["train"] == flat(COLOUR[:8])
    assert found["val"] == flat(COLOUR[8:])
    (tmp_path / "set" / "more").mkdir()
    (tmp_path / "set" / "val_data.npz").rename(tmp_path / "set" / "more" / "train_data_batch_1.npz")
    with pytest.raises(ValueError, match="two files called train_data_batch_1.npz have pictures of one name"):
        opened(tmp_path / "set" / "**" / "*.npz", "RGB")


@pytest.mark.parametrize("name", ["../../outside", "/outside", ".hidden"])
def test_names_of_arrays_lead_nowhere(tmp_path, name):
    content = {f"{name}.npy": npy(GREY), "b.npy": npy(GREY[::-1])}
    (tmp_path / "a.npz").write_bytes(packed(content))
    folder = tmp_path / "cache" / "unpacked"
    folder.mkdir(parents=True)
    unpack_arrays("data", tmp_path / "a.npz", folder, lambda count: None)
    assert {path.name for path in tmp_path.iterdir()} == {"a.npz", "cache"}
    assert not (tmp_path.parent / "outside").exists()
    pictures = [path for path in folder.rglob("*.png") if not any(part.startswith(".") for part in path.parts)]
    assert len(pictures) == 2 * len(GREY)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_files_of_mnist(tmp_path, suffix):
    pack = gzip.compress if suffix else bytes
    for split, part in (("train", slice(0, 8)), ("t10k", slice(8, 12))):
        (tmp_path / f"{split}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(GREY[part])))
        (tmp_path / f"{split}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(CLASSES[part])))
    data = opened(tmp_path, classes=True)
    found = pixels(data)
    assert sorted(found["train"] + found["val"]) == flat(GREY[:8])
    assert found["test"] == flat(GREY[8:])
    assert data.geometry.conditions == ("none", "0", "1", "2")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", {"x": np.zeros((2, 4, 4))}, "a.npz: holds no pictures, .* but x float64"),
        ("a.npz", {"x": np.zeros((2, 4, 4, 7), np.uint8)}, r"x has the shape \(2, 4, 4, 7\)"),
        ("a.npz", {"x": np.zeros((9, 8, 3), np.uint8)}, r"x has the shape \(9, 8, 3\), of one picture in colour"),
        ("a.npz", {"x": GREY, "y": CLASSES[:-1]}, "holds 12 pictures in x, and 11 labels in y"),
        ("a.npz", {"x": np.array([{}], object)}, "a.npz cannot be read: Object arrays cannot be loaded"),
        ("a.npz", {"x": np.uint8(3)}, r"a.npz: holds no pictures, .* but x uint8 \(\)"),
        ("a.npy", packed({"x.npy": b"no array"}), "a.npy cannot be read: "),
        ("a.npz", packed({"x.npy": packed({"y": bytes(2**21)})}), "a.npz cannot be read: "),
        ("a.npz", b"PK\3\4 and no more", "a.npz cannot be read: "),
        ("a.npy", b"no array", "a.npy cannot be read: "),
        ("a.npy", b"\x93NUMPY\x01\0\x04\0{'a(", "a.npy cannot be read: "),
        ("a-idx3-ubyte", b"no array", "a-idx3-ubyte cannot be read: it is no idx file of bytes"),
        ("a-idx3-ubyte", idx(GREY)[:-5], "a-idx3-ubyte cannot be read: cannot reshape"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(tmp_path, name, content, message):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        np.savez(tmp_path / name, **content)
    with pytest.raises(ValueError, match=message):
        opened(tmp_path / name)


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def write_table(path: Path, columns: dict[str, Any], features: dict[str, Any] | None = None) -> Path:
    table = pyarrow.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path)
    return path


def test_a_table_of_pictures_as_datasets_writes_it(tmp_path):
    names = {"label": {"names": ["cat", "dog", "a/b"], "_type": "ClassLabel"}}
    for split, part in (("train", range(8)), ("validation", range(8, 12))):
        images = [{"bytes": png(GREY[i]), "path": f"{i}.png"} for i in part]
        columns = {"image": images, "label": [int(CLASSES[i]) for i in part]}
        write_table(tmp_path / f"data/{split}-00000-of-00001.parquet", columns, names)
    data = opened(tmp_path / "data", classes=True)
    assert data.geometry.conditions == ("none", "a_b", "cat", "dog")
    found = pixels(data)
    assert (found["train"], found["val"]) == (flat(GREY[:8]), flat(GREY[8:]))


def test_pictures_with_captions_are_pairs_and_texts_are_documents(tmp_path):
    columns = {"image": [png(picture) for picture in GREY], "caption": [f"number {i}" for i in range(12)]}
    path = write_table(tmp_path / "pairs.parquet", columns)
    data = ByteData(str(path), parts=["text", "image"], window=64, batch_size=1)
    data.setup("fit")
    pairs = next(iter(data.opened.joined.values()))
    for split in pairs.values():
        for record in range(len(split)):
            both = {split.readers[part].names[split.rows[part][record]].split(".")[0] for part in (0, 1)}
            assert len(both) == 1
    assert sum(len(pairs[split]) for split in ("train", "val")) == 12

    texts = write_table(tmp_path / "texts.parquet", {"id": list(range(5)), "text": [f"text {i}" for i in range(5)]})
    data = ByteData(str(texts), TextAdapter(), window=16, batch_size=1)
    data.setup("fit")
    found = {records.read(i).tobytes().decode() for records in (data.train, data.val) for i in range(len(records))}
    assert found == {f"text {i}" for i in range(5)}


def test_tables_that_hold_no_media_are_refused(tmp_path, monkeypatch):
    path = write_table(tmp_path / "a.parquet", {"size": [1, 2]})
    with pytest.raises(ValueError, match=r"a.parquet: no column of a.parquet holds media or a text, but size"):
        opened(path)
    linked = write_table(tmp_path / "b.parquet", {"image": [{"bytes": None, "path": "/elsewhere/1.png"}]})
    with pytest.raises(ValueError, match="row 0 of b has no bytes in image: embed the files first|no column of b"):
        opened(linked)
    (tmp_path / "c.parquet").write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"c.parquet cannot be read: "):
        opened(tmp_path / "c.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"takes pyarrow: pip install 'megabyte-mm\[parquet\]'"):
        opened(path)
