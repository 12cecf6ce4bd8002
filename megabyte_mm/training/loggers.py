"""Logs that survive a kill and a full disk in whole lines, and never stop the training."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from data_adapters.io import replacing

log = logging.getLogger(__name__)


def make_loggers(root: Path) -> list[CSVLogger | TensorBoardLogger]:
    """CSV and TensorBoard logs in one new folder logs/version_N; a resumed run leaves the earlier folders."""
    csv_logger = DurableCSVLogger(root, name="logs")
    return [csv_logger, DurableTensorBoardLogger(root, name="logs", version=csv_logger.version)]


class MetricsFile(ExperimentWriter):
    """metrics.csv, written in whole rows; rows that cannot be written wait for the next save."""

    failure: str | None = None

    def save(self) -> None:
        """Append the new rows; with a new metric, replace the file."""
        if not self.metrics:
            return
        path = Path(self.metrics_file_path)
        names = sorted({*self.metrics_keys, *(name for row in self.metrics for name in row)})
        try:
            if names == self.metrics_keys and path.is_file():
                _append(path, _lines(names, self.metrics))
            else:
                text = _lines(names, [dict(zip(names, names, strict=True)), *_rows(path), *self.metrics])
                with replacing(path) as temporary:
                    temporary.write_text(text, encoding="utf-8", newline="")
        except OSError as error:
            self._warn(f"{os.path.relpath(path)}: cannot be written: {_reason(error)}")
            return
        self.metrics_keys, self.metrics, self.failure = names, [], None

    def _warn(self, failure: str) -> None:
        if self.failure is None:
            log.warning("%s; new rows are written once that is possible again", failure)
        self.failure = failure


class DurableCSVLogger(CSVLogger):
    """Lightning's CSV logger with a MetricsFile."""

    @property
    @rank_zero_experiment
    def experiment(self) -> MetricsFile:
        """The file on the first process, and a dummy on the others."""
        if self._experiment is None:
            self._experiment = MetricsFile(self.log_dir)
        return self._experiment  # type: ignore[return-value] # set only here

    def finalize(self, status: str) -> None:
        """Write the remaining rows. Raises OSError where that fails in a run that is otherwise complete."""
        super().finalize(status)
        if status == "success" and isinstance(self._experiment, MetricsFile) and self._experiment.failure:
            raise OSError(self._experiment.failure)


class DurableTensorBoardLogger(TensorBoardLogger):
    """Lightning's TensorBoard logger, which ends on a full disk, as its writer does; metrics.csv has everything."""

    _ended = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics, unless the log has ended."""
        self._attempt(lambda: super(DurableTensorBoardLogger, self).log_metrics(metrics, step))

    def log_hyperparams(self, *arguments: Any, **named: Any) -> None:
        """Log settings, unless the log has ended."""
        self._attempt(lambda: super(DurableTensorBoardLogger, self).log_hyperparams(*arguments, **named))

    def save(self) -> None:
        """Write the pending entries."""
        self._attempt(super().save)

    def finalize(self, status: str) -> None:
        """Write the pending entries, and close."""
        self._attempt(lambda: super(DurableTensorBoardLogger, self).finalize(status))

    def _attempt(self, write: Callable[[], None]) -> None:
        if self._ended:
            return
        try:
            write()
        except (OSError, ValueError) as error:
            # Lightning turns every error into one about a value that cannot be logged.
            cause = error if isinstance(error, OSError) else error.__cause__
            if not isinstance(cause, OSError):
                raise
            self._ended = True
            log.warning("the TensorBoard log in %s ends here: %s", os.path.relpath(self.log_dir), _reason(cause))


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _append(path: Path, text: str) -> None:
    """Append to a file, or raise OSError and leave the file unchanged."""
    data = text.encode("utf-8")
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(before)
            raise


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _lines(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, names).writerows(rows)
    return text.getvalue()
