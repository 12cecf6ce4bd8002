"""Byte models by their stable names."""

from __future__ import annotations

from megabyte_mm.models.base import ByteModel, CompileMode, Decoder, ModelConfig, condition_ids
from megabyte_mm.models.baselines.perceiver_ar import PerceiverAR, PerceiverARConfig
from megabyte_mm.models.baselines.transformer import Transformer, TransformerConfig
from megabyte_mm.models.decoding.execution import DEFAULT_EXECUTION, Backend, Execution, Precision, with_rounded_weights
from megabyte_mm.models.flops import Work
from megabyte_mm.models.layers import BlockConfig, StackConfig
from megabyte_mm.models.megabyte import Megabyte, MegabyteConfig
from megabyte_mm.models.registry import CONFIGS, build, check_registered, config_of, register

__all__ = [
    "CONFIGS",
    "DEFAULT_EXECUTION",
    "Backend",
    "BlockConfig",
    "ByteModel",
    "CompileMode",
    "Decoder",
    "Execution",
    "Megabyte",
    "MegabyteConfig",
    "ModelConfig",
    "PerceiverAR",
    "PerceiverARConfig",
    "Precision",
    "StackConfig",
    "Transformer",
    "TransformerConfig",
    "Work",
    "build",
    "check_registered",
    "condition_ids",
    "config_of",
    "register",
    "with_rounded_weights",
]
