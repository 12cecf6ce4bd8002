"""Checkpoints: a file, a folder of shards, an exported model or a hub id, to a bare model with its adapter."""

from megabyte_mm.checkpoint.bundle import SPEC_KEY, Bundle, Modality, make_spec
from megabyte_mm.checkpoint.load import PREFIX, TRAINING, last_checkpoint_hint, load_model, read_checkpoint

__all__ = [
    "PREFIX",
    "SPEC_KEY",
    "TRAINING",
    "Bundle",
    "Modality",
    "last_checkpoint_hint",
    "load_model",
    "make_spec",
    "read_checkpoint",
]
