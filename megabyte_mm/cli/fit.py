"""`fit`, `validate` and `test`: LightningCLI with run folders, defaults and one-line errors."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import torch
from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.plugins import TorchCheckpointIO

from data_adapters.io import recover
from megabyte_mm.checkpoint import last_checkpoint_hint
from megabyte_mm.checkpoint.dcp import is_sharded_checkpoint
from megabyte_mm.cli.arguments import ExamplesFormatter
from megabyte_mm.cli.commands import TRAINING_COMMANDS
from megabyte_mm.cli.config import ConfigParser, add_settings, check_nulls, explain, whole_field_names
from megabyte_mm.cli.former_names import with_present_options
from megabyte_mm.data.module import ByteData
from megabyte_mm.errors import FieldError
from megabyte_mm.models import check_registered
from megabyte_mm.training.callback_checks import check_callbacks, monitor_error, refused_in
from megabyte_mm.training.callbacks import RunReport, Throughput
from megabyte_mm.training.checkpointing import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint
from megabyte_mm.training.claim import claimed
from megabyte_mm.training.compatibility import check_settings
from megabyte_mm.training.console import StepProgressBar, configure_output
from megabyte_mm.training.distributed import check_strategy, register_strategies
from megabyte_mm.training.divergence import StopDiverged
from megabyte_mm.training.end_report import EndReport
from megabyte_mm.training.loggers import make_loggers
from megabyte_mm.training.module import ByteLM
from megabyte_mm.training.run_folder import CHECKPOINTS
from megabyte_mm.training.signals import GracefulStop, RunInterrupted, raise_on_signal, requeue_job, was_requeued
from megabyte_mm.training.trainer import best_precision, check_writable, keep_freed_memory

log = logging.getLogger(__name__)


class TrainingCLI(LightningCLI):
    """LightningCLI for ByteLM and ByteData.

    The folder of a run is trainer.default_root_dir, with best.ckpt, last.ckpt, and logs and samples below logs/.
    """

    claims: ExitStack
    """Ends with the command: holds the folder of the run."""

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the sections that all readers of configs share."""
        add_settings(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse `args`; Lightning's own method would also warn that sys.argv is not empty."""
        assert isinstance(args, list)
        self.config = parser.parse_args(with_present_options(args))

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would read hyperparameters from the checkpoint, but those of this run count."""

    def before_instantiate_classes(self) -> None:
        """Refuse settings that are null and must not be."""
        check_nulls(self.config[str(self.subcommand)])

    def instantiate_classes(self) -> None:
        """Create model, data and trainer, and refuse settings that do not fit together before any file is read."""
        with whole_field_names(self.config[str(self.subcommand)]):
            super().instantiate_classes()
        checkpoint = self._get(self.config_init, "ckpt_path")
        assert isinstance(self.model, ByteLM)
        assert isinstance(self.datamodule, ByteData)
        try:
            check_registered(self.model.net)
        except ValueError as error:
            raise ValueError(f"model.net: {error}") from error
        self.model.init_from = self._initial(checkpoint)
        is_here = checkpoint is not None and _is_checkpoint(checkpoint)
        check_settings(self.model.net, self.model.method, self.datamodule, checkpoint if is_here else None)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Create the trainer, with our loggers, checkpoints and progress bar where the user sets none."""
        config = self._get(self.config_init, "trainer")
        root = Path(config.default_root_dir).expanduser()
        training = self.subcommand == "fit"
        check_strategy(config.strategy)
        command_config = self.config_init[str(self.subcommand)]
        if training and not config.fast_dev_run:
            check_writable(root)
            self.claims.enter_context(claimed(root))
        command_config.ckpt_path = self._checkpoint(root, training)
        if command_config.weights_only is False:
            raise ValueError("weights_only false would run whatever code a checkpoint holds: leave it out")
        command_config.weights_only = True  # not Lightning's default for a checkpoint at a URL
        callbacks = self._callbacks(config, root, training)
        extra: dict[str, Any] = {"callbacks": callbacks}
        if config.precision is None:
            extra["precision"] = best_precision(config.accelerator)
        if config.logger in (None, True):
            extra["logger"] = make_loggers(root) if training else False
        if config.enable_model_summary is None:
            extra["enable_model_summary"] = False  # RunReport logs a line
        if config.enable_progress_bar is None:
            extra["enable_progress_bar"] = any(isinstance(callback, ProgressBar) for callback in callbacks)
        trainer: Trainer = super().instantiate_trainer(**extra, **kwargs)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        if trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        return trainer

    def _initial(self, checkpoint: str | None) -> str | None:
        """The path of --init_from, if any. Raises ValueError beside a checkpoint to resume, which has all weights."""
        path: str | None = self._get(self.config_init, "init_from")
        if path is not None and self.subcommand == "fit" and checkpoint is not None and not self._resumes_last:
            raise ValueError(f"--init_from {path}: --ckpt_path {checkpoint} has all weights; give one of the two")
        return path

    def _callbacks(self, config: Any, root: Path, training: bool) -> list[Callback]:
        user_callbacks = config.callbacks or []
        callbacks: list[Callback] = list(user_callbacks) if isinstance(user_callbacks, list) else [user_callbacks]
        check_callbacks(callbacks)
        bar = config.enable_progress_bar or (config.enable_progress_bar is None and sys.stderr.isatty())
        if bar and not any(isinstance(callback, ProgressBar) for callback in callbacks):
            callbacks.append(StepProgressBar())
        callbacks.append(GracefulStop())
        if not training:
            return callbacks
        callbacks += [Throughput(), RunReport(), EndReport(root), StopDiverged()]
        if config.logger is not False:
            callbacks.append(LearningRateMonitor("step"))
        minutes = self._get(self.config_init, "checkpoint_minutes")
        if not 0 <= minutes < math.inf:
            raise FieldError("checkpoint_minutes", f"is {minutes}; it must be a number, and not negative")
        if config.enable_checkpointing is not False and not config.fast_dev_run:
            callbacks += [BestCheckpoint(root), LastCheckpoint(root, minutes)]
        return callbacks

    def _checkpoint(self, root: Path, training: bool) -> str | None:
        """The path of --ckpt_path, if any. Raises ValueError where a new run would replace a checkpoint."""
        path: str | None = self._get(self.config_init, "ckpt_path")
        # A job script may have both: it begins with other weights once, and resumes its own run from then on.
        self._resumes_last = path in (None, "last")
        for name in CHECKPOINTS:
            recover(root / name)
        existing = {name: str(root / name) for name in CHECKPOINTS if _is_checkpoint(root / name)}
        if path is None and training and was_requeued():
            path = "last"  # the job script is the one that started the run
        if path is None and training and existing and not self._get(self.config_init, "trainer").fast_dev_run:
            raise ValueError(
                f"{root} holds an earlier run: add --ckpt_path last to resume it, "
                "or --trainer.default_root_dir with another folder to start a new one"
            )
        if path is None and not training:
            raise ValueError("--ckpt_path is missing: a file, or best or last of trainer.default_root_dir")
        if path == "last" and training and not existing:
            log.info("%s holds no checkpoint yet: starting from the beginning", root)
            return None
        if path == "last":
            return existing.get("last.ckpt") or existing.get("best.ckpt") or _missing(root / "last.ckpt")
        if path == "best":
            return existing.get("best.ckpt") or _missing(root / "best.ckpt")
        if path is None or path == "hpc" or path.startswith("registry") or "://" in path:
            return path
        return path if _is_checkpoint(path) else _missing(path)


class SaveRunConfig(SaveConfigCallback):
    """Saves config.yaml in the log folder, or in the run's folder where a logger has its files elsewhere.

    Loggers of services, such as Wandb's, may name the current folder, where a config.yaml would be replaced.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save it once, before training."""
        log_dir, root = trainer.log_dir, Path(trainer.default_root_dir).resolve()
        self.save_to_log_dir = log_dir is not None and Path(log_dir).resolve().is_relative_to(root)
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save it in the run's folder where Lightning has not saved it."""
        if not self.save_to_log_dir:
            path = Path(trainer.default_root_dir, self.config_filename)
            self.parser.save(self.config, path, skip_none=False, overwrite=True, multifile=self.multifile)


def _is_checkpoint(path: str | Path) -> bool:
    return Path(path).is_file() or is_sharded_checkpoint(path)


def _missing(path: Any) -> NoReturn:
    raise ValueError(f"--ckpt_path: there is no file {path}{last_checkpoint_hint(path)}")


def run(name: str, arguments: Sequence[str]) -> None:
    """Run fit, validate or test. Raises ValueError for unusable arguments, and SystemExit after a signal."""
    configure_output()
    register_strategies()
    try:
        with raise_on_signal(), ExitStack() as claims:
            _run(name, arguments, claims)
    except ArgumentError as error:
        raise refused_in(str(error)) or ValueError(explain(str(error))) from error
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error
    except RunInterrupted as stop:
        if stop.requeue:
            requeue_job()
        raise SystemExit(stop.exit_code) from None
    except RuntimeError as error:
        if (wrong_monitor := monitor_error(error)) is not None:
            raise wrong_monitor from error
        if not is_peer_failure(error):
            raise
        log.error("another process of this run has failed; its own message has the reason")
        raise SystemExit(1) from None
    except SystemExit as stop:  # Lightning exits on Ctrl-C outside training
        raise SystemExit(130 if isinstance(stop.__context__, KeyboardInterrupt) else stop.code) from None


def is_peer_failure(error: RuntimeError) -> bool:
    """Return whether the error is that another process of the run has ended."""
    lost = getattr(torch.distributed, "DistBackendError", ()), getattr(torch.distributed, "DistNetworkError", ())
    return isinstance(error, lost) or "Connection closed by peer" in str(error)


def _run(name: str, arguments: Sequence[str], claims: ExitStack) -> None:
    command = TRAINING_COMMANDS[name]
    own_parser = {
        "exit_on_error": False,
        "usage": f"megabyte-mm {name} [--config CONFIG] [--data.path PATH] [options]",
        "description": f"{command.summary[0].upper()}{command.summary[1:]}.",
        "epilog": f"examples:\n  {command.example}",
    }
    members = {"subcommands": staticmethod(lambda: _subcommands(name)), "claims": claims}
    type("SingleCommandCLI", (TrainingCLI,), members)(
        ByteLM,
        ByteData,
        args=[name, *arguments],
        parser_class=ConfigParser,
        seed_everything_default=0,
        # A subparser takes its formatter from the main parser.
        parser_kwargs={"exit_on_error": False, "formatter_class": ExamplesFormatter, name: own_parser},
        save_config_callback=SaveRunConfig if name == "fit" else None,
        save_config_kwargs={"overwrite": True},
        auto_configure_optimizers=False,
    )


def _subcommands(name: str) -> dict[str, set[str]]:
    """Only the command that runs, with the arguments of the trainer's method that the CLI fills in itself."""
    loaders = {"train_dataloaders", "val_dataloaders"} if name == "fit" else {"dataloaders"}
    return {name: {"model", "datamodule", *loaders}}
