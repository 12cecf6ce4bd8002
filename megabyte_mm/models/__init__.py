"""Byte models by their stable names."""

from __future__ import annotations

from typing import Any

from megabyte_mm.models.base import ByteModel, CompileMode, Decoder, ModelConfig
from megabyte_mm.models.execution import DEFAULT_EXECUTION, Backend, Execution, Precision, with_rounded_weights
from megabyte_mm.models.layers import BlockConfig, StackConfig
from megabyte_mm.models.megabyte import Megabyte, MegabyteConfig
from megabyte_mm.models.perceiver_ar import PerceiverAR, PerceiverARConfig
from megabyte_mm.models.transformer import Transformer, TransformerConfig

__all__ = [
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
    "build",
    "config_of",
    "with_rounded_weights",
]

CONFIGS: dict[str, type[ModelConfig]] = {
    config.name: config for config in (MegabyteConfig, TransformerConfig, PerceiverARConfig)
}
"""The architectures by the name that checkpoints hold."""


def config_of(spec: dict[str, Any]) -> ModelConfig:
    """The config that `ByteModel.spec` described. Raises ValueError for a name that is not known."""
    if spec["name"] not in CONFIGS:
        raise ValueError(f"unknown model {spec['name']!r}; known: {', '.join(CONFIGS)}")
    return CONFIGS[spec["name"]].from_dict(spec["config"])


def build(spec: dict[str, Any]) -> ByteModel:
    """The untrained model that `ByteModel.spec` described. Raises ValueError for a name that is not known."""
    return config_of(spec).build()
