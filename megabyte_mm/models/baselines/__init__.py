"""The paper's baselines: a byte-level Transformer and PerceiverAR."""

from megabyte_mm.models.baselines.perceiver_ar import PerceiverAR, PerceiverARConfig
from megabyte_mm.models.baselines.transformer import Transformer, TransformerConfig

__all__ = ["PerceiverAR", "PerceiverARConfig", "Transformer", "TransformerConfig"]
