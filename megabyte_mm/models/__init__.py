"""Byte models by their stable names."""

from __future__ import annotations

from typing import Any

from megabyte_mm.models.base import ByteModel, Decoder
from megabyte_mm.models.layers import StackConfig
from megabyte_mm.models.megabyte import Megabyte, MegabyteConfig

__all__ = ["ByteModel", "Decoder", "Megabyte", "MegabyteConfig", "StackConfig", "build"]


def build(spec: dict[str, Any]) -> ByteModel:
    """The untrained model that `ByteModel.spec` described. Raises ValueError for a name that is not known."""
    if spec["name"] != Megabyte.name:
        raise ValueError(f"unknown model {spec['name']!r}; known: {Megabyte.name}")
    return Megabyte(MegabyteConfig.from_dict(spec["config"]))
