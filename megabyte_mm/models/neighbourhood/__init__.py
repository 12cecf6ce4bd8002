"""Features of the bytes around a position, for the input of any model.

config.py    what a model's config holds: sizes, and the layouts of the data in plain numbers
embedder.py  the tables, and how neighbours, guesses and groups are looked up in them
"""

from __future__ import annotations

from megabyte_mm.models.neighbourhood.config import Group, Layout, NeighbourhoodConfig, Predictor, former_layouts
from megabyte_mm.models.neighbourhood.embedder import UNKNOWN, NeighbourhoodEmbedder, neighbourhood_embedder

__all__ = [
    "UNKNOWN",
    "Group",
    "Layout",
    "NeighbourhoodConfig",
    "NeighbourhoodEmbedder",
    "Predictor",
    "former_layouts",
    "neighbourhood_embedder",
]
