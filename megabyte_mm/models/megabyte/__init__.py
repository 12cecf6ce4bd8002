"""MEGABYTE, the two-level byte Transformer of Yu et al. (2023)."""

from megabyte_mm.models.megabyte.config import MegabyteConfig, PartConfig
from megabyte_mm.models.megabyte.model import Megabyte
from megabyte_mm.models.megabyte.one_order import OneOrder

__all__ = ["Megabyte", "MegabyteConfig", "OneOrder", "PartConfig"]
