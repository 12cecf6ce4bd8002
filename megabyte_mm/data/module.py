"""ByteData: from a path to batches of windows, for Lightning or for a plain loop."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from data_adapters import printable, registry
from data_adapters.base import Adapter
from megabyte_mm.data.dataset import WindowDataset, Windows
from megabyte_mm.data.encode import first_reasons
from megabyte_mm.data.loader import BATCH_SIZE, ResumableLoader, WindowSampler
from megabyte_mm.data.order import InOrder, Order, Shuffled, ShuffledEpochs, seed_of
from megabyte_mm.data.records import Records, Skipped, Split, Splits
from megabyte_mm.data.sources import (
    CacheConfig,
    OpenSource,
    Source,
    check_sources,
    located,
    open_source,
    patch_size_of,
    room_to_fetch_ahead,
    window_of,
)
from megabyte_mm.data.storage.prefetch import RemoteSource


class CountEpochs(Callback):
    """Lets a run that resumes from a checkpoint of an epoch's last batch count the new epoch as begun.

    Lightning 2.6 does not (`on_train_epoch_start` is left out as well). A second checkpoint, inside that new epoch,
    then looks like one from the end of an epoch: its batch position is thrown away, and the epoch repeats.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Comes after Lightning has worked out where it resumes, and before it begins an epoch."""
        loop = trainer.fit_loop
        batches = loop.epoch_loop
        if loop.restarted_mid_epoch and batches.restarted_on_train_batch_end and batches.batch_progress.is_last_batch:
            loop.reset_restart_stage()


def log_conversions(source: OpenSource) -> None:
    """Say what was left unused, converted and clipped of a source."""
    metadata = source.reader.metadata
    if unused := metadata.get("unused", 0):
        rank_zero_info(f"{unused} files of {source.path} lie beside train, val and test and are not used")
    for note, count in metadata["notes"].items():
        rank_zero_info(f"{count} files of {source.path}: {note}")
    if clipped := metadata["clipped"]:
        entries = [{"path": entry["path"], "reason": entry["note"]} for entry in clipped]
        rank_zero_info(f"{len(clipped)} files of {source.path} lost range: {first_reasons(entries)}")


def warn_skipped(paths: str, skipped: Skipped, log_dir: str | None) -> None:
    """Warn of files that are left out, and list all in skipped_files.txt of the log folder, if there is one."""
    if log_dir:
        Path(log_dir).mkdir(parents=True, exist_ok=True)
        lines = [f"{printable(entry['path'])}\t{printable(entry['reason'])}\n" for entry in skipped]
        Path(log_dir, "skipped_files.txt").write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    where = f" (all in {log_dir}/skipped_files.txt)" if log_dir else ""
    warnings.warn(f"skipped {len(skipped)} files of {paths}: {first_reasons(skipped)}{where}", stacklevel=2)


class ByteData(LightningDataModule):
    """Media files as windows of bytes, encoded once into a cache, in an order that resumes exactly.

    Without a trainer: `data.setup()`, then `for batch in data.train_dataloader()`. The properties need `setup` first.

    Args:
        path: A folder, a file or a glob of media files, or what `megabyte-mm prepare` made of them, on this disk or at
            a URL (s3://bucket/photos). Folders `train`, `val` and `test` in it are the splits; without `val`, some of
            the files are held out for validation, or the end of the file if it is the only one.
        adapter: What reads the files; chosen by their suffixes if left out.
        window: Bytes in a training example; left out, the length of the adapter's streams, or else 2048.
        batch_size: Windows in a batch of each device.
        val_batch_size: The same for validation and test; `batch_size` if left out.
        val_share: The share of the files, or of the only file, that is held out where there is no `val` folder.
        classes: Whether the class folders (train/cat/1.png, or cat/1.png) become conditions of the model.
        sources: Several kinds of data that train one model, by name, each with a path or a part of `path`, an adapter
            and a weight; the names become the conditions of the model.
        num_workers: Processes that load batches. 0 is fastest as long as the cache lies on a local disk.
        seed: Decides the order and the places of the training windows.
        cache_dir: Where encoded and fetched files are kept; $MEGABYTE_MM_CACHE or ~/.cache/megabyte-mm if left out.
        shard_cache: GiB that prepared data fetched from a URL may take there; the least recently used goes first.
        max_val_windows: Validate on so many windows of each source, spread evenly over the data; all if left out.
    """

    def __init__(
        self,
        path: str = "",
        adapter: Adapter | None = None,
        window: int | None = None,
        batch_size: int = BATCH_SIZE,
        val_batch_size: int | None = None,
        val_share: float = 0.05,
        classes: bool = False,
        sources: dict[str, Source] | None = None,
        num_workers: int = 0,
        seed: int = 0,
        cache_dir: str | None = None,
        shard_cache: float = 16.0,
        max_val_windows: int | None = None,
    ) -> None:
        super().__init__()
        counts = {"batch_size": batch_size, "val_batch_size": val_batch_size, "max_val_windows": max_val_windows}
        for field, value in counts.items():
            if value is not None and value < 1:
                raise ValueError(f"data.{field} {value} must be at least 1")
        if not 0 < val_share < 1:
            raise ValueError(f"data.val_share {val_share} must lie between 0 and 1")
        if num_workers < 0:
            raise ValueError(f"data.num_workers {num_workers} must be 0 or more")
        if not 0 < shard_cache < math.inf:
            raise ValueError(f"data.shard_cache {shard_cache} must be a number above 0")
        check_sources(sources, adapter, classes)
        self.path = str(path)
        self.batch_size = batch_size
        self.val_batch_size = val_batch_size or batch_size
        self.val_share = val_share
        self.classes = classes
        self.num_workers = num_workers
        self.seed = seed
        self.cache_dir = cache_dir
        self.shard_cache = shard_cache
        self.max_val_windows = max_val_windows
        self.source_settings, self.window_setting = sources or {"": Source(self.path, adapter)}, window
        self._sources: tuple[OpenSource, ...] = ()
        self._splits: tuple[Splits, ...] = ()
        self._window = 0
        self._fetches_ahead = False
        self._told = False
        self._sliding = False

    def prepare_data(self) -> None:
        """Encode the files into the cache; Lightning calls it on one process of each machine."""
        self._open()

    def setup(self, stage: str | None = None) -> None:
        """Open the data, encoding first what is not in the cache; every stage has all splits, a second call is free.

        Raises FileNotFoundError and ValueError for a path, files or settings that cannot be used.
        """
        self._open()
        self._report()
        callbacks: list[Callback] | None = getattr(self.trainer, "callbacks", None)
        if callbacks is not None and not any(isinstance(callback, CountEpochs) for callback in callbacks):
            callbacks.append(CountEpochs())

    def use_sliding_windows(self, sliding: bool) -> None:
        """Let the windows of later validation and test loaders overlap by about half; training is never touched.

        Every byte is still scored once: a batch's `num_context` says what is context only.
        """
        self._sliding = sliding

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled, jittered windows; under the trainer's `overfit_batches`, the same ones in every epoch."""
        if getattr(self.trainer, "overfit_batches", 0) > 0:
            return self._in_order("train", self.batch_size)
        return self._shuffled(self.batch_size)

    def val_dataloader(self) -> ResumableLoader:
        """Every byte of the validation files once, in order, unless `max_val_windows` keeps fewer."""
        return self._in_order("val", self.val_batch_size, self._sliding, self.max_val_windows)

    def test_dataloader(self) -> ResumableLoader:
        """Every byte of the test files once, in order; the validation files where there are no test files."""
        return self._in_order("test", self.val_batch_size, self._sliding)

    @property
    def sources(self) -> tuple[OpenSource, ...]:
        """What the windows are drawn from: one source without a name, or those of a mix."""
        if not self._splits:
            raise RuntimeError("ByteData is not open: call setup() first")
        return self._sources

    def records(self, split: Split) -> tuple[Records, ...]:
        """The records of "train", "val" or "test" of every source; test is val where there are no test files."""
        assert len(self.sources) == len(self._splits)
        return tuple(getattr(splits, split) for splits in self._splits)

    @property
    def adapter(self) -> Adapter:
        """The adapter of the only source, as given or as chosen; of a mix, `sources` have one each."""
        return self._only().adapter

    @property
    def train(self) -> Records:
        """The training records of the only source."""
        return self._of_the_only("train")

    @property
    def val(self) -> Records:
        """The validation records of the only source."""
        return self._of_the_only("val")

    @property
    def test(self) -> Records:
        """The test records of the only source, which are the validation records where there are no test files."""
        return self._of_the_only("test")

    @property
    def window(self) -> int:
        """Bytes in a window."""
        assert self.sources
        return self._window

    @property
    def conditions(self) -> tuple[str, ...]:
        """The name of each condition: "none", then the classes where `classes` is set, or the sources of a mix."""
        names = tuple(source.name for source in self.sources if source.name)
        return ("none", *names) if names else self._splits[0].conditions

    @property
    def skipped(self) -> Skipped:
        """The files that could not be used, as {"path", "reason"}."""
        assert self.sources
        return [entry for splits in self._splits for entry in splits.skipped]

    @property
    def notes(self) -> Mapping[str, int]:
        """How many files were converted in reading, by kind of conversion, numbers written as #."""
        counts: Counter[str] = Counter()
        for source in self.sources:
            counts.update(source.reader.metadata["notes"])
        return dict(counts)

    @property
    def fixed_length(self) -> bool:
        """Whether every stream has the length of the window, so that no END ever occurs."""
        return all(source.adapter.length == self.window for source in self.sources)

    @property
    def patch_size(self) -> int | None:
        """The patch size that follows from the byte layout, in bytes, or None."""
        return patch_size_of([source.adapter for source in self.sources])

    @property
    def unit(self) -> int:
        """Bytes that stay together: a pixel, a frame of sound, one byte; where files differ, a multiple of each."""
        return math.lcm(*(source.unit for source in self.sources))

    @property
    def fingerprint(self) -> str:
        """Changes with any of the files, their encoding, the split, the classes, the window and the mix."""
        parts = [f"{self.window}"]
        for source, splits in zip(self.sources, self._splits, strict=True):
            parts += [source.name, str(source.weight), source.reader.key, str(source.unit), splits.train.digest().hex()]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]

    def spec(self) -> dict[str, Any]:
        """What generation needs to know of the data, as plain values for a checkpoint."""
        shared = {"window": self.window, "conditions": list(self.conditions)}
        streams = [
            {"adapter": registry.spec(source.adapter), "fixed_length": source.adapter.length == self.window}
            for source in self.sources
        ]
        if not self.sources[0].name:
            return streams[0] | shared
        return {"sources": {source.name: its for source, its in zip(self.sources, streams, strict=True)}, **shared}

    def _only(self) -> OpenSource:
        if len(self.sources) > 1:
            raise RuntimeError("ByteData holds a mix: ask its `sources` and `records`")
        return self.sources[0]

    def _of_the_only(self, split: Split) -> Records:
        self._only()
        return self.records(split)[0]

    def _open(self) -> None:
        if self._splits:
            return
        asked = self.source_settings
        adapters = [source.adapter for source in asked.values() if source.adapter is not None]
        if len(adapters) == len(asked):  # so that most mistakes are told before encoding
            window_of(adapters, self.window_setting, [adapter.unit for adapter in adapters])
            patch_size_of(adapters)
        keeping = CacheConfig.at(self.cache_dir, self.shard_cache)
        if "" not in asked:
            asked = {name: located(name, source, self.path, keeping) for name, source in asked.items()}
        sources = tuple(open_source(source, name, keeping) for name, source in asked.items())
        units = [source.unit for source in sources]
        window = window_of([source.adapter for source in sources], self.window_setting, units)
        patch_size_of([source.adapter for source in sources])
        self._splits = tuple(
            source.splits(window, self.val_share, self.classes, condition=number if source.name else 0)
            for number, source in enumerate(sources, start=1)
        )
        self._sources, self._window = sources, window
        self._fetches_ahead = room_to_fetch_ahead(sources, keeping.limit)

    def _shuffled(self, batch_size: int) -> ResumableLoader:
        windows, passes, far = [], [], []
        for source, records in zip(self.sources, self.records("train"), strict=True):
            seed = seed_of(self.seed, source.name)
            windows.append(Windows(records, self.window, source.unit, jitter=seed))
            shards, counts = windows[-1].per_shard()
            passes.append(ShuffledEpochs(counts, seed))
            if source.reader.storage.is_remote and self._fetches_ahead:
                far.append(RemoteSource(len(passes) - 1, passes[-1], source.reader, shards))
        weights = [source.weight for source in self.sources]
        order = Shuffled(passes, weights, batch_size * self._ranks()[1], self.seed)
        return self._loader(windows, order, batch_size, training=True, far=far)

    def _in_order(
        self, split: Split, batch_size: int, sliding: bool = False, limit: int | None = None
    ) -> ResumableLoader:
        windows = [
            Windows(records, self.window, source.unit, sliding=sliding, limit=limit)
            for source, records in zip(self.sources, self.records(split), strict=True)
        ]
        return self._loader(windows, InOrder([len(its) for its in windows]), batch_size, training=False)

    def _loader(
        self,
        windows: Sequence[Windows],
        order: Order,
        batch_size: int,
        training: bool,
        far: Sequence[RemoteSource] = (),
    ) -> ResumableLoader:
        sampler = WindowSampler(order, batch_size, training, *self._ranks())
        if self.num_workers == 0:
            # Lightning recommends workers to everybody; reading a memory map takes less time than asking one.
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        fixed: dict[str, int | str] = {"data.seed": self.seed, "data fingerprint": self.fingerprint}
        return ResumableLoader(WindowDataset(windows), sampler, fixed, far, self.num_workers, pin_memory=on_gpu)

    def _ranks(self) -> tuple[int, int]:
        """This process's number, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _report(self) -> None:
        """Say once, on one process, what was converted and left out; list the latter in the trainer's log folder."""
        trainer = self.trainer
        log_dir = trainer.log_dir or trainer.default_root_dir if trainer else None  # all ranks must ask for it
        if self._told or (trainer and not trainer.is_global_zero):
            return
        self._told = True
        for source in self.sources:
            log_conversions(source)
        if self.skipped:
            paths = ", ".join(dict.fromkeys(source.path for source in self.sources))
            warn_skipped(paths, self.skipped, log_dir)
