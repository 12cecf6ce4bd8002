"""Archives as data: read as the folder that they hold, or refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from PIL import Image

from data_adapters import ImageAdapter, TextAdapter
from megabyte_mm.cli.main import main
from megabyte_mm.data.archives import unpacked
from megabyte_mm.data.module import ByteData


@pytest.fixture
def photos(tmp_path) -> Path:
    """Pictures in splits and class folders, with their captions, and what is no data."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for i in range(count):
            folder = tmp_path / "photos" / split / ("cat", "dog")[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8)).save(folder / f"{i}.png")
            (folder / f"{i}.txt").write_text(f"picture {i}")
    (tmp_path / "photos/.hidden.png").write_bytes(b"hidden")
    return tmp_path / "photos"


def pack(folder: Path, archive: Path, around: str = "") -> str:
    """A .zip or .tar... of a folder's files, all in a folder `around`."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for file in files:
                zipped.write(file, f"{around}{file.relative_to(folder)}")
            zipped.writestr("__MACOSX/._0.png", b"resource fork")
        return str(archive)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for file in reversed(files):
            tar.add(file, f"{around}{file.relative_to(folder)}")
    packers: dict[str, Any] = {
        ".gz": gzip.compress, ".tgz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
        ".zst": zstandard.compress, ".tar": bytes,
    }  # fmt: skip
    archive.write_bytes(packers[archive.suffix](content.getvalue()))
    return str(archive)


def contents(path: str, **settings: Any) -> dict[str, list[tuple[str, bytes]]]:
    """The names and bytes of each split."""
    data = ByteData(path, settings.pop("adapter", ImageAdapter("L", (4, 4))), **settings)
    data.setup("fit")
    splits = {"train": data.train, "val": data.val}
    return {
        split: [(records.name(i), records.read(i).tobytes()) for i in range(len(records))]
        for split, records in splits.items()
    }


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"])
def test_an_archive_is_read_as_its_folder(photos, tmp_path, suffix, cache_folder):
    expected = contents(str(photos))
    assert [len(each) for each in expected.values()] == [6, 2]
    archive = pack(photos, tmp_path / f"packed{suffix}", around="photos/")
    assert contents(archive) == expected
    [folder] = (cache_folder / "unpacked").iterdir()
    before = folder.stat().st_mtime_ns
    assert contents(archive) == expected  # a second run unpacks nothing
    assert [each.stat().st_mtime_ns for each in (cache_folder / "unpacked").iterdir()] == [before]


def test_classes_pairs_and_preparing_work_as_for_a_folder(photos, tmp_path):
    archive = pack(photos, tmp_path / "packed.zip")
    data = ByteData(archive, ImageAdapter("L", (4, 4)), classes=True)
    data.setup("fit")
    assert data.geometry.conditions == ("none", "cat", "dog")

    parts = ByteData(archive, parts=["text", "image"], window=16, batch_size=2)
    folder = ByteData(str(photos), parts=["text", "image"], window=16, batch_size=2)
    for pairs in (parts, folder):
        pairs.setup("fit")
    assert parts.fingerprint == folder.fingerprint

    assert (
        main(["prepare", archive, "--out", str(tmp_path / "prepared"), "--adapter", "data_adapters.TextAdapter"]) == 0
    )
    assert contents(str(tmp_path / "prepared"), adapter=None) == contents(str(photos), adapter=TextAdapter())


def test_shards_are_read_together_and_their_names_are_splits(photos, tmp_path):
    (tmp_path / "shards").mkdir()
    pack(photos / "train/cat", tmp_path / "shards/train-000.tar")
    pack(photos / "train/dog", tmp_path / "shards/train-001.tar")
    pack(photos / "val", tmp_path / "shards/validation-000.tar")
    found = contents(str(tmp_path / "shards"))
    assert [name for name, _ in found["train"]] == [f"train/{i}.png" for i in range(6)]
    assert [name for name, _ in found["val"]] == ["val/cat/0.png", "val/dog/1.png"]
    assert contents(str(tmp_path / "shards/*.tar")) == found
    (tmp_path / "shards/train-002.tar").write_bytes((tmp_path / "shards/train-000.tar").read_bytes())
    with pytest.raises(ValueError, match="has two members '4.txt'"):
        contents(str(tmp_path / "shards"))


@pytest.mark.parametrize(
    ("suffix", "packer"),
    [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", zstandard.compress)],
)
def test_a_packed_text_is_read_as_the_text(tmp_path, suffix, packer):
    text = bytes(range(32, 127)) * 40
    (tmp_path / "plain.txt").write_bytes(text)
    # Two streams behind each other are one text, as gzip and zstd define it.
    (tmp_path / f"plain.txt{suffix}").write_bytes(packer(text[:99]) + packer(text[99:]))
    adapter = TextAdapter()
    expected = contents(str(tmp_path / "plain.txt"), adapter=adapter, window=64)
    assert contents(str(tmp_path / f"plain.txt{suffix}"), adapter=adapter, window=64) == expected


def hostile(kind: str, path: Path) -> None:
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-40])
        return
    with zipfile.ZipFile(path, "a") as zipped:
        zipped.writestr({"outside": "../x.png", "absolute": "/x.png", "windows": "C:\\x.png"}[kind], b"x")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", "packed.zip: a damaged archive: File is not a zip file"),
        ("outside", r"packed.zip: has a member '../x.png', which leads out of the archive"),
        ("absolute", "packed.zip: has a member '/x.png', which leads out of the archive"),
        ("windows", "packed.zip: has a member 'C:"),
    ],
)
def test_a_damaged_or_hostile_archive_is_refused_and_nothing_is_kept(photos, tmp_path, kind, message, cache_folder):
    archive = pack(photos, tmp_path / "packed.zip")
    hostile(kind, Path(archive))
    with pytest.raises(ValueError, match=message):
        contents(archive)
    assert list((cache_folder / "unpacked").iterdir()) == []
    assert not (tmp_path / "x.png").exists()


def test_cut_tars_links_and_members_in_place_of_folders(photos, tmp_path, cache_folder):
    archive = Path(pack(photos, tmp_path / "packed.tar.gz"))
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"packed.tar.gz: a damaged archive"):
        unpacked(str(archive), cache_folder)
    link = tarfile.TarInfo("a.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "links.tar", "w") as tar:
        tar.addfile(link)
        for name in ("b.txt", "c/d.txt"):
            tar.addfile(tarfile.TarInfo(name))
    folder = Path(unpacked(str(tmp_path / "links.tar"), cache_folder))
    assert sorted(file.name for file in folder.rglob("*")) == ["b.txt", "c", "d.txt"]
    with tarfile.open(tmp_path / "both.tar", "w") as tar:
        for name in ("b", "b/c.txt"):
            tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(ValueError, match="has two members 'b/c.txt'"):
        unpacked(str(tmp_path / "both.tar"), cache_folder)


def test_an_archive_that_would_fill_the_disk_is_refused(photos, tmp_path, cache_folder, monkeypatch):
    archive = pack(photos, tmp_path / "packed.zip")
    monkeypatch.setattr("megabyte_mm.data.fetched._SPARE", 2**60)
    with pytest.raises(ValueError, match=r"packed.zip: no room for its files in .*: set data.cache_dir"):
        contents(archive)
    assert list((cache_folder / "unpacked").iterdir()) == []
