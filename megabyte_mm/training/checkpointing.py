"""A run's checkpoints, best.ckpt and last.ckpt: what is in them, when they are written, and how."""

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
from megabyte_mm.training.signals import RunInterrupted

log = logging.getLogger(__name__)


class RunCheckpoint(ModelCheckpoint):
    """A checkpoint of a fixed name. Where it cannot be written, the former one stays, and the run hears of it.

    It holds Lightning's counters as they were after the last update or the validation that followed it, whenever it is
    written. They cannot be taken later: they count the next batch once it is fetched, also where its gradient is only
    being accumulated, and after the run's last step call a half-seen epoch finished, the rest of which a run that is
    made longer would miss. A validation that falls inside an update is repeated after a resume.

    failure: why the latest attempt failed, the same on every process; None where it did not.
    """

    failure: str | None = None
    _counters: dict[str, Any]
    _step = 0
    _accumulating = False
    _saving = False

    @property
    def state_key(self) -> str:
        """The same whatever the settings are."""
        return type(self).__name__

    @rank_zero_only
    def warn_failure(self, again: str) -> None:
        """Say that training goes on without it. again: when it is tried again."""
        log.warning("%s; training goes on, and it is tried again %s", self.failure, again)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the counters that the run begins with."""
        super().on_train_start(trainer, pl_module)
        self._step, self._counters = trainer.global_step, trainer.fit_loop.state_dict()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the counters, but not while gradients are being accumulated, which no checkpoint holds."""
        self._accumulating, self._step = trainer.global_step == self._step, trainer.global_step
        self._take(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on, resuming begins with this validation."""
        if self._take(trainer):
            mark_validation_pending(self._counters)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on, it does not."""
        self._take(trainer)
        super().on_validation_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put in the counters that resuming begins with. Lightning calls this for other checkpoints too."""
        if self._saving:
            checkpoint["loops"]["fit_loop"] = self._counters

    def _take(self, trainer: Trainer) -> bool:
        """Take the counters where they are those of the weights; whether they are."""
        taken = not trainer.sanity_checking and not self._accumulating
        if taken:
            self._counters = trainer.fit_loop.state_dict()
        return taken

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        failure, saved = None, self._last_global_step_saved
        self._saving = True
        try:
            super()._save_checkpoint(trainer, filepath)
        except OSError as error:
            failure = str(error)
            trainer.strategy.barrier("Trainer.save_checkpoint")  # where the others wait, or have failed as well
        finally:
            self._saving = False
        self.failure = trainer.strategy.broadcast(failure)
        if self.failure is not None:
            self._last_global_step_saved = saved


class BestCheckpoint(RunCheckpoint):
    """Keeps best.ckpt, the lowest val/bpb so far. After a resume it goes on from the best.ckpt in its own folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, filename="best", monitor="val/bpb", enable_version_counter=False)
        self._written: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """No path, so that a run folder may be moved or copied."""
        return {"val/bpb": self._written}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on, unless the run goes on in another folder."""
        if Path(self.dirpath or "", "best.ckpt").exists():
            self._go_back_to(state_dict["val/bpb"])

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raises OSError where the best of the run is in no file, once all else is done."""
        if self.failure is not None:
            raise OSError(self.failure)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        assert self.current_score is not None
        before, self._written = self._written, float(self.current_score)  # which is also in the file
        try:
            super()._save_checkpoint(trainer, filepath)
        except BaseException:
            self._written = before
            raise
        if self.failure is not None:
            self._go_back_to(before)
            self.warn_failure("when a validation is better than the one that it holds")

    def _go_back_to(self, score: float | None) -> None:
        """Compare later validations with what best.ckpt holds."""
        self._written, path = score, str(Path(self.dirpath or "", "best.ckpt"))
        held = None if score is None else torch.tensor(score, dtype=torch.float64)
        self.best_model_path = "" if held is None else path
        self.best_model_score = held
        self.best_k_models = {} if held is None else {path: held}
        if held is not None:
            self.kth_best_model_path, self.kth_value = path, held


