"""Byte models in plain torch: MEGABYTE, its baselines, and the interface that they share.

base.py         ByteModel and Decoder, the interface of every architecture
config.py       ModelConfig, StackConfig, BlockConfig, and configs from plain values
registry.py     architectures by their stable names
megabyte/       the paper's model, its decoder and its loss in chunks
baselines/      a byte-level Transformer and PerceiverAR
layers.py       Transformer blocks; attention.py, rotary.py: their attention and positions; loss.py: lean cross-entropy
decoding/       caches, and steps of a stack in eager, compiled or native code
flops.py        operations by module, from torch's counter
"""

from __future__ import annotations

from megabyte_mm.models.base import (
    DEFAULT_STEP,
    ByteModel,
    CompileMode,
    Decoder,
    PatchDecoder,
    StepOptions,
    condition_ids,
)
from megabyte_mm.models.baselines import PerceiverAR, PerceiverARConfig, Transformer, TransformerConfig
from megabyte_mm.models.config import BlockConfig, ModelConfig, StackConfig
from megabyte_mm.models.decoding.execution import DEFAULT_EXECUTION, Backend, Execution, Precision, with_rounded_weights
from megabyte_mm.models.flops import Flops
from megabyte_mm.models.megabyte import Megabyte, MegabyteConfig, OneOrder, PartConfig, global_states
from megabyte_mm.models.registry import CONFIGS, build, check_registered, config_of, register

__all__ = [
    "CONFIGS",
    "DEFAULT_EXECUTION",
    "DEFAULT_STEP",
    "Backend",
    "BlockConfig",
    "ByteModel",
    "CompileMode",
    "Decoder",
    "Execution",
    "Flops",
    "Megabyte",
    "MegabyteConfig",
    "ModelConfig",
    "OneOrder",
    "PartConfig",
    "PatchDecoder",
    "PerceiverAR",
    "PerceiverARConfig",
    "Precision",
    "StackConfig",
    "StepOptions",
    "Transformer",
    "TransformerConfig",
    "build",
    "check_registered",
    "condition_ids",
    "config_of",
    "global_states",
    "register",
    "with_rounded_weights",
]
