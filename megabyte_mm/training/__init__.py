"""Training with Lightning."""

from megabyte_mm.training.module import ByteLM
from megabyte_mm.training.optim import OptimizerConfig

__all__ = ["ByteLM", "OptimizerConfig"]
