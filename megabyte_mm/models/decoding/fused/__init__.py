"""Steps of a Transformer stack on a GPU in five kernels a layer, written in Triton."""

from megabyte_mm.models.decoding.fused.steps import FusedProjection, FusedStackSteps, runs_kernels

__all__ = ["FusedProjection", "FusedStackSteps", "runs_kernels"]
