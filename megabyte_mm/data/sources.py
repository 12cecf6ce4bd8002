"""The sources of a run: one path, or the parts of a mix, opened as records and their adapter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from data_adapters import registry
from data_adapters.base import Adapter
from megabyte_mm.data.collect import Paths, collect_files, one_folder, path_text
from megabyte_mm.data.encode import first_reasons
from megabyte_mm.data.files import describe_unread, is_url, local_path, unread_by_all
from megabyte_mm.data.part_files import PartRule, find_parts
from megabyte_mm.data.records import Split, Splits, split_records
from megabyte_mm.data.storage.base import LocalStorage
from megabyte_mm.data.storage.encoded_cache import CacheConfig, cache_folder, load_or_encode
from megabyte_mm.data.storage.prepared import adapter_of, check_cache_size, is_prepared, open_prepared
from megabyte_mm.data.storage.remote import open_storage
from megabyte_mm.data.storage.shards import INDEX, DamagedShardsError, ShardReader
from megabyte_mm.errors import FieldError, errors_inside


@dataclass(frozen=True)
class Source:
    """One of several kinds of data that are mixed, named by its modality.

    Args:
        path: As `data.path`; left out, the files of `data.path` that the adapter reads, or the folder of the source's
            name in it that was prepared.
        adapter: Reads the files; chosen by their suffixes if left out.
        weight: Share of the training windows, in proportion to the other sources' weights.
        patch_size: Bytes in a patch of this source. Once one source sets it, or its window, each has its own: that of
            its layout for pictures, else by default 16 samples of sound, or 16 bytes.
        window: Bytes in a training example of this source; by default the length of the adapter's streams, or else
            data.window. Of a part of a record, its longest length; by default that of the longest file.
        suffix: Of a part: the end of its files' names, such as .input.png, where the adapter's suffixes do not tell the
            parts apart.
        column: Of a part: the column of metadata.csv or metadata.jsonl with its text or the names of its files.
        folder: Of a text part: it is the name of the class folder.
        group: As `data.group`, of this source.
    """

    path: list[str] | str = ""
    adapter: Adapter | None = None
    weight: float = 1.0
    patch_size: int | None = None
    window: int | None = None
    suffix: str | None = None
    column: str | None = None
    folder: bool = False
    group: str | None = None

    @property
    def files(self) -> dict[str, str | bool]:
        """How its files are found where it is a part, without what is left to the defaults."""
        fields = {"suffix": self.suffix, "column": self.column, "folder": self.folder}
        return {name: value for name, value in fields.items() if value}

    @property
    def rule(self) -> PartRule:
        """How its files are found where it is a part."""
        return PartRule(self.adapter, self.suffix, self.column, self.folder)


@dataclass(frozen=True)
class OpenSource:
    """A source whose records can be read.

    name: of the source in a mix, "" for an only source. unit: bytes that stay together in all files (a pixel, a frame
    of sound, one byte). unread: by suffix, the number of files at the path that no source reads.
    """

    name: str
    path: str
    adapter: Adapter
    reader: ShardReader
    unit: int
    weight: float = 1.0
    unread: Mapping[str, int] = field(default_factory=dict)

    def splits(
        self,
        window: int,
        val_share: float,
        classes: bool,
        condition: int = 0,
        keys: Mapping[Split, frozenset[str]] | None = None,
        group: str | None = None,
    ) -> Splits:
        """The records of train, val and test. condition: of all of them, 0 for that of each. keys: of each split.

        Raises ValueError as `records.split_records` does.
        """
        with errors_inside(_section(self.name)):
            splits = split_records(self.reader, self.adapter, window, val_share, classes, keys, group)
        return splits.with_condition(condition) if condition else splits

    def conversions(self) -> list[str]:
        """Lines for a user on files that are unused, converted or clipped."""
        metadata, lines = self.reader.metadata, []
        if unused := metadata.get("unused", 0):
            lines.append(f"{unused} files of {self.path} lie beside train, val and test and are not used")
        if self.unread:
            lines.append(describe_unread(self.path, self.unread))
        lines += [f"{count} files of {self.path}: {note}" for note, count in self.reader.notes.items()]
        if clipped := [{"path": entry["path"], "reason": entry["note"]} for entry in metadata["clipped"]]:
            lines.append(f"{len(clipped)} files of {self.path} lost range: {first_reasons(clipped)}")
        return lines


def check_sources(
    sources: Mapping[str, Source] | None, adapter: Adapter | None, classes: bool, group: str | None, in_parts: bool
) -> None:
    """Raise FieldError for settings of a mix that contradict each other."""
    if sources is None:
        return
    if not sources:
        raise FieldError("data.sources", "is empty: name at least one source, or leave it out")
    if adapter is not None:
        raise FieldError("data.adapter", "is set, and data.sources too: set the adapter of each source instead")
    if classes:
        raise FieldError("data.classes", "is set, and data.sources too: the conditions of a mix are its sources")
    if group is not None and not in_parts:
        raise FieldError("data.group", "is set, and data.sources too: set the group of each source instead")
    for name, source in sources.items():
        if in_parts and source.group is not None:
            raise FieldError(f"data.sources.{name}.group", "is set, but records are split as a whole: set data.group")
        if name in ("", "none") or not name.replace("-", "_").isidentifier():
            raise FieldError("data.sources", f": {name!r} cannot name a source: take a word such as image, not none")
        if not 0 < source.weight < math.inf:
            raise FieldError(f"data.sources.{name}.weight", f"{source.weight} must be a number above 0")
        for setting in ("patch_size", "window"):
            value = getattr(source, setting)
            if value is not None and value < 1:
                raise FieldError(f"data.sources.{name}.{setting}", f"{value} must be 1 or more")


def open_sources(sources: Mapping[str, Source], path: Paths, cache: CacheConfig) -> tuple[OpenSource, ...]:
    """Open the sources of a mix, or one source named "", encoding into the cache what is not there.

    path: `data.path`. Raises FieldError for a path, files or settings that cannot be used, and for a cache too small
    for remote shards; DamagedShardsError for prepared data that are damaged; OSError for a URL that cannot be reached.
    """
    sources = {name: _with_path(name, source, path, cache) for name, source in sources.items()}
    opened = tuple(_open_source(name, source, cache) for name, source in sources.items())
    check_cache_size([source.reader for source in opened], cache.limit)
    adapters = [source.adapter for source in opened]
    return tuple(replace(source, unread=unread_by_all(source.unread, adapters)) for source in opened)


def open_parts(sources: Mapping[str, Source], path: Paths, cache: CacheConfig) -> tuple[OpenSource, ...]:
    """Open the parts of records in a folder, or of prepared records, encoding into the cache what is not there.

    Raises as `open_sources`, and FieldError as `part_files.find_parts`.
    """
    if any(source.path for source in sources.values()):
        raise FieldError("data.sources", ": the parts of records lie in one folder: set data.path alone")
    if isinstance(path, str) and is_prepared(open_storage(f"{path.rstrip('/')}/{next(iter(sources))}", cache.shards)):
        return open_sources(sources, path, cache)
    opened = []
    folder = one_folder(path, cache.folder)
    for name, files in find_parts(folder, {name: source.rule for name, source in sources.items()}).items():
        registry.check_name(type(files.adapter))
        reader = load_or_encode(files, str(cache.folder))
        opened.append(OpenSource(name, path_text(path), files.adapter, reader, _unit(reader, files.adapter), 1.0))
    return tuple(opened)


def adapter_at(paths: Paths) -> Adapter | None:
    """The adapter of the files of a path or paths, or of local prepared data; None at a URL, and for no path.

    Raises FieldError for a path that cannot be used.
    """
    if not paths or any(map(is_url, _each(paths))):
        return None
    if isinstance(paths, str) and is_prepared(storage := LocalStorage(local_path(paths))):
        return adapter_of(ShardReader(storage))
    return collect_files(paths, None, cache_folder()).adapter


def _each(paths: Paths) -> Sequence[str]:
    return [paths] if isinstance(paths, str) else paths


def _section(name: str) -> str:
    return f"data.sources.{name}" if name else "data"


def _open_source(name: str, source: Source, cache: CacheConfig) -> OpenSource:
    with errors_inside(_section(name)):
        reader, adapter, unread = _open_reader(source.path, source.adapter, cache)
    return OpenSource(name, path_text(source.path), adapter, reader, _unit(reader, adapter), source.weight, unread)


def _unit(reader: ShardReader, adapter: Adapter) -> int:
    """Bytes that stay together in all records. Raises DamagedShardsError for formats that the adapter cannot read."""
    try:
        unit = adapter.common_unit(reader.formats())
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise DamagedShardsError(
            f"{reader.storage}: {INDEX} holds formats that the {adapter.name} adapter cannot read"
        ) from error
    if unit < 1:
        raise DamagedShardsError(f"{reader.storage}: {INDEX} holds formats of no bytes")
    return unit


def _with_path(name: str, source: Source, path: Paths, cache: CacheConfig) -> Source:
    """The source with its own path, else that of the prepared folder of its name in `path`, else `path`."""
    if source.path or not name:
        return source
    if not path:
        raise FieldError(f"data.sources.{name}.path", "is empty, and so is data.path: set one of the two")
    if isinstance(path, str):
        folder = f"{path.rstrip('/')}/{name}"
        return replace(source, path=folder if is_prepared(open_storage(folder, cache.shards)) else path)
    return replace(source, path=list(path))


def _open_reader(
    paths: Paths, adapter: Adapter | None, cache: CacheConfig
) -> tuple[ShardReader, Adapter, Mapping[str, int]]:
    """The records at a path, prepared or encoded into the cache, their adapter, and the files that it does not read."""
    prepared = [path for path in _each(paths) if is_prepared(open_storage(path, cache.shards))]
    if prepared and not isinstance(paths, str):
        reason = "holds prepared data, which cannot be joined with others: prepare all paths together"
        raise FieldError("path", f"{prepared[0]}: {reason}")
    if prepared:
        reader = open_prepared(open_storage(prepared[0], cache.shards), cache.folder)
        return reader, adapter_of(reader, adapter), {}
    files = collect_files(paths, adapter, cache.folder)
    registry.check_name(type(files.adapter))
    return load_or_encode(files, str(cache.folder)), files.adapter, files.unread
