"""What a trained model knows of files: features, nearest neighbours, probes, and classes and texts by bits."""

from megabyte_mm.features.embedding import POOLINGS, Layer, embed, embed_streams
from megabyte_mm.features.matching import nearest, part_of_files, text_bits

__all__ = ["POOLINGS", "Layer", "embed", "embed_streams", "nearest", "part_of_files", "text_bits"]
