"""Files at a URL as data: they are downloaded once, into the cache, and then read as local files.

hf://user/name is a data set of the Hugging Face hub, with `datasets/` before it or not.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from data_adapters import printable
from megabyte_mm.data.files import is_url
from megabyte_mm.data.storage.remote import file_system
from megabyte_mm.data.storage.shards import INDEX
from megabyte_mm.errors import FieldError, PathNotFoundError
from megabyte_mm.progress import byte_progress

_HUB = "hf://"
_HUB_KINDS = ("datasets/", "spaces/", "buckets/")
_NO_DATA = ("readme.md", "license", "license.md", "license.txt", "dataset_infos.json")
"""Files beside the data of a repository, in lower case."""
_STATES = ("ETag", "etag", "checksum", "blob_id", "oid", "LastModified", "last_modified", "mtime", "created")
"""What file systems call that which changes with a file."""
_SPARE = 2**28
"""Bytes that downloading and unpacking leave free on the disk of the cache."""


def fetched(path: str, cache: Path) -> str:
    """The copy in the cache of the file or the files at a URL; a path on this machine as it is.

    Hidden files, a README and a LICENSE are left out. A copy belongs to one state of the files, by their names, sizes
    and what the service says of their versions. Raises FieldError for prepared data that are not finished, and where
    the disk has no room; PathNotFoundError where nothing is there; OSError for a service that cannot be reached.
    """
    if not is_url(path):
        return path
    url = f"{_HUB}datasets/{path[len(_HUB) :]}" if path.startswith(_HUB) and not _is_full_hub_path(path) else path
    url = url.rstrip("/")
    with file_system(url) as (system, root):
        listed = {root: system.info(root)} if system.isfile(root) else system.find(root, detail=True)
        files = {name: info for name, info in listed.items() if is_data(_below(name, root))}
        _check(path, {_below(name, root) for name in files})
        state = "\n".join(f"{name}\0{info.get('size')}\0{_state(info)}" for name, info in sorted(files.items()))
        folder = cache / "fetched" / hashlib.sha256(f"{url}\n{state}".encode()).hexdigest()[:24]
        if not folder.is_dir():
            size = sum(info.get("size") or 0 for info in files.values())
            with whole_folder(folder) as temporary, byte_progress(size, "fetched") as on_bytes:
                check_room(path, temporary, size)
                for name, info in files.items():
                    target = temporary / _below(name, root)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    system.get_file(name, str(target))
                    on_bytes(info.get("size") or target.stat().st_size)
    return str(folder / _below(root, root) if root in files else folder)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder that becomes `folder` when the block ends, and is removed if it fails."""
    temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if not folder.is_dir():  # another process may have been faster
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_room(path: str, folder: Path, size: int) -> None:
    """Raise FieldError where that many bytes would fill the disk of a folder of the cache."""
    if shutil.disk_usage(folder).free - size < _SPARE:
        raise FieldError("path", f"{path}: no room for its files in {folder.parent.parent}: set data.cache_dir")


def _is_full_hub_path(path: str) -> bool:
    return path.removeprefix(_HUB).startswith(_HUB_KINDS)


def _below(name: str, root: str) -> str:
    """The name of a file below the root, or its own name where it is the root."""
    return PurePosixPath(root).name if name == root else name.removeprefix(root).lstrip("/")


def is_data(name: str) -> bool:
    """False for a hidden file, and for what describes a data set, such as a README."""
    parts = PurePosixPath(name).parts
    return not any(part.startswith(".") for part in parts) and name.lower() not in _NO_DATA


def _check(path: str, names: set[str]) -> None:
    """Raise an error for files that cannot be fetched."""
    if not names:
        raise PathNotFoundError("path", f"{path}: no data there, neither prepared (no {INDEX}) nor files")
    if outside := [name for name in names if ".." in PurePosixPath(name).parts]:
        raise FieldError("path", f"{path}: has a file {printable(min(outside))!r}, which leads out of the folder")
    if "prepare.json" in names or "shard-00000.bin" in names:
        raise FieldError(
            "path", f"{path}: holds prepared data without {INDEX}: finish them with megabyte-mm prepare --out {path}"
        )


def _state(info: Mapping[str, Any]) -> str:
    return str(next((info[key] for key in _STATES if info.get(key)), ""))
