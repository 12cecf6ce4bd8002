"""The checkpoints of a run, best.ckpt and last.ckpt: their content, when they are written, and how."""

from __future__ import annotations

import errno
import logging
import os
import pickle
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only

from data_adapters.io import open_durable, replace, temporary_beside
from megabyte_mm.checkpoint.dcp import is_sharded_checkpoint, read_sharded_checkpoint
from megabyte_mm.progress import format_bytes
from megabyte_mm.training.divergence import check_finite
from megabyte_mm.training.signals import RunInterrupted

log = logging.getLogger(__name__)


class RunCheckpoint(ModelCheckpoint):
    """A checkpoint of a fixed name. Where it cannot be written, the previous one stays, and `failure` has the reason.

    Saving raises ValueError where training has diverged.

    Whenever it is written, it holds Lightning's counters as they were after the last update, or after the validation
    that followed it. Later the counters would be wrong: they count the next batch once it is fetched, even where its
    gradient is only accumulated, and after the last step of the run they call a half-read epoch finished, so that a
    longer run would miss the rest of it. A validation that falls inside an update is repeated after a resume.

    failure: the reason why the latest attempt failed, the same on every process; None after a success.
    """

    failure: str | None = None
    _counters: dict[str, Any]
    _step = 0
    _accumulating = False
    _saving = False

    @property
    def state_key(self) -> str:
        """The name of the class, whatever the settings."""
        return type(self).__name__

    @rank_zero_only
    def warn_failure(self, next_attempt: str) -> None:
        """Warn that training continues without it. next_attempt: its time."""
        log.warning("%s; training continues, next attempt %s", self.failure, next_attempt)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the counters at the start of the run."""
        super().on_train_start(trainer, pl_module)
        self._step, self._counters = trainer.global_step, trainer.fit_loop.state_dict()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Copy the counters, but not while gradients are accumulated, which no checkpoint holds."""
        self._accumulating, self._step = trainer.global_step == self._step, trainer.global_step
        self._copy_counters(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on, a resumed run begins with this validation."""
        if self._copy_counters(trainer):
            mark_validation_pending(self._counters)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on, a resumed run does not repeat it."""
        self._copy_counters(trainer)
        super().on_validation_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the copied counters; Lightning calls this for other checkpoints too."""
        if self._saving:
            checkpoint["loops"]["fit_loop"] = self._counters

    def _copy_counters(self, trainer: Trainer) -> bool:
        """Copy the counters if they are those of the weights, and return whether they are."""
        current = not trainer.sanity_checking and not self._accumulating
        if current:
            self._counters = trainer.fit_loop.state_dict()
        return current

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        check_finite(trainer)
        failure, saved = None, self._last_global_step_saved
        self._saving = True
        try:
            super()._save_checkpoint(trainer, filepath)
        except OSError as error:
            failure = str(error)
            trainer.strategy.barrier("Trainer.save_checkpoint")  # the other processes wait there, or have failed too
        finally:
            self._saving = False
        self.failure = trainer.strategy.broadcast(failure)
        if self.failure is not None:
            self._last_global_step_saved = saved


class BestCheckpoint(RunCheckpoint):
    """Writes best.ckpt at the lowest val/bpb so far; a resumed run compares with the best.ckpt in its own folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, filename="best", monitor="val/bpb", enable_version_counter=False)
        self._written: float | None = None
        self._module: LightningModule | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the module, which knows the parts of records that count in val/bpb."""
        super().setup(trainer, pl_module, stage)
        self._module = pl_module

    @property
    def _parts(self) -> list[str]:
        """The parts of records or sources of a mix that count; none for one source."""
        return sorted(getattr(self._module, "measured_parts", ()))

    def state_dict(self) -> dict[str, Any]:
        """The score without a path, so that a run folder may be moved or copied; and what counts in it."""
        return {"val/bpb": self._written} | ({"parts": self._parts} if self._parts else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the score, unless the run resumes in another folder, or with other parts that count."""
        if not Path(self.dirpath or "", "best.ckpt").exists():
            return
        if state_dict.get("parts", self._parts) == self._parts:
            self._restore_score(state_dict["val/bpb"])
        else:
            log.warning("data.part_weights have changed: the next validation replaces best.ckpt")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise OSError where the best model could not be written, once all else is done."""
        if self.failure is not None:
            raise OSError(self.failure)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        assert self.current_score is not None
        before, self._written = self._written, float(self.current_score)  # before writing: the file holds it too
        try:
            super()._save_checkpoint(trainer, filepath)
        except BaseException:
            self._written = before
            raise
        if self.failure is not None:
            self._restore_score(before)
            self.warn_failure("when a validation is better than the one that it holds")

    def _restore_score(self, score: float | None) -> None:
        """Compare later validations with the score of best.ckpt."""
        self._written, path = score, str(Path(self.dirpath or "", "best.ckpt"))
        best = None if score is None else torch.tensor(score, dtype=torch.float64)
        self.best_model_path = "" if best is None else path
        self.best_model_score = best
        self.best_k_models = {} if best is None else {path: best}
        if best is not None:
            self.kth_best_model_path, self.kth_value = path, best


class LastCheckpoint(RunCheckpoint):
    """Writes last.ckpt every few minutes of training, at the end, and when GracefulStop ends the run.

    It never saves between an update and its validation, because Lightning would then resume without validating.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        super().__init__(
            folder, filename="last", train_time_interval=timedelta(minutes=minutes), enable_version_counter=False
        )

    def state_dict(self) -> dict[str, Any]:
        """No state."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """No state to restore."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the first interval."""
        super().on_train_start(trainer, pl_module)
        self._last_global_step_saved = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save at the end of an interval, as Lightning does after a batch."""
        if not self._accumulating:
            self.failure = None
            ModelCheckpoint.on_train_batch_end(self, trainer, pl_module, None, batch, batch_idx)
            if self.failure is not None:
                self.warn_failure("after the next interval")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the steps since the last interval. Raises OSError where that fails."""
        if self._last_global_step_saved != trainer.global_step:
            self._save_or_fail(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save where that is exact; otherwise the checkpoint of the last interval is the better one.

        Raises OSError where it cannot be saved.
        """
        if not isinstance(exception, RunInterrupted):
            return
        if exception.between_steps:
            self._save_or_fail(trainer)
        path = Path(self.dirpath or "", "last.ckpt")
        if trainer.is_global_zero and path.exists():
            where = f"step {self._last_global_step_saved}, saved in {os.path.relpath(path)}"
            log.info("%s: the same command with --ckpt_path last resumes from %s", exception, where)

    def _save_or_fail(self, trainer: Trainer) -> None:
        self._save_checkpoint(trainer, self.format_checkpoint_name({}))
        if self.failure is not None:
            raise OSError(self.failure)


def mark_validation_pending(loops: dict[str, Any]) -> None:
    """Mark a validation as started and not finished in the counters of the fit loop: Lightning then repeats it."""
    progress = loops["epoch_loop.val_loop.batch_progress"]
    done = progress["total"]["completed"]
    progress["total"].update(ready=done + 1, started=done + 1, processed=done, completed=done)
    progress["current"].update(ready=0, started=0, processed=0, completed=0)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its path and renames it, so that a kill leaves the old file or the new one.

    Lightning writes to the system's temporary folder; from another file system, that ends in a plain copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write it and sync it to the disk. Raises OSError in one line where that fails; the previous file stays."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        temporary = temporary_beside(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_through(checkpoint, temporary)
            replace(temporary, target)
        except OSError as error:
            raise _write_error(error, target, checkpoint) from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a file, or all of a folder of shards. Raises ValueError for a path without a checkpoint."""
        if is_sharded_checkpoint(path):
            return read_sharded_checkpoint(path)
        try:
            checkpoint = super().load_checkpoint(path, map_location or (lambda storage, _: storage), weights_only)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(f"{path}: not a checkpoint, or a damaged one") from error
        if not isinstance(checkpoint, dict) or "pytorch-lightning_version" not in checkpoint:
            raise ValueError(f"{path}: not a checkpoint of a run, or a damaged one")
        return checkpoint


def _write_through(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a file and sync it. Raises the error that stopped the writing."""
    try:
        with open_durable(path) as file:
            torch.save(checkpoint, file)
    except RuntimeError as error:
        # Closing a truncated archive, torch raises "unexpected pos" on top of the cause.
        raise error.__context__ or error from None


def _write_error(error: OSError, path: Path, checkpoint: dict[str, Any]) -> OSError:
    """The error under the name of the checkpoint in place of the temporary file's, with its size on a full disk."""
    message = f"{os.path.relpath(path)}: cannot be written: {(error.strerror or str(error)).lower()}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        message += f" (it takes about {format_bytes(_num_bytes(checkpoint))})"
    previous = "; the previous one is unchanged" if path.is_file() else ""
    return OSError(f"{message}{previous}")


def _num_bytes(value: Any) -> int:
    """Bytes of the tensors in a nested value."""
    if isinstance(value, torch.Tensor):
        return value.untyped_storage().nbytes()
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(_num_bytes, children))
