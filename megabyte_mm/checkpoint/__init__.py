"""Checkpoints: a file, a folder of shards, an exported model or a hub id, to a bare model with its adapter."""

from megabyte_mm.checkpoint.load import (
    PREFIX,
    SPEC_KEY,
    TRAINING,
    Bundle,
    Modality,
    condition_of,
    last_beside,
    load_model,
    make_spec,
    read_checkpoint,
)

__all__ = [
    "PREFIX",
    "SPEC_KEY",
    "TRAINING",
    "Bundle",
    "Modality",
    "condition_of",
    "last_beside",
    "load_model",
    "make_spec",
    "read_checkpoint",
]
