"""`megabyte-mm info`: size and cost of the model of a config or a checkpoint."""

from __future__ import annotations

import json as json_text
import warnings
from dataclasses import asdict
from pathlib import Path

import torch

from data_adapters import write_bytes
from megabyte_mm.checkpoint import load_model
from megabyte_mm.checkpoint.exported import is_exported
from megabyte_mm.checkpoint.hub import hub_id
from megabyte_mm.checkpoint.shipped import shipped_folder
from megabyte_mm.cli.config import read_config
from megabyte_mm.cli.packaged import config_folder, find_config
from megabyte_mm.errors import check_positive
from megabyte_mm.evaluation.costs import costs_of, table
from megabyte_mm.models import ByteModel, StepOptions


def info(model: str, batch_size: int | None = None, json: str | None = None, adapter: str | None = None) -> None:
    """Print the size and cost of a model: parameters, operations, memory, attention, steps of generation.

    The model is built without memory for its weights, so one with billions of them takes a second. docs/costs.md
    explains the figures.

    Args:
        model: A config file, the name of a packaged config such as image or paper/text_megabyte, a checkpoint, an
            exported folder, a name such as demo:image, or a hub id.
        batch_size: Windows in a training step on one device; by default that of the config, or 1 for a checkpoint.
        json: A file for all figures.
        adapter: Import path of your own adapter class, for a checkpoint that was trained with one.
    """
    check_positive(batch_size=batch_size)
    if _is_model(model):
        empty, windows, activation_budget = _from_checkpoint(model, adapter), 1, StepOptions.activation_budget
    else:
        empty, windows, activation_budget = _from_config(find_config(model))
    costs = costs_of(empty, batch_size or windows, activation_budget)
    print("\n".join(table(costs)))
    if json:
        text = json_text.dumps({"model": model, **asdict(costs)}, indent=1, allow_nan=False) + "\n"
        write_bytes(json, text.encode())


def _is_model(model: str) -> bool:
    """Return whether the name is that of a trained model; one like a hub id may name a config, such as paper/image."""
    if Path(model).suffix == ".ckpt" or is_exported(model) or shipped_folder(model) is not None:
        return True
    return hub_id(model) is not None and not (config_folder() / model).parent.is_dir()


def _from_config(path: str) -> tuple[ByteModel, int, float]:
    """The model of a config, the windows in its batches, and the bytes for their activations.

    Raises ValueError, naming the file and the field.
    """
    config = read_config(path)
    try:
        model = config.build_empty()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    gibibytes = config.model.activation_memory
    budget = StepOptions.activation_budget if gibibytes is None else gibibytes * 2**30
    return model, config.data.batch_size, budget


def _from_checkpoint(path: str, adapter: str | None) -> ByteModel:
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*copying from a non-meta parameter.*")  # only shapes matter
        return load_model(path, "meta", adapter).model
