"""Signals stop a run between two steps, so that no batch is lost or repeated."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies.launchers.launcher import _Launcher
from lightning.pytorch.trainer.states import TrainerFn

log = logging.getLogger(__name__)

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C; the signal of batch systems at a time limit; the one that SLURM jobs usually request before it."""


class RunInterrupted(BaseException):  # not an Exception, which Lightning swallows in places
    """A signal ended the run.

    between_steps: a checkpoint written now is exact. is_leader: this is the first process of the run. requeue: SLURM
    is to run the job again.
    """

    def __init__(self, number: int, between_steps: bool, is_leader: bool = True, requeue: bool = False) -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.between_steps, self.is_leader, self.requeue = number, between_steps, is_leader, requeue

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as in a shell; 0 on all but the first process where all stop together.

        Launchers kill every process once one has failed.
        """
        return 128 + self.number if self.is_leader or not self.between_steps else 0


@contextmanager
def raise_on_signal() -> Iterator[None]:
    """Raise RunInterrupted for signals that would kill the process, so that temporary files are removed.

    Ctrl-C still raises KeyboardInterrupt. The previous handlers are restored at the end.
    """
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    _raise_at_once()
    try:
        yield
    finally:
        for number, handler in before.items():
            _handle(number, handler)


def _raise_at_once() -> None:
    for number in STOP_SIGNALS:
        if number != signal.SIGINT:
            _handle(number, _raise)


def _raise(number: int, frame: FrameType | None) -> None:
    raise RunInterrupted(number, between_steps=False)


def _handle(number: int, handler: Any) -> None:
    if threading.current_thread() is threading.main_thread():  # the only thread that Python allows to
        signal.signal(number, handler)


class GracefulStop(Callback):
    """Stops the run after the current update on a signal; a second Ctrl-C stops it at once.

    Lightning raises KeyboardInterrupt wherever Ctrl-C arrives, and saves wherever SLURM's signal arrives: such a
    checkpoint counts a batch that the weights may not have learned from, or half an update. Its `trainer.should_stop`
    runs a whole validation first. So the handler only notes the signal, and the run stops after the next update.
    Validation changes nothing and stops at once.
    """

    def __init__(self) -> None:
        self.received = 0
        self._trainer: Trainer
        self._process = 0
        self._step, self._updated = 0, False

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once outside training, where nothing can be lost; Lightning's handlers only note SIGTERM."""
        _raise_at_once()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once in the command validate."""
        if trainer.state.fn != TrainerFn.FITTING:
            _raise_at_once()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once in the command test."""
        _raise_at_once()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the handlers, in place of Lightning's, which restores the previous ones at the end of the run."""
        self._trainer, self._step, self._process = trainer, trainer.global_step, os.getpid()
        for number in {*STOP_SIGNALS, _requeue_signal(trainer)} - {None}:
            _handle(number, self._note)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Note whether this batch made an update: checkpoints hold no accumulated gradients."""
        self._updated, self._step = trainer.global_step != self._step, trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop here after a signal. The batch that was just fetched is not counted: see RunCheckpoint."""
        if self._updated:
            self._stop_if_signaled(trainer)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop here after a signal."""
        self._stop_if_signaled(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Kill the processes that this one started, unless all of them stop at the same step."""
        launcher = trainer.strategy.launcher
        if isinstance(exception, RunInterrupted) and not exception.between_steps and isinstance(launcher, _Launcher):
            launcher.kill(
                getattr(signal, "SIGKILL", signal.SIGTERM)
            )  # they may be blocked in a collective call and ignore other signals

    def _stop_if_signaled(self, trainer: Trainer) -> None:
        number = self.received
        if trainer.world_size > 1:  # the signal may reach one process only, or each at another step
            own = torch.tensor(number, device=trainer.strategy.root_device)
            number = int(trainer.strategy.reduce(own, reduce_op="max"))
        if number:
            raise self._interrupted(number)

    def _interrupted(self, number: int) -> RunInterrupted:
        trainer = self._trainer
        requeue = number == _requeue_signal(trainer) and bool(trainer.checkpoint_callbacks)
        return RunInterrupted(number, True, trainer.is_global_zero, requeue and trainer.is_global_zero)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that loads batches, which inherits the handler
            return
        # Only a second Ctrl-C is a user's wish: launchers pass SIGTERM on to processes that have received it.
        again, self.received = bool(self.received), self.received or number
        if again and number == signal.SIGINT:
            raise RunInterrupted(number, between_steps=False)
        if self._trainer.world_size == 1 and self._trainer.validating:
            raise self._interrupted(self.received)
        if self._trainer.is_global_zero and not again:
            os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")  # logging is not safe here


def _requeue_signal(trainer: Trainer) -> int | None:
    """The signal on which Lightning would let SLURM run this job again, if any."""
    environment = trainer._accelerator_connector.cluster_environment
    return (
        environment.requeue_signal if isinstance(environment, SLURMEnvironment) and environment.auto_requeue else None
    )


def requeue_job() -> None:
    """Let SLURM run this job again, by `scontrol requeue`; log a warning where that fails."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
    command = ["scontrol", "requeue", job]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        reason = done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else ""
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        log.warning("%s failed: %s", " ".join(command), reason)
    else:
        log.info("SLURM will run job %s again, and it resumes from there", job)


def was_requeued() -> bool:
    """True where SLURM runs this job again, after a requeue or the failure of a machine."""
    return os.environ.get("SLURM_RESTART_COUNT", "0").strip() not in ("", "0")
