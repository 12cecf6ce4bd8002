"""`megabyte-mm prepare`: files encoded once, for training from anywhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from data_adapters import load_class, printable
from megabyte_mm.cli.packaged import find_config
from megabyte_mm.data.collect import Paths, collect_files, one_folder, path_text
from megabyte_mm.data.encode import first_reasons, processors
from megabyte_mm.data.files import Files, describe_unread, local_path, unread_by_all
from megabyte_mm.data.part_files import find_parts
from megabyte_mm.data.sources import Source
from megabyte_mm.data.storage.base import LocalStorage
from megabyte_mm.data.storage.encoded_cache import CacheConfig
from megabyte_mm.data.storage.prepare import prepare as prepare_shards
from megabyte_mm.data.storage.remote import open_storage
from megabyte_mm.data.storage.shards import ShardReader
from megabyte_mm.errors import FieldError, check_positive
from megabyte_mm.progress import format_bytes


def prepare(
    path: Sequence[str],
    out: str,
    config: str | None = None,
    adapter: str | None = None,
    workers: int | None = None,
    shard_mib: int = 256,
    allow_skipped: bool = False,
    cache_dir: str | None = None,
) -> None:
    """Encode a folder of files once, into shards that any number of machines train from.

    `--data.path` of fit, validate and test accepts the result, on a disk or at a URL. A killed run continues when it is
    started again. With a config of several sources, each gets a folder of its name in `out`.

    Args:
        path: Folders, files, globs or URLs of media files, as --data.path takes them.
        out: A new folder, or a URL such as s3://bucket/photos. Other services than S3's need their fsspec package.
        config: A config whose data.adapter or data.sources read the files.
        adapter: Import path of the adapter class, such as data_adapters.TextAdapter, with its default settings; chosen
            by the files' suffixes if neither this nor a config is given.
        workers: Processes that read files; one for each processor if left out.
        shard_mib: MiB in a shard, at most; a machine that trains holds some of them at a time.
        allow_skipped: Succeed even if some files cannot be read; they are left out either way.
        cache_dir: Folder of the files' checksums; $MEGABYTE_MM_CACHE or ~/.cache/megabyte-mm if left out.
    """
    check_positive(workers=workers, shard_mib=shard_mib)
    if config and adapter:
        raise ValueError("--adapter and --config both choose how files are read: give one of them")
    paths = path if len(path) > 1 else path[0]
    sources, in_parts = read_sources(config, adapter)
    root = out.rstrip("/") or "/"
    if "" not in sources:
        refuse_other_content(root, sources)
    targets = {name: f"{root}/{name}" if name else root for name in sources}
    for name, source in sources.items():
        _check_target(source.path or paths, targets[name], cache_dir)
    files_of = _find(paths, sources, in_parts, CacheConfig.at(cache_dir).folder)
    readers = {
        targets[name]: _prepare(files, targets[name], workers, shard_mib, cache_dir) for name, files in files_of.items()
    }
    for target, reader in readers.items():
        print(f"{target}: {_summary(reader)}")
    adapters = [files.adapter for files in files_of.values()]
    for name, source_files in files_of.items():
        if unread := unread_by_all(source_files.unread, adapters):
            print(printable(describe_unread(path_text(sources[name].path or paths), unread)), file=sys.stderr)
    skipped = [entry for reader in readers.values() for entry in reader.metadata["skipped"]]
    for entry in skipped:
        print(printable(f"{entry['path']}: {entry['reason']}"), file=sys.stderr)
    if skipped and not allow_skipped:
        files = sum(len(reader) for reader in readers.values()) + len(skipped)
        raise ValueError(
            f"{len(skipped)} of {files} files cannot be read and are left out, such as {first_reasons(skipped, 1)}; "
            "all others are prepared (--allow_skipped makes this a success)"
        )


def refuse_other_content(root: str, sources: Mapping[str, Source]) -> None:
    """Raise ValueError where the folder for the sources of a mix holds anything but their folders."""
    storage = open_storage(root, CacheConfig.at(None).shards)
    names = set(storage.sizes())
    if isinstance(storage, LocalStorage) and storage.folder.is_dir():
        names = {path.name for path in storage.folder.iterdir() if not path.name.startswith(".")} - set(sources)
    if names:
        raise ValueError(f"{root}: is not empty (it holds {min(names)}); choose another --out")


def read_sources(config: str | None, adapter: str | None) -> tuple[dict[str, Source], bool]:
    """The sources of a config, or one source named "", of an adapter's import path or of the files' own adapter.

    And whether they are parts of records.
    """
    if config:
        from megabyte_mm.cli.config import read_config  # it imports Lightning, which takes seconds

        settings = read_config(find_config(config, "--config")).data.settings
        sources = dict(settings.sources)
        if "" in sources:  # data.path is the argument here
            sources[""] = replace(sources[""], path="")
        return sources, settings.in_parts
    return {"": Source(adapter=load_class(adapter)() if adapter else None)}, False


def _find(path: Paths, sources: Mapping[str, Source], in_parts: bool, cache: Path) -> dict[str, Files]:
    """The files of each source. Raises ValueError for a path that cannot be used."""
    try:
        if in_parts:
            return find_parts(one_folder(path, cache), {name: source.rule for name, source in sources.items()})
        return {name: collect_files(source.path or path, source.adapter, cache) for name, source in sources.items()}
    except FieldError as error:
        raise ValueError(error.reason.removeprefix(": ")) from error


def _check_target(paths: Paths, out: str, cache_dir: str | None) -> None:
    """Raise ValueError where the shards would lie among the files that are read."""
    storage = open_storage(out, CacheConfig.at(cache_dir).shards)
    for path in [paths] if isinstance(paths, str) else paths:
        if isinstance(storage, LocalStorage) and local_path(path).resolve() in (storage.folder / "x").resolve().parents:
            raise ValueError(f"--out {out}: lies in {path}, whose files are read: choose a folder beside it")


def _prepare(files: Files, out: str, workers: int | None, shard_mib: int, cache_dir: str | None) -> ShardReader:
    cache = CacheConfig.at(cache_dir)
    storage = open_storage(out, cache.shards)
    try:
        return prepare_shards(files, storage, cache.folder, workers or processors(), shard_mib * 2**20)
    except FieldError as error:
        raise ValueError(error.reason.removeprefix(": ")) from error


def _summary(reader: ShardReader) -> str:
    """Sizes and conversions, as one line."""
    shards, size = reader.metadata["shards"], int(reader.lengths.sum())
    summary = f"{len(reader)} files as {format_bytes(size)} in {len(shards)} shard{'s' * (len(shards) != 1)}"
    notes = [f"{count} {note}" for note, count in reader.notes.items()]
    if clipped := reader.metadata["clipped"]:
        notes.append(f"{len(clipped)} lost range, such as {clipped[0]['path']} ({clipped[0]['note']})")
    if unused := reader.metadata["unused"]:
        notes.append(f"{unused} beside train, val and test are not used")
    return "; ".join([summary, *notes])
