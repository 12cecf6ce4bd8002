"""MEGABYTE, the two-level byte Transformer of Yu et al. (2023)."""

from megabyte_mm.models.megabyte.config import MegabyteConfig, PartConfig
from megabyte_mm.models.megabyte.model import Megabyte

__all__ = ["Megabyte", "MegabyteConfig", "PartConfig"]
