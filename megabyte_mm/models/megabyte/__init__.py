"""MEGABYTE, the two-level byte transformer of Yu et al. (2023)."""

from megabyte_mm.models.megabyte.model import Megabyte, MegabyteConfig

__all__ = ["Megabyte", "MegabyteConfig"]
