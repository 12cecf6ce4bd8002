"""Drawing continuations from a model."""

from megabyte_mm.generation.batching import GenerationInterrupted, GenerationRequest, generate_batch
from megabyte_mm.generation.engine import generate, num_truncated, row_seeds, stream_symbols
from megabyte_mm.generation.sampling import SamplingParams

__all__ = [
    "GenerationInterrupted",
    "GenerationRequest",
    "SamplingParams",
    "generate",
    "generate_batch",
    "num_truncated",
    "row_seeds",
    "stream_symbols",
]
