"""Drawing continuations from a model."""

from megabyte_mm.generation.batching import Interrupted, Request, continue_all
from megabyte_mm.generation.engine import generate, iterate, row_seeds, unseen
from megabyte_mm.generation.sampling import Sampling

__all__ = ["Interrupted", "Request", "Sampling", "continue_all", "generate", "iterate", "row_seeds", "unseen"]
