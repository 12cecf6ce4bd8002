"""Training with Lightning: `fit` from Python, and what `megabyte-mm fit` is made of.

module      ByteLM, the LightningModule: model, loss, optimizer, checkpoint entries
fitting     fit, a run from Python
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from megabyte_mm.lazy import lazy_exports

if TYPE_CHECKING:
    from megabyte_mm.training.fitting import fit
    from megabyte_mm.training.module import ByteLM
    from megabyte_mm.training.optim import OptimizerConfig
    from megabyte_mm.training.progress import ProgressCallback, TrainingProgress
    from megabyte_mm.training.samples import SampleWriter

__all__ = ["ByteLM", "OptimizerConfig", "ProgressCallback", "SampleWriter", "TrainingProgress", "fit"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ByteLM": "megabyte_mm.training.module",
        "OptimizerConfig": "megabyte_mm.training.optim",
        "ProgressCallback": "megabyte_mm.training.progress",
        "SampleWriter": "megabyte_mm.training.samples",
        "TrainingProgress": "megabyte_mm.training.progress",
        "fit": "megabyte_mm.training.fitting",
    },
)
