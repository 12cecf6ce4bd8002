"""MEGABYTE, the two-level byte Transformer of Yu et al. (2023)."""

from megabyte_mm.models.megabyte.config import MegabyteConfig, PartConfig
from megabyte_mm.models.megabyte.model import Megabyte
from megabyte_mm.models.megabyte.one_order import OneOrder
from megabyte_mm.models.megabyte.states import global_states

__all__ = ["Megabyte", "MegabyteConfig", "OneOrder", "PartConfig", "global_states"]
