"""Drawing continuations from a model."""

from megabyte_mm.generation.engine import generate, row_seeds, stream
from megabyte_mm.generation.sampling import Sampling

__all__ = ["Sampling", "generate", "row_seeds", "stream"]
