"""Training with Lightning: `fit` from Python, and the parts of `megabyte-mm fit`.

fitting             fit: a run from Python
module              ByteLM: the model, its loss, its metrics, the entries of its checkpoints
loss, optim         the loss of an update; the optimizer and its schedule
compatibility       what model, data and checkpoint must agree on; what an exact resume needs
checkpointing       best.ckpt and last.ckpt, written atomically
signals             stopping between two steps
distributed         FSDP2; weights sharded and gathered
trainer             defaults of the trainer, precision, memory, compiler
callbacks, samples, progress    log lines; samples at validations; curves for live plots
loggers, console, run_folder    metrics.csv and TensorBoard; stderr; reading a run's folder
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
