"""Samples at every validation: continuations of validation windows, as files and in TensorBoard."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from data_adapters import Adapter, AudioAdapter, ByteStream, ImageAdapter, MediaError, TextAdapter
from megabyte_mm.data.module import ByteData
from megabyte_mm.data.records import Records
from megabyte_mm.data.sources import OpenSource
from megabyte_mm.errors import FieldError, errors_inside
from megabyte_mm.generation import (
    Continuations,
    FileRequest,
    FirstParts,
    SamplingParams,
    complete_records,
    cut_prefix,
    generate_continuations,
    picture_sheet,
    record_request,
    write_continuations,
    write_records,
)
from megabyte_mm.models import ByteModel
from megabyte_mm.training.distributed import gather_model
from megabyte_mm.training.module import ByteLM

log = logging.getLogger(__name__)


class SampleWriter(Callback):
    """Continues a few validation windows at every validation: files in the log folder, and entries in TensorBoard.

    Args:
        count: Windows that are continued; 0 turns it off.
        keep: The share of each window that is the prefix.
        length: Bytes that are sampled at most; streams of fixed size are always completed.
        temperature: Divides the logits.
        top_k: Sample among the k likeliest bytes only.
        top_p: Sample among the likeliest bytes that together have this probability.
    """

    def __init__(
        self,
        count: int = 4,
        keep: float = 0.5,
        length: int = 1024,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> None:
        if count < 0:
            raise FieldError("samples.count", f"is {count}; it must not be negative")
        if not 0.0 <= keep <= 1.0:
            raise FieldError("samples.keep", f"is {keep}; it must be between 0 and 1")
        if length < 1:
            raise FieldError("samples.length", f"is {length}; it must be at least 1")
        with errors_inside("samples"):
            SamplingParams(temperature, top_k, top_p)  # raises before training begins
        self.count, self.keep, self.length = count, keep, length
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sample and write, in training only: validate and test sample nothing."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or not self.count:
            return
        log_dir = trainer.log_dir or trainer.default_root_dir  # a collective call: on all ranks
        assert isinstance(pl_module, ByteLM)
        model = gather_model(pl_module.model, trainer.is_global_zero, pl_module.device)
        if model is not None:
            folder = Path(log_dir) / "samples" / f"step-{trainer.global_step:07d}"
            try:
                self._write(folder, trainer, model)
            except (MediaError, OSError) as error:  # a full disk is no reason to stop training
                log.warning("%s: no samples: %s", os.path.relpath(folder), error)

    def _write(self, folder: Path, trainer: Trainer, model: ByteModel) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined] # set by a connector
        alone = {order.parts[0] for order in data.settings.orders if len(order.parts) == 1}
        self._write_records(folder, data, model)
        for source, records, window in data.opened.windowed("val"):
            if source.name not in alone:
                continue
            requests = self.requests(source, records, window)
            sampling = SamplingParams(self.temperature, self.top_k, self.top_p)
            continuations = generate_continuations(model, source.adapter, requests, sampling)
            write_continuations(folder / source.name, source.adapter, continuations)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    for item in continuations:
                        tag = f"{source.name}/{item.stem}".strip("/")
                        _show(logger.experiment, tag, source.adapter, item, trainer.global_step)

    def _write_records(self, folder: Path, data: ByteData, model: ByteModel) -> None:
        """Continue validation records behind their first part."""
        if not data.opened.validation_records:
            return
        bundle = data.opened.bundle(model)
        sampling = SamplingParams(self.temperature, self.top_k, self.top_p)
        for order, joined in data.opened.validation_records.items():
            is_picture = isinstance(bundle.modalities[order[-1]].adapter, ImageAdapter)
            firsts, requests = [], []
            for number, record in enumerate(joined.evenly_spaced(self.count)):
                given, last = joined.stream(0, record), joined.stream(len(order) - 1, record)
                firsts.append(FirstParts(f"val-{number:02d}", {order[0]: given}, last if is_picture else None))
                requests.append(record_request(bundle, order, [given]))
            completed = complete_records(bundle, requests, sampling)
            for _ in write_records(folder / "+".join(order), bundle, firsts, requests, completed):
                pass

    def requests(self, source: OpenSource, records: Records, window: int) -> list[FileRequest]:
        """Return the validation windows that are continued, the same at every validation."""
        adapter, unit = source.adapter, source.unit
        requests = []
        # Evenly spaced, since the files may be sorted by class.
        for number, record in enumerate(records.evenly_spaced(self.count)):
            stream = records.stream(record)
            stream = ByteStream(stream.data[:window], stream.format)
            prefix = cut_prefix(adapter, stream, self.keep, unit)
            rest = len(stream.data) - len(prefix)
            request = FileRequest(
                prefix,
                rest if adapter.single_window else -(-self.length // unit) * unit,
                condition=int(records.conditions[record]),
                stem=f"val-{number:02d}",
                format=stream.format,
                original=stream.data,
            )
            requests.append(request)
        return requests


def _show(board: Any, tag: str, adapter: Adapter, item: Continuations, step: int) -> None:
    """Add the first continuation to TensorBoard."""
    stream = ByteStream(item.continuations[0], item.format)
    if isinstance(adapter, ImageAdapter):
        board.add_image(tag, np.asarray(picture_sheet(adapter, [item])), step, dataformats="HWC")
    elif isinstance(adapter, AudioAdapter):
        loudness = adapter.frames(stream).mean(axis=1) / 2**15
        board.add_audio(tag, torch.from_numpy(loudness)[None], step, int(item.format["rate"]))
    elif isinstance(adapter, TextAdapter):
        board.add_text(
            tag, f"```\n{adapter.decode(item.prefix)}|{adapter.decode(stream.data[len(item.prefix) :])}\n```", step
        )
