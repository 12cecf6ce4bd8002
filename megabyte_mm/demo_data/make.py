"""Puts the made-up media into a folder, in the layout that training reads: modality, split, class, file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from megabyte_mm.demo_data.melodies import RATE, make_melodies, render
from megabyte_mm.demo_data.pictures import CLASSES, make_pictures
from megabyte_mm.demo_data.texts import choose_sources

MARK = "samples.json"
VERSION = 1  # of the recipe: raise it when the same arguments come to mean other files
README = """\
Made-up media to try megabyte-mm on, written by `megabyte-mm demo-data`. Delete the folder when you are done.

images/{train,val}/<class>/*.png   32 x 32 RGB: shapes, gradients and letters, drawn by the program
audio/{train,val}/*.wav            melodies of 4 seconds, 8 kHz, 16 bit, mono, composed and synthesised by the program
text/{train,val}/*.py              modules of Python's standard library, copied byte for byte from the installation at
                                   hand; a dot in a name stands for a folder

The pictures and melodies are free of rights (CC0). The Python modules are (c) Python Software Foundation and others,
under the PSF License Agreement: https://docs.python.org/3/license.html
samples.json records how the folder was made.
"""


def make_demo_data(folder: Path, seed: int = 0, pictures: int = 640, melodies: int = 64) -> dict[str, int]:
    """Make a folder of small pictures, melodies and texts, and say how many files each "modality/split" has.

    pictures, melodies: how many to train on; an eighth as many, rounded up, are made to validate on. The same arguments
    make the same files, but for the texts, which are the running Python's. A folder that was made so before is left as
    it is. The folder appears whole or not at all. Raises ValueError, naming the folder, where it holds anything else.
    """
    folder = Path(folder)
    recipe = {"version": VERSION, "seed": seed, "pictures": pictures, "melodies": melodies}
    if min(seed, pictures, melodies) < 0:
        raise ValueError(f"seed, pictures and melodies must not be negative, but are {seed}, {pictures}, {melodies}")
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        return _made_before(folder, recipe)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        made = Path(temporary, "samples")
        counts = _fill(made, seed, pictures, melodies)
        (made / "README.txt").write_text(README, encoding="utf-8")
        (made / MARK).write_text(json.dumps({"recipe": recipe, "files": counts}, indent=2) + "\n", encoding="utf-8")
        made.replace(folder)
    return counts


def _made_before(folder: Path, recipe: dict[str, int]) -> dict[str, int]:
    """The counts of a folder that these arguments made and nobody thinned out since."""
    mark = folder / MARK
    if not mark.is_file():
        raise ValueError(f"{folder}: not empty, and not a folder of samples; name a new folder")
    record = json.loads(mark.read_text(encoding="utf-8"))
    if record["recipe"] != recipe:
        raise ValueError(f"{folder}: holds samples of {record['recipe']}, not {recipe}; delete it or name a new folder")
    if record["files"] != {split: _count(folder / split) for split in record["files"]}:
        raise ValueError(f"{folder}: samples were added or removed since it was made; delete it or name a new folder")
    counts: dict[str, int] = record["files"]
    return counts


def _count(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def _fill(folder: Path, seed: int, pictures: int, melodies: int) -> dict[str, int]:
    picture_rng, melody_rng = np.random.default_rng(seed).spawn(2)
    _write_pictures(folder / "images", pictures, picture_rng)
    _write_melodies(folder / "audio", melodies, melody_rng)
    _write_texts(folder / "text", seed)
    splits = [f"{modality}/{split}" for modality in ("images", "audio", "text") for split in ("train", "val")]
    return {split: _count(folder / split) for split in splits}


def _write_pictures(folder: Path, train: int, rng: np.random.Generator) -> None:
    """Training counts differ by one between classes at most; so do validation counts."""
    for place, kind in enumerate(CLASSES):
        shares = [len(range(place, total, len(CLASSES))) for total in (train, _eighth(train))]
        pixels = iter(make_pictures(kind, sum(shares), rng))
        for split, share in zip(("train", "val"), shares, strict=True):
            for path in _numbered(folder / split / kind, share, "png"):
                Image.fromarray(next(pixels)).save(path)


def _write_melodies(folder: Path, train: int, rng: np.random.Generator) -> None:
    composed = iter(make_melodies(train + _eighth(train), rng))
    for split, share in (("train", train), ("val", _eighth(train))):
        for path in _numbered(folder / split, share, "wav"):
            soundfile.write(path, render(next(composed)), RATE, subtype="PCM_16")


def _write_texts(folder: Path, seed: int) -> None:
    for split, texts in choose_sources(seed).items():
        (folder / split).mkdir(parents=True)
        for name, text in texts.items():
            (folder / split / name).write_bytes(text)


def _eighth(count: int) -> int:
    return -(-count // 8)


def _numbered(folder: Path, count: int, suffix: str) -> Iterator[Path]:
    folder.mkdir(parents=True)
    for index in range(count):
        yield folder / f"{index:04}.{suffix}"
