"""ByteData: from a path to batches of windows, for Lightning or for a plain loop."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from data_adapters import printable
from data_adapters.base import Adapter
from megabyte_mm.alphabet import num_filled
from megabyte_mm.data.collect import path_text
from megabyte_mm.data.dataset import Batch, RowSource, WindowDataset
from megabyte_mm.data.geometry import Geometry
from megabyte_mm.data.loader import BATCH_SIZE, ResumableLoader, WindowSampler
from megabyte_mm.data.opened import DataSettings, OpenData
from megabyte_mm.data.order import Order, SequentialOrder, SourceOrder, TrainingOrder, source_seed
from megabyte_mm.data.orders import part_orders, parts_as_sources
from megabyte_mm.data.records import Records, Skipped, Split, warn_skipped
from megabyte_mm.data.repeated import find_repeated
from megabyte_mm.data.sources import OpenSource, Source, check_sources
from megabyte_mm.data.storage.encoded_cache import CacheConfig
from megabyte_mm.errors import FieldError

log = logging.getLogger(__name__)


class ByteData(LightningDataModule):
    """Media files as windows of bytes, encoded once into a cache, in an order that resumes exactly.

    Without a trainer: `data.setup()`, then `for batch in data.train_dataloader()`. Properties need `setup` first.

    Args:
        path: A folder, a file or a glob of media files, or the output of `megabyte-mm prepare`, on this disk or at
            a URL (s3://bucket/photos). Folders `train`, `val` and `test` in it are the splits; without `val`, some of
            the files are held out for validation, or the end of the file if it is the only one. A list of them is one
            data set, as [photos/, holidays.zip].
        adapter: Reads the files; chosen by their suffixes if left out.
        window: Bytes in a training example; left out, the length of the adapter's streams, or else 2048.
        batch_size: Windows in a batch of each device.
        val_batch_size: The same for validation and test; `batch_size` if left out.
        val_share: Share of the files, or of the only file, that is held out where there is no `val` folder.
        group: A regular expression that finds in the path of a file what its group shares, as '_([a-z]+)_' finds the
            speaker of 7_jackson_0.wav: all files of a group then train, or all validate.
        classes: Make the class folders (train/cat/1.png, or cat/1.png) conditions of the model.
        sources: Several kinds of data that train one model, by name, each with a path or a part of `path`, an adapter
            and a weight; the names become the conditions of the model.
        parts: The parts of records in their order, as [text, image]: a picture and its caption make one training
            example. Each is a source, of the adapter of its name by default. A list of lists has several orders.
        drop_part: Share of the records that are trained on without their first part, so that the model also generates
            the others without it.
        part_weights: Weights of the parts in the training loss of a record, in their order and whatever their lengths:
            [1, 1] learns a caption as much as its picture, [0, 1] the picture alone; a list of lists has those of each
            order. Null: each symbol counts alike.
        num_workers: Processes that load batches. 0 is fastest as long as the cache lies on a local disk.
        seed: Decides the order and the positions of the training windows.
        cache_dir: Folder of encoded and fetched files; $MEGABYTE_MM_CACHE or ~/.cache/megabyte-mm if left out.
        shard_cache: GiB of it for prepared data fetched from a URL; the least recently used are deleted first.
        max_val_windows: Number of windows of each source to validate on, spread evenly over the data; all if left out.
    """

    def __init__(
        self,
        path: list[str] | str = "",
        adapter: Adapter | None = None,
        window: int | None = None,
        batch_size: int = BATCH_SIZE,
        val_batch_size: int | None = None,
        val_share: float = 0.05,
        group: str | None = None,
        classes: bool = False,
        sources: dict[str, Source] | None = None,
        parts: list[str] | list[list[str]] | None = None,
        drop_part: float = 0.0,
        part_weights: list[float] | list[list[float]] | None = None,
        num_workers: int = 0,
        seed: int = 0,
        cache_dir: str | None = None,
        shard_cache: float = 16.0,
        max_val_windows: int | None = None,
    ) -> None:
        super().__init__()
        counts = {"batch_size": batch_size, "val_batch_size": val_batch_size, "max_val_windows": max_val_windows}
        for field, count in counts.items():
            if count is not None and count < 1:
                raise FieldError(f"data.{field}", f"{count} must be at least 1")
        if not 0 < val_share < 1:
            raise FieldError("data.val_share", f"{val_share} must lie between 0 and 1")
        self.num_filled: int | None = None
        """Positions of the batch that was moved to a GPU last at which some row has a byte."""
        if num_workers < 0:
            raise FieldError("data.num_workers", f"{num_workers} must be 0 or more")
        if not 0 < shard_cache < math.inf:
            raise FieldError("data.shard_cache", f"{shard_cache} must be a number above 0")
        orders = part_orders(parts, drop_part, part_weights, sources or {"": Source()})
        if parts is not None:
            sources = parts_as_sources(orders, sources or {})
        check_sources(sources, adapter, classes, group, parts is not None)
        path = path if isinstance(path, list) else str(path)
        self.path = path_text(path)
        self.batch_size = batch_size
        self.val_batch_size = val_batch_size or batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.cache_dir = cache_dir
        self.shard_cache = shard_cache
        self.max_val_windows = max_val_windows
        self.settings = DataSettings(
            path,
            sources or {"": Source(path, adapter, group=group)},
            orders,
            parts is not None,
            window,
            val_share,
            classes,
            group,
        )
        self._opened: OpenData | None = None
        self._reported = False
        self._sliding = False

    def prepare_data(self) -> None:
        """Encode the files into the cache; Lightning calls it in one process of each machine."""
        self._open()

    def setup(self, stage: str | None = None) -> None:
        """Open the data, encoding what is not in the cache; every stage has all splits, and a second call is free.

        Raises FieldError (a ValueError) for a path, files or settings that cannot be used.
        """
        self._open()
        self._report()
        callbacks: list[Callback] | None = getattr(self.trainer, "callbacks", None)
        if callbacks is not None and not any(isinstance(callback, FixEpochRestart) for callback in callbacks):
            callbacks.append(FixEpochRestart())

    def use_sliding_windows(self, sliding: bool) -> None:
        """Let the windows of later validation and test loaders overlap by about half; training never does.

        Every byte is still scored once: a batch's `scored` leaves out the symbols that are only context.
        """
        self._sliding = sliding

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled, jittered windows; under the trainer's `overfit_batches`, the same ones in every epoch."""
        if getattr(self.trainer, "overfit_batches", 0) > 0:
            return self._in_order("train", self.batch_size)
        return self._shuffled(self.batch_size)

    def val_dataloader(self) -> ResumableLoader:
        """Every byte of the validation files once, in order, or `max_val_windows` windows of them."""
        return self._in_order("val", self.val_batch_size, self._sliding, self.max_val_windows)

    def test_dataloader(self) -> ResumableLoader:
        """Every byte of the test files once, in order; the validation files where there are no test files."""
        return self._in_order("test", self.val_batch_size, self._sliding)

    @property
    def paths(self) -> list[str]:
        """The path, or each of several."""
        return [self.settings.path] if isinstance(self.settings.path, str) else list(self.settings.path)

    @property
    def opened(self) -> OpenData:
        """The open data. Raises RuntimeError before `setup`."""
        if self._opened is None:
            raise RuntimeError("ByteData is not open: call setup() first")
        return self._opened

    @property
    def geometry(self) -> Geometry:
        """Window, unit, patch size and conditions: "none", then the classes, the sources of a mix, or orders."""
        return self.opened.geometry

    @property
    def sources(self) -> tuple[OpenSource, ...]:
        """The sources of a mix, or one without a name."""
        return self.opened.sources

    def records(self, split: Split) -> tuple[Records, ...]:
        """The records of "train", "val" or "test" of every source; test is val where there are no test files."""
        return self.opened.records(split)

    def weights_of_parts(self) -> dict[str, float] | None:
        """The weight of each of `OpenData.measured_parts` in the loss of its row; None where symbols count alike."""
        weights = [weight for order in self.settings.orders for weight in order.part_weights or ()]
        return dict(zip(self.opened.measured_parts(), weights, strict=True)) if weights else None

    @property
    def adapter(self) -> Adapter:
        """The adapter of the only source."""
        self._check_single()
        return self.sources[0].adapter

    @property
    def train(self) -> Records:
        """The training records of the only source."""
        self._check_single()
        return self.records("train")[0]

    @property
    def val(self) -> Records:
        """The validation records of the only source."""
        self._check_single()
        return self.records("val")[0]

    @property
    def test(self) -> Records:
        """The test records of the only source."""
        self._check_single()
        return self.records("test")[0]

    @property
    def skipped(self) -> Skipped:
        """The files that could not be used, as {"path", "reason"}."""
        return self.opened.skipped

    @property
    def fingerprint(self) -> str:
        """Changes with any of the files, their encoding, the split, the classes, the window and the mix."""
        return self.opened.fingerprint

    def spec(self) -> dict[str, Any]:
        """The data settings that generation needs, as plain values for a checkpoint."""
        return self.opened.spec()

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch, but leave its conditions, which models look at on the CPU: they would wait for a GPU."""
        if device.type == "cpu":
            return batch
        self.num_filled = num_filled(batch.ids)
        moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved._replace(condition=batch.condition)

    def _check_single(self) -> None:
        if len(self.sources) > 1:
            raise RuntimeError("ByteData holds a mix: use its `sources` and `records`")

    def _open(self) -> None:
        if self._opened is None:
            self._opened = self.settings.open(CacheConfig.at(self.cache_dir, self.shard_cache))

    def _shuffled(self, batch_size: int) -> ResumableLoader:
        windows = self.opened.rows("train", self.seed)
        seeds = [source_seed(self.seed, order.name) for order in self.settings.orders]
        epochs = [SourceOrder(rows.per_shard()[1], seed) for rows, seed in zip(windows, seeds, strict=True)]
        weights = [order.weight for order in self.settings.orders]
        order = TrainingOrder(epochs, weights, batch_size * self._ranks()[1], self.seed)
        return self._loader(windows, order, batch_size, training=True)

    def _in_order(
        self, split: Split, batch_size: int, sliding: bool = False, limit: int | None = None
    ) -> ResumableLoader:
        windows = self.opened.rows(split, sliding=sliding, limit=limit)
        return self._loader(windows, SequentialOrder([len(source) for source in windows]), batch_size, training=False)

    def _loader(self, windows: Sequence[RowSource], order: Order, batch_size: int, training: bool) -> ResumableLoader:
        sampler = WindowSampler(order, batch_size, training, *self._ranks())
        if self.num_workers == 0:
            # Lightning recommends workers to everybody; reading a memory map takes less time than a worker's answer.
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        fixed: dict[str, int | str] = {"data.seed": self.seed, "data fingerprint": self.fingerprint}
        return ResumableLoader(WindowDataset(windows), sampler, fixed, self.num_workers, pin_memory=on_gpu)

    def _ranks(self) -> tuple[int, int]:
        """This process's rank, and the number of ranks."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _report(self) -> None:
        """Log conversions and warn of skipped files, once and in one process; list the latter in the log folder."""
        trainer = self.trainer
        log_dir = trainer.log_dir or trainer.default_root_dir if trainer else None  # a collective call: on all ranks
        if self._reported or (trainer and not trainer.is_global_zero):
            return
        self._reported = True
        for line in (line for source in self.sources for line in source.conversions()):
            rank_zero_info(line)
        if self.skipped:
            paths = ", ".join(dict.fromkeys(source.path for source in self.sources))
            warn_skipped(paths, self.skipped, log_dir)
        if not self.settings.in_parts:  # words of records are the same again and again
            self._warn_repeated()

    def _warn_repeated(self) -> None:
        for source, train, val in zip(self.sources, self.records("train"), self.records("val"), strict=True):
            if repeated := find_repeated(train, val):
                which = f"{repeated.count} of {len(val)} validation files of {source.path}"
                twins = printable(f"{repeated.val} and {repeated.train}")
                log.warning(
                    f"{which} hold the same as a training file, such as {twins}: take them out of one of the two"
                )


class FixEpochRestart(Callback):
    """Lets a run that resumes from a checkpoint of an epoch's last batch count the new epoch as begun.

    Lightning 2.6 does not (`on_train_epoch_start` is left out as well). A second checkpoint, inside that new epoch,
    then looks like one from the end of an epoch: its batch position is thrown away, and the epoch repeats.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs after Lightning has worked out where it resumes, and before it begins an epoch."""
        loop = trainer.fit_loop
        batches = loop.epoch_loop
        if loop.restarted_mid_epoch and batches.restarted_on_train_batch_end and batches.batch_progress.is_last_batch:
            loop.reset_restart_stage()
