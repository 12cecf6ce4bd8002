"""Defaults of the trainer: its settings, precision and memory, and the check of its folder."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer

from megabyte_mm.errors import FieldError
from megabyte_mm.models import ByteModel, CompileMode, StepOptions
from megabyte_mm.training.distributed import FSDP2Strategy

TRAINER_DEFAULTS: dict[str, Any] = {
    "default_root_dir": "runs/megabyte",
    "max_steps": 5000,
    "val_check_interval": 500,
    "check_val_every_n_epoch": None,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 20,
    "num_sanity_val_steps": 0,
    # ByteData shards its windows itself, and exactly.
    "use_distributed_sampler": False,
}

CHECKPOINT_MINUTES = 2.0
"""Minutes of training between two last.ckpt."""

CompileSetting = CompileMode | Literal["auto"] | None
"""auto: compiled on a CUDA GPU where torch.compile can work, else eager."""
GRAPH_MODES: tuple[CompileMode, ...] = ("reduce-overhead", "max-autotune")
"""Those that record CUDA graphs."""


def check_writable(root: Path) -> None:
    """Raise FieldError, before any work, where the folder of a run cannot be created or written to."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(bytes(2**12))
    except OSError as error:
        reason = f"{root}: cannot be written to: {error.strerror or error}"
        raise FieldError("trainer.default_root_dir", reason) from error


def best_precision(accelerator: Any) -> str:
    """Return bf16-mixed where the hardware multiplies bfloat16 fast, else 32-true."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if accelerator != "cpu" and torch.backends.mps.is_available():
        return "32-true"
    return "bf16-mixed" if torch.backends.cpu.get_cpu_capability().startswith("AVX512") and _has_bf16() else "32-true"


def _has_bf16() -> bool:
    flags = Path("/proc/cpuinfo")
    return flags.exists() and "avx512_bf16" in flags.read_text(encoding="utf-8", errors="replace")


def activation_budget(gibibytes: float | None, device: torch.device) -> float:
    """Bytes for the activations of a training step: the GiB of the setting, or the default of the device."""
    if gibibytes is not None:
        return gibibytes * 2**30
    if device.type == "cuda":
        return 0.4 * torch.cuda.get_device_properties(device).total_memory
    return StepOptions.activation_budget


def compile_mode_here(setting: CompileSetting, trainer: Trainer) -> CompileMode | None:
    """The mode of torch.compile for this trainer on this machine; None for the eager code.

    Raises FieldError for a mode that cannot work there; auto is then None.
    """
    if setting == "auto":
        return "default" if _can_compile(trainer) else None
    if setting is not None:
        check_compile_mode(setting, trainer)
    return setting


def records_graphs(trainer: Trainer, model: ByteModel, batch_size: int, budget: float) -> bool:
    """True where compiled blocks are CUDA graphs by default: to launch their kernels takes longer than to run them.

    Graphs cannot add up gradients over batches, and were only tried where each block runs once in a step.
    """
    alone = trainer.world_size == 1 and trainer.accumulate_grad_batches == 1
    return alone and model.runs_blocks_once(batch_size, budget)


def _can_compile(trainer: Trainer) -> bool:
    """True on a CUDA GPU with what torch.compile needs there: Triton, and what Triton builds its launchers with."""
    device = trainer.strategy.root_device
    if device.type != "cuda" or isinstance(trainer.strategy, FSDP2Strategy) or find_spec("triton") is None:
        return False
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    has_header = Path(sysconfig.get_path("include"), "Python.h").exists()
    return has_header and any(map(shutil.which, compilers)) and torch.cuda.get_device_capability(device) >= (7, 0)


def check_compile_mode(mode: CompileMode, trainer: Trainer) -> None:
    """Raise FieldError where a mode of torch.compile cannot work with this trainer on this machine."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if on_cpu and sys.platform != "win32" and shutil.which(compiler) is None:
        raise FieldError(
            "model.compile_mode",
            f"needs a C++ compiler, and there is no {compiler}: "
            "install one, name it in the environment variable CXX, or leave compile_mode out",
        )
    # Graphs write over gradients that are added up over several batches.
    if trainer.accumulate_grad_batches > 1 and mode in GRAPH_MODES:
        raise FieldError(
            "model.compile_mode",
            f"{mode} records CUDA graphs, which cannot add up gradients over trainer.accumulate_grad_batches "
            f"{trainer.accumulate_grad_batches}: take default or max-autotune-no-cudagraphs",
        )
    if isinstance(trainer.strategy, FSDP2Strategy):
        raise FieldError("model.compile_mode", f"{mode} does not work with fsdp2: leave one of them out")


def read_clock(trainer: Trainer) -> tuple[float, float]:
    """Seconds of training so far and their limit, trainer.max_time, on the first device; a collective call.

    The limit is inf without trainer.max_time. Of several timers, the nearest to its limit counts.
    """
    timers = [c for c in trainer.callbacks if isinstance(c, Timer)]  # type: ignore[attr-defined] # set by a connector
    times = [(0.0, math.inf)]
    for timer in timers:
        elapsed, remaining = timer.time_elapsed(), timer.time_remaining()
        if remaining is not None:
            times.append((elapsed, max(elapsed + remaining, 1e-9)))
    # With clocks of their own, devices would have different learning rates, and then different weights.
    nearest = max(times, key=lambda time: time[0] / time[1])
    return trainer.strategy.broadcast(nearest) if timers else nearest


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Parameter numbers of mallopt in glibc."""


def keep_freed_memory() -> None:
    """Let glibc keep large freed blocks instead of returning them to the system; elsewhere, do nothing.

    A training step allocates and frees the same activations over and over. By default each block is mapped again, with
    a page fault for every page, which took up to an eighth of a step on two cores (benchmarks/train_step).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
