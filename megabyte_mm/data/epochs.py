"""What Lightning forgets of epochs when a run resumes."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer


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
