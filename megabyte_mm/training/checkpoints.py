"""A run's checkpoints, best.ckpt and last.ckpt, and how it is stopped without losing or repeating a batch."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO

from megabyte_mm.sharded import is_sharded, put_in_place, read_sharded

log = logging.getLogger(__name__)


class Interrupted(BaseException):  # not an Exception, which Lightning swallows in places
    """A signal ended the run. clean: between two steps, so that a checkpoint written now is exact."""

    def __init__(self, number: int, clean: bool) -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.clean = number, clean


class StopBetweenSteps(Callback):
    """Turns Ctrl-C and SIGTERM into an end between two steps; a second signal ends the run at once.

    Lightning raises KeyboardInterrupt wherever the signal falls, and a checkpoint written then has counted a batch that
    the weights may not have learned from, or half an update. Its `trainer.should_stop` runs a whole validation first.
    So the signal is only noted, and acted upon after the next update. Validation changes nothing and ends at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._trainer: Trainer
        self._step, self._updated = 0, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen from now on, in place of Lightning, which restores the former handlers at the end of the run."""
        self._trainer, self._step = trainer, trainer.global_step
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._note)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Note whether this batch made an update: gradients that are being accumulated are in no checkpoint."""
        self._updated, self._step = trainer.global_step != self._step, trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop here if asked to. The batch that was just fetched is not counted: see LastCheckpoint."""
        if self._updated:
            self._stop_if_asked(trainer)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop here if asked to."""
        self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: Trainer) -> None:
        asked = self.received is not None
        if trainer.world_size > 1:  # the signal may reach one process only, or each at another step
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if asked:
            raise Interrupted(self.received or signal.SIGTERM, clean=True)

    def _note(self, number: int, frame: FrameType | None) -> None:
        alone, again = self._trainer.world_size == 1, self.received is not None
        self.received = number
        if again or (alone and self._trainer.validating):
            raise Interrupted(number, clean=alone and self._trainer.validating)
        if self._trainer.is_global_zero:
            os.write(2, b"\nstopping after this step; once more stops at once\n")  # logging is not safe in a handler


class BestCheckpoint(ModelCheckpoint):
    """Keeps best.ckpt, the lowest val/bpb so far. After a resume it goes on from the best.ckpt in its own folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, filename="best", monitor="val/bpb", enable_version_counter=False)

    @property
    def state_key(self) -> str:
        """The same whatever the settings are."""
        return type(self).__name__

    def state_dict(self) -> dict[str, Any]:
        """No path, so that a run folder may be moved or copied."""
        return {"val/bpb": None if self.best_model_score is None else float(self.best_model_score)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on, unless the run goes on in another folder."""
        path = Path(self.dirpath or "", "best.ckpt")
        if state_dict["val/bpb"] is not None and path.exists():
            self.best_model_score = self.kth_value = torch.tensor(state_dict["val/bpb"], dtype=torch.float64)
            self.best_model_path = self.kth_best_model_path = str(path)
            self.best_k_models = {str(path): self.best_model_score}


class LastCheckpoint(ModelCheckpoint):
    """Keeps last.ckpt: every few minutes of training, at the end, and when StopBetweenSteps ends the run.

    It holds Lightning's counters as they were after the last update or the validation that followed it, whenever it is
    written. They cannot be taken later: they count the next batch once it is fetched, and after the run's last step
    call a half-seen epoch finished, the rest of which a run that is made longer would miss. Nor is it written earlier:
    Lightning resumes from between an update and its validation without validating.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        super().__init__(
            folder, filename="last", train_time_interval=timedelta(minutes=minutes), enable_version_counter=False
        )
        self._counters: dict[str, Any] = {}
        self._saving = False
        self._step, self._updated = 0, False

    @property
    def state_key(self) -> str:
        """The same whatever the settings are."""
        return type(self).__name__

    def state_dict(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the interval."""
        super().on_train_start(trainer, pl_module)
        self._step = self._last_global_step_saved = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the counters, but not while gradients are being accumulated, which no checkpoint holds."""
        self._updated, self._step = trainer.global_step != self._step, trainer.global_step
        if self._updated:
            self._counters = trainer.fit_loop.state_dict()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save when it is time, as Lightning does after a batch."""
        if self._updated:
            super().on_train_batch_end(trainer, pl_module, None, batch, batch_idx)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on, resuming begins with this validation."""
        if not trainer.sanity_checking:
            self._counters = trainer.fit_loop.state_dict()
            validate_first(self._counters)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on, it does not."""
        if not trainer.sanity_checking:
            self._counters = trainer.fit_loop.state_dict()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what came after the last interval."""
        if self._last_global_step_saved != trainer.global_step:
            self._save_checkpoint(trainer, self.format_checkpoint_name({}))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save where that is exact; after any other end, what the last interval left is the better checkpoint."""
        if not isinstance(exception, Interrupted):
            return
        if exception.clean and self._counters:
            self._save_checkpoint(trainer, self.format_checkpoint_name({}))
        path = Path(self.dirpath or "", "last.ckpt")
        if trainer.is_global_zero and path.exists():
            where = f"step {self._last_global_step_saved}, saved in {os.path.relpath(path)}"
            log.info("%s: the same command with --ckpt_path last goes on from %s", exception, where)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put in the counters that resuming begins with. Lightning calls this for other checkpoints too."""
        if self._saving:
            checkpoint["loops"]["fit_loop"] = self._counters

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        self._saving = True
        super()._save_checkpoint(trainer, filepath)
        self._saving = False


def validate_first(loops: dict[str, Any]) -> None:
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
        """Write it, to the disk itself."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f".{place.name}.tmp")  # what a kill leaves of it, the next one overwrites
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            put_in_place(temporary, place)
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read it, of a folder of shards the whole. Raises ValueError for what is no checkpoint."""
        if is_sharded(path):
            return read_sharded(path)
        try:
            return super().load_checkpoint(path, map_location or (lambda storage, _: storage), weights_only)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(f"{path}: not a checkpoint, or a damaged one") from error
