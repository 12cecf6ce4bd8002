"""Drawing continuations from a model."""

from megabyte_mm.generation.batching import Request, continue_all
from megabyte_mm.generation.engine import generate, row_seeds, stream, unseen
from megabyte_mm.generation.sampling import Sampling

__all__ = ["Request", "Sampling", "continue_all", "generate", "row_seeds", "stream", "unseen"]
