"""Steps of a Transformer stack in C++ for CPUs, built by the machine's own compiler on first use."""

from megabyte_mm.models.decoding.native.library import NativeError, load
from megabyte_mm.models.decoding.native.neighbourhood import NativeNeighbourhood
from megabyte_mm.models.decoding.native.stack import NativeProjection, NativeStackSteps

__all__ = ["NativeError", "NativeNeighbourhood", "NativeProjection", "NativeStackSteps", "load"]
