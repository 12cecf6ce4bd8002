"""enwik8 as the field splits it: 90 MB to train on, 5 MB to validate, 5 MB to test."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

NAME = "enwik8"
SIZES = {"train.txt": 90_000_000, "val.txt": 5_000_000, "test.txt": 5_000_000}
_CHUNK = 2**20


def split_enwik8(data: str, folder: Path) -> str:
    """The folder of its three parts, which are written there from `enwik8`, `enwik8.zip`, or a folder with one of them.

    A folder that has the three parts is used as it is. Raises ValueError for anything else.
    """
    path = Path(data)
    if all((path / name).is_file() for name in SIZES):
        return data
    if path.is_dir():
        path = next((path / name for name in (NAME, f"{NAME}.zip") if (path / name).is_file()), path / NAME)
    if not path.is_file():
        raise ValueError(f"--data {data}: no {NAME} or {NAME}.zip there")
    folder.mkdir(parents=True, exist_ok=True)
    with _opened(path) as (source, size):
        if size != sum(SIZES.values()):
            raise ValueError(f"--data {path}: has {size:,} bytes, and {NAME} has {sum(SIZES.values()):,}")
        for name, length in SIZES.items():
            if not (folder / name).is_file() or (folder / name).stat().st_size != length:
                _copy(source, folder / name, length)
            else:
                source.seek(length, 1)
    return str(folder)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The bytes of the text and their number. Raises ValueError for an archive without it."""
    if path.suffix != ".zip":
        with path.open("rb") as file:
            yield file, path.stat().st_size
        return
    try:
        with zipfile.ZipFile(path) as archive, archive.open(NAME) as member:
            yield member, archive.getinfo(NAME).file_size
    except (KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"--data {path}: no archive with {NAME} in it") from error


def _copy(source: IO[bytes], target: Path, length: int) -> None:
    with target.open("wb") as file:
        while length:
            chunk = source.read(min(length, _CHUNK))
            if not chunk:
                raise ValueError(f"--data: {NAME} ends {length:,} bytes too early")
            file.write(chunk)
            length -= len(chunk)
