"""How a run is stopped by a signal: between two steps, so that no batch is lost or repeated."""

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

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C; what batch systems send at a time limit; what SLURM is commonly asked to send before one."""


class RunInterrupted(BaseException):  # not an Exception, which Lightning swallows in places
    """A signal ended the run.

    clean: between two steps, so that a checkpoint written now is exact. leader: this process speaks for all.
    requeue: SLURM is to run the job again.
    """

    def __init__(self, number: int, clean: bool, leader: bool = True, requeue: bool = False) -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.clean, self.leader, self.requeue = number, clean, leader, requeue

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as a shell has it, of one process: launchers kill all once a process fails."""
        return 128 + self.number if self.leader or not self.clean else 0


@contextmanager
def raise_on_signal() -> Iterator[None]:
    """Let signals that would kill the process raise RunInterrupted, so that files are cleaned up on the way out.

    Ctrl-C keeps raising KeyboardInterrupt. At the end, the former handlers come back.
    """
    before = {number: signal.getsignal(number) for number in STOPPING}
    _end_at_once()
    try:
        yield
    finally:
        for number, handler in before.items():
            _handle(number, handler)


def _end_at_once() -> None:
    for number in STOPPING:
        if number != signal.SIGINT:
            _handle(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    raise RunInterrupted(number, clean=False)


def _handle(number: int, handler: Any) -> None:
    if threading.current_thread() is threading.main_thread():  # Python lets no other thread do it
        signal.signal(number, handler)


class GracefulStop(Callback):
    """Turns signals into an end between two steps; a further Ctrl-C ends the run at once.

    Lightning raises KeyboardInterrupt wherever Ctrl-C falls, and saves on SLURM's signal wherever that falls, and a
    checkpoint written then has counted a batch that the weights may not have learned from, or half an update. Its
    `trainer.should_stop` runs a whole validation first. So the signal is only noted, and acted upon after the next
    update. Validation changes nothing and ends at once.
    """

    def __init__(self) -> None:
        self.received = 0
        self._trainer: Trainer
        self._process = 0
        self._step, self._updated = 0, False

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Outside training nothing can be lost: end at once. Lightning's handlers note SIGTERM and go on."""
        _end_at_once()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same in the command validate."""
        if trainer.state.fn != TrainerFn.FITTING:
            _end_at_once()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same."""
        _end_at_once()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen from now on, in place of Lightning, which restores the former handlers at the end of the run."""
        self._trainer, self._step, self._process = trainer, trainer.global_step, os.getpid()
        for number in {*STOPPING, _requeue_signal(trainer)} - {None}:
            _handle(number, self._note)

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

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take along the processes that this one started, unless all of them stop at the same step."""
        launcher = trainer.strategy.launcher
        if isinstance(exception, RunInterrupted) and not exception.clean and isinstance(launcher, _Launcher):
            launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))  # they may wait for this one, deaf to the rest

    def _stop_if_asked(self, trainer: Trainer) -> None:
        number = self.received
        if trainer.world_size > 1:  # the signal may reach one process only, or each at another step
            heard = torch.tensor(number, device=trainer.strategy.root_device)
            number = int(trainer.strategy.reduce(heard, reduce_op="max"))
        if number:
            raise self._interrupted(number)

    def _interrupted(self, number: int) -> RunInterrupted:
        trainer = self._trainer
        requeue = number == _requeue_signal(trainer) and bool(trainer.checkpoint_callbacks)
        return RunInterrupted(number, True, trainer.is_global_zero, requeue and trainer.is_global_zero)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a process that loads batches, which has the handler from this one
            return
        # Only Ctrl-C is a person's: launchers pass on SIGTERM to processes that have heard it already.
        again, self.received = bool(self.received), self.received or number
        if again and number == signal.SIGINT:
            raise RunInterrupted(number, clean=False)
        if self._trainer.world_size == 1 and self._trainer.validating:
            raise self._interrupted(self.received)
        if self._trainer.is_global_zero and not again:
            os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")  # logging is not safe here


def _requeue_signal(trainer: Trainer) -> int | None:
    """The signal upon which Lightning would have SLURM run this job again, if there is one."""
    environment = trainer._accelerator_connector.cluster_environment
    return (
        environment.requeue_signal if isinstance(environment, SLURMEnvironment) and environment.auto_requeue else None
    )


def requeue_job() -> None:
    """Ask SLURM to run this job again, by `scontrol requeue`; say so where that fails."""
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
        log.info("SLURM will run job %s again, and it goes on from there", job)


def was_requeued() -> bool:
    """Whether SLURM runs this job again, after a requeue or the failure of a machine."""
    return os.environ.get("SLURM_RESTART_COUNT", "0").strip() not in ("", "0")
