"""Archives of media files as data: they are unpacked once, into the cache, and then read as a folder.

Arrays and tables of media are unpacked alike (arrays.py, parquet.py).

An archive is known by its name: .zip, .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz, .tar.zst; a packed text by .gz, .zst,
.bz2 or .xz behind its own suffix. A folder of the cache belongs to one state of one archive, and is renamed when it is
complete.
"""

from __future__ import annotations

import bz2
import errno
import glob
import gzip
import hashlib
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import zstandard

from data_adapters import TextAdapter, printable
from megabyte_mm.data import arrays, parquet
from megabyte_mm.data.fetched import check_room, fetched, is_data, whole_folder
from megabyte_mm.data.files import local_path
from megabyte_mm.data.splits import SPLIT_NAMES, split_called, split_in_words
from megabyte_mm.errors import FieldError
from megabyte_mm.progress import byte_progress

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_PACKED: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".tgz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": lambda file: zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True),
}
_TEXTS = tuple(f"{text}{packed}" for text in TextAdapter.suffixes for packed in _PACKED if packed != ".tgz")
_ARCHIVES = (".zip", *_TARS, *_TEXTS, *arrays.SUFFIXES, ".parquet")
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError),
    *(EOFError, NotImplementedError, UnicodeError),
)
_NO_PLACE = (None, errno.EINVAL)
_SPLITS = {**SPLIT_NAMES, "t10k": "test"}
"""Words in the names of archives; MNIST's test files begin with t10k."""
_CHUNK = 2**20


def unpacked(path: str, cache: Path) -> str:
    """The folder of the cache with the files of an archive, or of several, or a URL's; any other path as it is.

    path: an archive, a URL of files or of archives, a pattern that matches nothing else, or a folder that holds nothing
    else (but a README), as the shards of a WebDataset. Members of train-000.tar are files of train/. Hidden files,
    links and what Macs add are left out, and so is a single folder around all files. Raises FieldError for an archive
    that is damaged, encrypted or hostile, or for which the disk has no room; nothing of it is kept then. Raises as
    `fetched.fetched` for a URL.
    """
    local = fetched(path, cache)
    archives = _archives(local)
    if not archives:
        return local
    states = [(archive, archive.stat()) for archive in archives]
    state = "\n".join(f"{file}\0{at.st_size}\0{at.st_mtime_ns}\0{at.st_ino}" for file, at in states)
    folder = cache / "unpacked" / hashlib.sha256(os.fsencode(state)).hexdigest()[:24]
    if not folder.is_dir():
        with whole_folder(folder) as temporary, _naming_damage(path):
            for archive in archives:
                _unpack(
                    path, archive, temporary / split_in_words(archive.name, _SPLITS) if len(archives) > 1 else temporary
                )
    inside = [entry for entry in folder.iterdir() if entry.is_dir()]
    only = len(inside) == len(list(folder.iterdir())) == 1 and not split_called(inside[0].name)
    return str(inside[0] if only else folder)


def _archives(path: str) -> list[Path]:
    """The archives that a path stands for; none where it is or holds anything else."""
    local = local_path(path)
    if local.is_dir():
        files = [entry for entry in local.iterdir() if is_data(entry.name)]
        if len(files) == 1 and files[0].is_dir():
            return _archives(str(files[0]))
        files = [entry for entry in files if not entry.name.endswith(arrays.LABELS)]
    elif local.is_file():
        files = [local]
    else:
        files = [Path(match) for match in glob.glob(str(local), recursive=True)]  # noqa: PTH207 (an absolute pattern)
    are_archives = all(file.is_file() and file.name.lower().endswith(_ARCHIVES) for file in files)
    return sorted(file.resolve() for file in files) if are_archives else []


@contextmanager
def _naming_damage(path: str) -> Iterator[None]:
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        # bz2 raises OSErrors without a number, and a damaged table of a zip leads to places that no file has.
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile) and error.errno not in _NO_PLACE:
            raise
        reason = printable(str(error)) or "it ends too early"
        raise FieldError("path", f"{path}: a damaged archive: {reason}") from error


def _unpack(path: str, archive: Path, folder: Path) -> None:
    name = archive.name.lower()
    folder.mkdir(parents=True, exist_ok=True)
    writer = _Writer(path, folder)
    if name.endswith((*arrays.SUFFIXES, ".parquet")):
        read = parquet.unpack_parquet if name.endswith(".parquet") else arrays.unpack_arrays
        with byte_progress(archive.stat().st_size, "unpacked") as on_bytes:
            read(path, archive, folder, on_bytes)
        return
    if name.endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            infos = [info for info in zipped.infolist() if not info.filename.endswith("/")]
            if any(info.flag_bits & 1 for info in infos):
                raise FieldError("path", f"{path}: is encrypted; unpack it yourself, and give the folder")
            check_room(path, folder, sum(info.file_size for info in infos))
            with byte_progress(sum(info.file_size for info in infos), "unpacked") as on_bytes:
                for info in infos:
                    if writer.wants(info.filename):
                        with zipped.open(info) as member:
                            writer.write(info.filename, member, on_bytes)
        return
    with archive.open("rb") as file, byte_progress(archive.stat().st_size, "unpacked") as on_bytes:
        unpack = _PACKED.get(Path(name).suffix)
        content: Any = unpack(file) if unpack else file
        if not name.endswith(_TARS):
            writer.write(archive.stem, content, lambda count: None)
            return
        with tarfile.open(fileobj=content, mode="r|") as tar:
            before = 0
            for entry in tar:
                if entry.isreg() and writer.wants(entry.name):
                    stream = tar.extractfile(entry)
                    assert stream is not None
                    writer.write(entry.name, stream, lambda count: None)
                on_bytes(file.tell() - before)
                before = file.tell()


class _Writer:
    """Writes the members of an archive below a folder, never outside it."""

    def __init__(self, path: str, folder: Path) -> None:
        self.path, self.folder = path, folder

    def wants(self, name: str) -> bool:
        """False for hidden files. Raises FieldError for a name that leads out of the folder."""
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or parts[0] == "/" or ".." in parts or "\0" in name or ":" in parts[0]:
            raise FieldError("path", f"{self.path}: has a member {name!r}, which leads out of the archive")
        return not any(part.startswith(".") or part == "__MACOSX" for part in parts if part != ".")

    def write(self, name: str, content: IO[bytes], on_bytes: Callable[[int], object]) -> None:
        """Raises FieldError for a second member of that name, and where the disk is full."""
        target = self.folder.joinpath(*PurePosixPath(name.replace("\\", "/")).parts)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                while chunk := content.read(_CHUNK):
                    check_room(self.path, self.folder, len(chunk))
                    file.write(chunk)
                    on_bytes(len(chunk))
        except (FileExistsError, NotADirectoryError) as error:
            raise FieldError("path", f"{self.path}: has two members {name!r}") from error
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise FieldError("path", f"{self.path}: has a member with a name of {len(name)} characters") from error
