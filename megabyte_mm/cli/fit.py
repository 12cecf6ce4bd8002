"""fit, validate and test: LightningCLI with this project's defaults, run folders and one-line errors."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.plugins import TorchCheckpointIO

from data_adapters.io import recover
from megabyte_mm.checkpoint import last_checkpoint_hint
from megabyte_mm.checkpoint.dcp import is_sharded_checkpoint
from megabyte_mm.cli.arguments import ExamplesFormatter
from megabyte_mm.cli.config import ConfigParser, add_settings, check_nulls, explain
from megabyte_mm.cli.former_names import with_present_options
from megabyte_mm.data.module import ByteData
from megabyte_mm.models import check_registered
from megabyte_mm.training.callbacks import RunReport, Throughput
from megabyte_mm.training.checkpointing import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint
from megabyte_mm.training.compatibility import check_agreement
from megabyte_mm.training.console import StepProgressBar, configure_output
from megabyte_mm.training.distributed import check_strategy, register_strategies
from megabyte_mm.training.loggers import make_loggers
from megabyte_mm.training.module import ByteLM
from megabyte_mm.training.signals import GracefulStop, RunInterrupted, raise_on_signal, requeue_job, was_requeued
from megabyte_mm.training.trainer import best_precision, check_writable, keep_freed_memory

log = logging.getLogger(__name__)


class TrainingCLI(LightningCLI):
    """LightningCLI for ByteLM and ByteData.

    A run's folder is trainer.default_root_dir: best.ckpt and last.ckpt lie in it, logs and samples below logs/.
    """

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the sections that all readers of configs share."""
        add_settings(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse `args`; Lightning's own method would also warn that sys.argv is not empty."""
        assert isinstance(args, list)
        self.config = parser.parse_args(with_present_options(args))

    def _parse_ckpt_path(self) -> None:
        """Leave the checkpoint closed: Lightning looks for hyperparameters in it, and this run's own count."""

    def before_instantiate_classes(self) -> None:
        """Refuse settings that are null and must not be."""
        check_nulls(self.config[str(self.subcommand)])

    def instantiate_classes(self) -> None:
        """Model, data and trainer; what does not fit together by the settings alone is told before a file is read."""
        super().instantiate_classes()
        data = self._get(self.config, "data")
        checkpoint = self._get(self.config_init, "ckpt_path")
        assert isinstance(self.model, ByteLM)
        try:
            check_registered(self.model.net)
        except ValueError as error:
            raise ValueError(f"model.net: {error}") from error
        is_here = checkpoint is not None and (Path(checkpoint).is_file() or is_sharded_checkpoint(checkpoint))
        check_agreement(self.model.net, self.model.method, data.as_dict(), checkpoint if is_here else None)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with our loggers, checkpoints and progress bar, as far as the user set none."""
        config = self._get(self.config_init, "trainer")
        root = Path(config.default_root_dir).expanduser()
        training = self.subcommand == "fit"
        check_strategy(config.strategy)
        own = self.config_init[str(self.subcommand)]
        own.ckpt_path = self._checkpoint(root, training)
        if own.weights_only is False:
            raise ValueError("weights_only false would run whatever code a checkpoint holds: leave it out")
        own.weights_only = True  # which is not Lightning's default for a checkpoint at a URL
        if training and not config.fast_dev_run:
            check_writable(root)
        callbacks = self._callbacks(config, root, training)
        extra: dict[str, Any] = {"callbacks": callbacks}
        if config.precision is None:
            extra["precision"] = best_precision(config.accelerator)
        if config.logger in (None, True):
            extra["logger"] = make_loggers(root) if training else False
        if config.enable_model_summary is None:
            extra["enable_model_summary"] = False  # RunReport says it in a line
        if config.enable_progress_bar is None:
            extra["enable_progress_bar"] = any(isinstance(callback, ProgressBar) for callback in callbacks)
        trainer: Trainer = super().instantiate_trainer(**extra, **kwargs)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        if trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        return trainer

    def _callbacks(self, config: Any, root: Path, training: bool) -> list[Callback]:
        given = config.callbacks or []
        callbacks: list[Callback] = list(given) if isinstance(given, list) else [given]
        bar = config.enable_progress_bar or (config.enable_progress_bar is None and sys.stderr.isatty())
        if bar and not any(isinstance(callback, ProgressBar) for callback in callbacks):
            callbacks.append(StepProgressBar())
        callbacks.append(GracefulStop())
        if not training:
            return callbacks
        callbacks += [Throughput(), RunReport()]
        if config.logger is not False:
            callbacks.append(LearningRateMonitor("step"))
        minutes = self._get(self.config_init, "checkpoint_minutes")
        if minutes < 0:
            raise ValueError(f"checkpoint_minutes is {minutes}; it must not be negative")
        if config.enable_checkpointing is not False and not config.fast_dev_run:
            callbacks += [BestCheckpoint(root), LastCheckpoint(root, minutes)]
        return callbacks

    def _checkpoint(self, root: Path, training: bool) -> str | None:
        """The file that --ckpt_path means, if any; a new run is refused where one lies: it would replace it."""
        asked: str | None = self._get(self.config_init, "ckpt_path")
        places = root / "best.ckpt", root / "last.ckpt"
        for path in places:
            recover(path)
        there = {path.stem: str(path) for path in places if path.is_file() or is_sharded_checkpoint(path)}
        if asked is None and training and was_requeued():
            asked = "last"  # the job script that began this run says no more than it did then
        if asked is None and training and there and not self._get(self.config_init, "trainer").fast_dev_run:
            raise ValueError(
                f"{root} holds an earlier run: add --ckpt_path last to go on with it, "
                "or --trainer.default_root_dir with another folder to begin a new one"
            )
        if asked is None and not training:
            raise ValueError(
                "say what to measure: --ckpt_path with a file, or best or last of trainer.default_root_dir"
            )
        if asked == "last" and training and not there:
            log.info("%s holds no checkpoint yet: starting from the beginning", root)
            return None
        if asked == "last":
            return there.get("last") or there.get("best") or _missing(root / "last.ckpt")
        if asked == "best":
            return there.get("best") or _missing(root / "best.ckpt")
        if asked is None or asked == "hpc" or asked.startswith("registry") or "://" in asked:
            return asked
        return asked if Path(asked).is_file() or is_sharded_checkpoint(asked) else _missing(asked)


def _missing(path: Any) -> NoReturn:
    raise ValueError(f"--ckpt_path: there is no file {path}{last_checkpoint_hint(path)}")


def run(name: str, arguments: Sequence[str], commands: Mapping[str, Any]) -> None:
    """Run fit, validate or test. Raises ValueError for arguments that cannot be used, SystemExit after a signal."""
    configure_output()
    register_strategies()
    try:
        with raise_on_signal():
            _run(name, arguments, commands[name])
    except ArgumentError as error:
        raise ValueError(explain(str(error))) from error
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error
    except RunInterrupted as stop:
        if stop.requeue:
            requeue_job()
        raise SystemExit(stop.exit_code) from None
    except RuntimeError as error:
        if not is_peer_failure(error):
            raise
        log.error("another process of this run has ended, and says why")
        raise SystemExit(1) from None
    except SystemExit as stop:  # what Lightning makes of Ctrl-C outside training
        raise SystemExit(130 if isinstance(stop.__context__, KeyboardInterrupt) else stop.code) from None


def is_peer_failure(error: RuntimeError) -> bool:
    """Whether a process could not go on because another one of the run had ended."""
    lost = getattr(torch.distributed, "DistBackendError", ()), getattr(torch.distributed, "DistNetworkError", ())
    return isinstance(error, lost) or "Connection closed by peer" in str(error)


def _run(name: str, arguments: Sequence[str], command: Any) -> None:
    own_parser = {
        "exit_on_error": False,
        "usage": f"megabyte-mm {name} [--config CONFIG] [--data.path PATH] [options]",
        "description": f"{command.summary[0].upper()}{command.summary[1:]}.",
        "epilog": f"examples:\n  {command.example}",
    }
    only = type("OnlyCLI", (TrainingCLI,), {"subcommands": staticmethod(lambda: _skipped(name))})
    only(
        ByteLM,
        ByteData,
        args=[name, *arguments],
        parser_class=ConfigParser,
        seed_everything_default=0,
        # A subparser takes its formatter from the program's parser.
        parser_kwargs={"exit_on_error": False, "formatter_class": ExamplesFormatter, name: own_parser},
        save_config_callback=SaveConfigCallback if name == "fit" else None,
        save_config_kwargs={"overwrite": True},
        auto_configure_optimizers=False,
    )


def _skipped(name: str) -> dict[str, set[str]]:
    """The one command that is run, with the arguments of the trainer's method that the CLI fills in itself."""
    loaders = {"train_dataloaders", "val_dataloaders"} if name == "fit" else {"dataloaders"}
    return {name: {"model", "datamodule", *loaders}}