class LastCheckpoint(RunCheckpoint):
    """Keeps last.ckpt: every few minutes of training, at the end, and when GracefulStop ends the run.

    It is not written between an update and its validation: Lightning resumes from there without validating.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        super().__init__(
            folder, filename="last", train_time_interval=timedelta(minutes=minutes), enable_version_counter=False
        )

    def state_dict(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the interval."""
        super().on_train_start(trainer, pl_module)
        self._last_global_step_saved = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save when it is time, as Lightning does after a batch."""
        if not self._accumulating:
            self.failure = None
            ModelCheckpoint.on_train_batch_end(self, trainer, pl_module, None, batch, batch_idx)
            if self.failure is not None:
                self.warn_failure("after the next interval")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what came after the last interval. Raises OSError where that fails."""
        if self._last_global_step_saved != trainer.global_step:
            self._save_or_fail(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save where that is exact; after any other end, what the last interval left is the better checkpoint.

        Raises OSError where it cannot be saved.
        """
        if not isinstance(exception, RunInterrupted):
            return
        if exception.clean:
            self._save_or_fail(trainer)
        path = Path(self.dirpath or "", "last.ckpt")
        if trainer.is_global_zero and path.exists():
            where = f"step {self._last_global_step_saved}, saved in {os.path.relpath(path)}"
            log.info("%s: the same command with --ckpt_path last goes on from %s", exception, where)

    def _save_or_fail(self, trainer: Trainer) -> None:
        self._save_checkpoint(trainer, self.format_checkpoint_name({}))
        if self.failure is not None:
            raise OSError(self.failure)


def mark_validation_pending(loops: dict[str, Any]) -> None:
    """Let the counters of the fit loop say that a validation was begun and not ended, which Lightning then repeats."""
    progress = loops["epoch_loop.val_loop.batch_progress"]
    done = progress["total"]["completed"]
    progress["total"].update(ready=done + 1, started=done + 1, processed=done, completed=done)
    progress["current"].update(ready=0, started=0, processed=0, completed=0)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and puts it there in one step, so that a kill leaves the old or the new one.

    Lightning writes to the system's temporary folder, and moving a file from another file system is a mere copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write it, to the disk itself. Raises OSError, in one line, where that fails: what was there before stays."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        place = Path(path)
        temporary = temporary_beside(place)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            _write_through(checkpoint, temporary)
            replace(temporary, place)
        except OSError as error:
            raise _explained(error, place, checkpoint) from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read it, of a folder of shards the whole. Raises ValueError for what is no checkpoint."""
        if is_sharded_checkpoint(path):
            return read_sharded_checkpoint(path)
        try:
            found = super().load_checkpoint(path, map_location or (lambda storage, _: storage), weights_only)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(f"{path}: not a checkpoint, or a damaged one") from error
        if not isinstance(found, dict) or "pytorch-lightning_version" not in found:
            raise ValueError(f"{path}: not a checkpoint of a run, or a damaged one")
        return found


def _write_through(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a file, to the disk itself. Raises what stopped the writing."""
    try:
        with open_durable(path) as file:
            torch.save(checkpoint, file)
    except RuntimeError as error:
        # Closing what was cut short, torch finds "unexpected pos" and puts that in front of the cause.
        raise error.__context__ or error from None


def _explained(error: OSError, place: Path, checkpoint: dict[str, Any]) -> OSError:
    """The error by the name of the checkpoint, not of the temporary file, with what it takes where space ran out."""
    told = f"{os.path.relpath(place)}: cannot be written: {(error.strerror or str(error)).lower()}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        told += f" (it takes about {_bytes_of(checkpoint) / 1e6:.1f} MB)"
    kept = "; the earlier one is as it was" if place.is_file() else ""
    return OSError(f"{told}{kept}")


def _bytes_of(value: Any) -> int:
    """How much the tensors in a nested value take."""
    if isinstance(value, torch.Tensor):
        return value.untyped_storage().nbytes()
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(_bytes_of, inside))
