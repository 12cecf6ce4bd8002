"""Checkpoints: a file, a folder of shards, an exported model or a hub id, to a bare model with its adapter.

bundle.py      the loaded model with its adapters, conditions and window
load.py        a checkpoint to a bundle
modalities.py  the modality of a file, and the file read for it
dcp.py         folders of shards, as torch.distributed.checkpoint writes them
exported.py    exported models: safetensors and a config
rounding.py    their weights in fewer bits
shipped.py     the models that come with the package
hub.py         the Hugging Face hub
safety.py      checks of files that anybody may have written
provenance.py  figures of the training run
"""

from megabyte_mm.checkpoint.bundle import SPEC_KEY, Bundle, Modality, make_spec
from megabyte_mm.checkpoint.load import (
    AVERAGE_KEY,
    WEIGHT_PREFIX,
    averaged_state,
    last_checkpoint_hint,
    load_model,
    read_checkpoint,
)
from megabyte_mm.checkpoint.modalities import check_fits, check_suffix, modality_of_file, read_stream, select_modality
from megabyte_mm.checkpoint.provenance import Provenance

__all__ = [
    "AVERAGE_KEY",
    "SPEC_KEY",
    "WEIGHT_PREFIX",
    "Bundle",
    "Modality",
    "Provenance",
    "averaged_state",
    "check_fits",
    "check_suffix",
    "last_checkpoint_hint",
    "load_model",
    "make_spec",
    "modality_of_file",
    "read_checkpoint",
    "read_stream",
    "select_modality",
]
