"""ByteData: from a path to batches of windows, for Lightning or for a plain loop."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from data_adapters import registry
from data_adapters.base import Adapter
from megabyte_mm.data.cache import encoded, first_reasons
from megabyte_mm.data.files import Files, find_files
from megabyte_mm.data.loader import BATCH_SIZE, ResumableLoader, WindowDataset, WindowSampler
from megabyte_mm.data.records import Records, Skipped, Splits, split_records, unit_of
from megabyte_mm.data.windows import resolve_window


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


class ByteData(LightningDataModule):
    """Media files as windows of bytes, encoded once into a cache, in an order that resumes exactly.

    Without a trainer: `data.setup()`, then `for batch in data.train_dataloader()`. The properties need `setup` first.

    Args:
        path: A folder, a file or a glob of media files. Folders `train`, `val` and `test` in it are the splits; without
            `val`, some of the files are held out for validation, or the end of the file if it is the only one.
        adapter: What reads the files; chosen by their suffixes if left out.
        window: Bytes in a training example; left out, the length of the adapter's streams, or else 2048.
        batch_size: Windows in a batch of each device.
        val_batch_size: The same for validation and test; `batch_size` if left out.
        val_share: The share of the files, or of the only file, that is held out where there is no `val` folder.
        classes: Whether the class folders (train/cat/1.png, or cat/1.png) become conditions of the model.
        num_workers: Processes that load batches. 0 is fastest as long as the cache lies on a local disk.
        seed: Decides the order and the places of the training windows.
        cache_dir: Where encoded files are kept; $MEGABYTE_MM_CACHE or ~/.cache/megabyte-mm if left out.
        max_val_windows: Validate on so many windows, spread evenly over the data; all if left out.
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
        num_workers: int = 0,
        seed: int = 0,
        cache_dir: str | None = None,
        max_val_windows: int | None = None,
    ) -> None:
        super().__init__()
        at_least_one = {"batch_size": batch_size, "val_batch_size": val_batch_size, "max_val_windows": max_val_windows}
        for field, value in at_least_one.items():
            if value is not None and value < 1:
                raise ValueError(f"data.{field} {value} must be at least 1")
        if not 0 < val_share < 1:
            raise ValueError(f"data.val_share {val_share} must lie between 0 and 1")
        if num_workers < 0:
            raise ValueError(f"data.num_workers {num_workers} must be 0 or more")
        self.path = str(path)
        self.batch_size = batch_size
        self.val_batch_size = val_batch_size or batch_size
        self.val_share = val_share
        self.classes = classes
        self.num_workers = num_workers
        self.seed = seed
        self.cache_dir = cache_dir
        self.max_val_windows = max_val_windows
        self._asked_adapter, self._asked_window = adapter, window
        self._files: Files | None = None
        self._splits: Splits | None = None
        self._unit = 1
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
        self._tell_skipped()
        callbacks: list[Callback] | None = getattr(self.trainer, "callbacks", None)
        if callbacks is not None and not any(isinstance(callback, CountEpochs) for callback in callbacks):
            callbacks.append(CountEpochs())

    def use_sliding_windows(self, sliding: bool) -> None:
        """Let the windows of later validation and test loaders overlap by about half; training is never touched.

        Every byte is still scored once: a batch's `seen` says what is context only.
        """
        self._sliding = sliding

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled, jittered windows; under the trainer's `overfit_batches`, the same ones in every epoch."""
        fixed = getattr(self.trainer, "overfit_batches", 0) > 0
        return self._loader(self.train, self.batch_size, training=not fixed)

    def val_dataloader(self) -> ResumableLoader:
        """Every byte of the validation files once, in order, unless `max_val_windows` keeps fewer."""
        return self._loader(self.val, self.val_batch_size, limit=self.max_val_windows, sliding=self._sliding)

    def test_dataloader(self) -> ResumableLoader:
        """Every byte of the test files once, in order; the validation files where there are no test files."""
        return self._loader(self.test, self.val_batch_size, sliding=self._sliding)

    @property
    def adapter(self) -> Adapter:
        """The adapter that reads the files, as given or as chosen."""
        if self._files is None:
            raise RuntimeError("ByteData is not open: call setup() first")
        return self._files.adapter

    @property
    def splits(self) -> Splits:
        """The records of all splits."""
        if self._splits is None:
            raise RuntimeError("ByteData is not open: call setup() first")
        return self._splits

    @property
    def window(self) -> int:
        """Bytes in a window."""
        return resolve_window(self.adapter, self._asked_window, self._unit)

    @property
    def train(self) -> Records:
        """The training records."""
        return self.splits.train

    @property
    def val(self) -> Records:
        """The validation records."""
        return self.splits.val

    @property
    def test(self) -> Records:
        """The test records, which are the validation records where there are no test files."""
        return self.splits.test

    @property
    def conditions(self) -> tuple[str, ...]:
        """The name of each condition: "none", then the classes where `classes` is set."""
        return self.splits.conditions

    @property
    def skipped(self) -> Skipped:
        """The files that could not be used, as {"path", "reason"}."""
        return self.splits.skipped

    @property
    def notes(self) -> Mapping[str, int]:
        """How many files were converted in reading, by kind of conversion, numbers written as #."""
        return dict(self.train.reader.about["notes"])

    @property
    def fixed_length(self) -> bool:
        """Whether every stream has the length of the window, so that no END ever occurs."""
        return self.adapter.length is not None

    @property
    def patch_size(self) -> int | None:
        """The patch size that follows from the byte layout, in bytes, or None."""
        return self.adapter.patch_size

    @property
    def unit(self) -> int:
        """Bytes that stay together: a pixel, a frame of sound, one byte; where files differ, a multiple of each."""
        return self._unit

    @property
    def fingerprint(self) -> str:
        """Changes with any of the files, their encoding, the split, the classes and the window."""
        train = self.train
        parts = f"{train.reader.folder.name} {self.window} {self.unit}".encode() + train.digest()
        return hashlib.sha256(parts).hexdigest()[:16]

    def spec(self) -> dict[str, Any]:
        """What generation needs to know of the data, as plain values for a checkpoint."""
        return {
            "adapter": registry.spec(self.adapter),
            "window": self.window,
            "conditions": list(self.conditions),
            "fixed_length": self.fixed_length,
        }

    def _open(self) -> None:
        if self._splits is not None:
            return
        files = find_files(self.path, self._asked_adapter)
        registry.check_name(type(files.adapter))
        resolve_window(files.adapter, self._asked_window)  # so that most mistakes are told before encoding
        reader = encoded(files, self.cache_dir)
        unit = unit_of(reader, files.adapter)
        window = resolve_window(files.adapter, self._asked_window, unit)
        self._splits = split_records(reader, files.adapter, window, self.val_share, self.classes)
        self._files, self._unit = files, unit

    def _loader(
        self,
        records: Records,
        batch_size: int,
        training: bool = False,
        limit: int | None = None,
        sliding: bool = False,
    ) -> ResumableLoader:
        trainer = self.trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        dataset = WindowDataset(records, self.window, self.unit, self.seed, training, limit, sliding)
        sampler = WindowSampler(len(dataset), batch_size, self.seed, training, rank, world_size)
        if self.num_workers == 0:
            # Lightning recommends workers to everybody; reading a memory map takes less time than asking one.
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
        on_gpu = trainer is not None and trainer.strategy.root_device.type == "cuda"
        return ResumableLoader(dataset, sampler, self.fingerprint, self.num_workers, pin_memory=on_gpu)

    def _tell_skipped(self) -> None:
        """Say once, on one process, what was converted and left out; list the latter in the trainer's log folder."""
        trainer = self.trainer
        log_dir = trainer.log_dir or trainer.default_root_dir if trainer else None  # all ranks must ask for it
        if self._told or (trainer and not trainer.is_global_zero):
            return
        self._told = True
        if self._files and self._files.unused:
            rank_zero_info(f"{self._files.unused} files of {self.path} lie beside train, val and test and are not used")
        for note, count in self.notes.items():
            rank_zero_info(f"{count} files of {self.path}: {note}")
        if clipped := self.train.reader.about["clipped"]:
            entries = [{"path": entry["path"], "reason": entry["note"]} for entry in clipped]
            rank_zero_info(f"{len(clipped)} files of {self.path} lost range: {first_reasons(entries)}")
        if not self.skipped:
            return
        if log_dir:
            Path(log_dir).mkdir(parents=True, exist_ok=True)
            lines = [f"{entry['path']}\t{entry['reason']}\n" for entry in self.skipped]
            Path(log_dir, "skipped_files.txt").write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
        where = f" (all in {log_dir}/skipped_files.txt)" if log_dir else ""
        warnings.warn(
            f"skipped {len(self.skipped)} files of {self.path}: {first_reasons(self.skipped)}{where}", stacklevel=2
        )
