"""fit, validate and test: LightningCLI with this project's defaults, run folders and one-line errors."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelSummary, ProgressBar, RichProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from megabyte_mm.data.module import ByteData
from megabyte_mm.helptext import ExamplesFormatter
from megabyte_mm.training.callbacks import LastCheckpoint, SampleWriter, Throughput, ValidationReport, best_checkpoint
from megabyte_mm.training.memory import keep_freed_memory
from megabyte_mm.training.module import ByteLM

TRAINER_DEFAULTS: dict[str, Any] = {
    "default_root_dir": "runs/megabyte",
    "max_steps": 5000,
    "val_check_interval": 500,
    "check_val_every_n_epoch": None,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 20,
    "num_sanity_val_steps": 0,
    # ByteData shards its windows itself, and exactly.
    "use_distributed_sampler": False,
}


class TrainingCLI(LightningCLI):
    """LightningCLI for ByteLM and ByteData.

    A run's folder is trainer.default_root_dir: best.ckpt and last.ckpt lie in it, logs and samples below logs/.
    """

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Sections for the samples drawn at each validation, and for how often last.ckpt is written."""
        parser.add_lightning_class_args(SampleWriter, "samples")
        parser.add_argument(
            "--checkpoint_minutes", type=float, default=2.0, help="Write last.ckpt every so many minutes of training."
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse what was passed in; unlike Lightning's own, without a warning that sys.argv says something too."""
        self.config = parser.parse_args(args)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with our loggers, checkpoints and progress bar, as far as the user set none."""
        config = self._get(self.config_init, "trainer")
        root = Path(config.default_root_dir)
        training = self.subcommand == "fit"
        if training:
            self._check_run_folder(root)
        extra: dict[str, Any] = {}
        if config.precision is None:
            extra["precision"] = best_precision(config.accelerator)
        if config.logger in (None, True):
            extra["logger"] = loggers(root) if training else False
        callbacks = list(config.callbacks or [])
        if training and config.enable_checkpointing is not False and not config.fast_dev_run:
            every = timedelta(minutes=self._get(self.config_init, "checkpoint_minutes"))
            callbacks += [best_checkpoint(root), LastCheckpoint(root, every)]
        if config.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(RichProgressBar(refresh_rate=20))
        if training:
            callbacks += [Throughput(), ValidationReport()]
            if config.logger is not False:
                callbacks.append(LearningRateMonitor("step"))
        trainer: Trainer = super().instantiate_trainer(callbacks=callbacks, **extra, **kwargs)
        if trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        return trainer

    def _check_run_folder(self, root: Path) -> None:
        """Refuse to begin a new run where one lies already: its checkpoints would be replaced."""
        last = root / "last.ckpt"
        asked = self._get(self.config_init, "ckpt_path")
        if asked is None and last.exists():
            raise ValueError(
                f"{root} holds an earlier run: add --ckpt_path last to go on with it, "
                "or --trainer.default_root_dir with another folder to begin a new one"
            )
        if asked is not None and asked not in ("last", "best", "hpc", "registry") and not Path(asked).is_file():
            raise ValueError(f"--ckpt_path {asked}: no such file")


def loggers(root: Path) -> list[CSVLogger | TensorBoardLogger]:
    """A CSV and a TensorBoard log in the same new folder logs/version_N, so that a resumed run keeps what was logged."""
    csv = CSVLogger(root, name="logs")
    return [csv, TensorBoardLogger(root, name="logs", version=csv.version)]


def best_precision(accelerator: Any) -> str:
    """bf16-mixed where the hardware multiplies bfloat16 fast, else 32-true."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if accelerator != "cpu" and torch.backends.mps.is_available():
        return "32-true"
    return "bf16-mixed" if torch.backends.cpu.get_cpu_capability().startswith("AVX512") and _has_bf16() else "32-true"


def _has_bf16() -> bool:
    flags = Path("/proc/cpuinfo")
    return flags.exists() and "avx512_bf16" in flags.read_text(encoding="utf-8", errors="replace")


def run(name: str, arguments: Sequence[str], commands: Mapping[str, Any]) -> None:
    """Run fit, validate or test. Raises ValueError for arguments that cannot be used."""
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    ours = logging.getLogger("megabyte_mm")
    ours.setLevel(logging.INFO)
    if not ours.handlers:
        ours.addHandler(logging.StreamHandler())
    _quiet_what_no_user_can_change()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_advertising)
    command = commands[name]
    own_parser = {
        "exit_on_error": False,
        "usage": f"megabyte-mm {name} [--config CONFIG] [--data.path PATH] [options]",
        "description": f"{command.summary[0].upper()}{command.summary[1:]}.",
        "epilog": f"examples:\n  {command.example}",
        "formatter_class": ExamplesFormatter,
    }
    only = type("OnlyCLI", (TrainingCLI,), {"subcommands": staticmethod(lambda: _skipped(name))})
    try:
        only(
            ByteLM,
            ByteData,
            args=[name, *arguments],
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_kwargs={"exit_on_error": False, name: own_parser},
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
        )
    except ArgumentError as error:
        raise ValueError(str(error)) from error


def _skipped(name: str) -> dict[str, set[str]]:
    """The one command that is run, with the arguments of the trainer's method that the CLI fills in itself."""
    loaders = {"train_dataloaders", "val_dataloaders"} if name == "fit" else {"dataloaders"}
    return {name: {"model", "datamodule", *loaders}}


def _no_advertising(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(("💡", "TPU available"))


def _quiet_what_no_user_can_change() -> None:
    """Warnings of the libraries about each other, and advice that does not hold for memory-mapped data."""
    for message in (
        ".*does not have many workers.*",
        ".*LeafSpec.*is deprecated.*",
        ".*is not supported by the model summary.*",
        ".*add_instantiator.*",
        "Checkpoint directory .* exists and is not empty.*",
        "Experiment logs directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", message)
