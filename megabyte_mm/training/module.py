"""ByteLM: a byte model in training."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict, replace
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.plugins import MixedPrecision, Precision
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import ModuleDict
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from megabyte_mm.checkpoint import SPEC_KEY, make_spec
from megabyte_mm.checkpoint.dcp import WEIGHTS
from megabyte_mm.data.dataset import Batch
from megabyte_mm.data.module import ByteData
from megabyte_mm.errors import FieldError
from megabyte_mm.evaluation import Method, check_method, is_sliding, method_nll
from megabyte_mm.metrics import BitsPerByte, totals
from megabyte_mm.models import DEFAULT_STEP, ByteModel, CompileMode, MegabyteConfig, ModelConfig, StepOptions, config_of
from megabyte_mm.training.compatibility import check_resumable, check_weights
from megabyte_mm.training.distributed import FSDP2Strategy, check_strategy, shard_model
from megabyte_mm.training.loss import AccumulatedLoss
from megabyte_mm.training.optim import (
    OptimizerConfig,
    adamw,
    apply_current_lr,
    apply_current_settings,
    lr_factor,
    parameter_groups,
)

_OF = "of "
"""What the names of sources follow in a ModuleDict, where some names are taken."""


class ByteLM(LightningModule):
    """Trains a byte model by next-symbol prediction and measures it in bits per byte.

    The model is built when the data are known, since patch size, window and conditions may come from them.

    Args:
        net: The architecture. What is left null there follows from the data.
        optimizer: The optimizer and its learning rate schedule.
        method: How validation and test read the model: plain, sliding, strided, sliding+strided. Training is the same.
        activation_memory: GiB that the activations of a training step may take: where they would take more, they are
            kept in part and computed anew for the backward pass. By default 2 on a CPU, and 0.4 of a GPU's memory.
        compile_mode: Let torch.compile write the code of the Transformer blocks in training, in the mode of that name.
            reduce-overhead and max-autotune record CUDA graphs. Null: the plain code, which is faster on a CPU.
        activation_checkpointing: Keep of each Transformer block its input alone, whatever memory there is, and compute
            the rest anew for the backward pass.
    """

    model: ByteModel

    def __init__(
        self,
        net: ModelConfig = MegabyteConfig(),  # noqa: B008 - both are frozen
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
        method: Method = "plain",
        activation_memory: float | None = None,
        compile_mode: CompileMode | None = None,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.net = net
        self.optimizer = optimizer
        self.method = method
        if activation_memory is not None and not activation_memory > 0:
            raise FieldError("model.activation_memory", f"is {activation_memory}; it must be above 0")
        self.activation_memory = activation_memory
        self.compile_mode = compile_mode
        self.activation_checkpointing = activation_checkpointing
        self._step = DEFAULT_STEP
        self._time_used = 0.0
        self.val_bpb = BitsPerByte()
        self.test_bpb = BitsPerByte()
        self.bpb_of_source = ModuleDict()

    def setup(self, stage: str) -> None:
        """Ask the data for the windows that the method reads. Raises ValueError for what cannot run in this way."""
        check_strategy(self.trainer.strategy)
        self._data().use_sliding_windows(is_sliding(self.method))
        if self.compile_mode is not None and stage == "fit":
            check_compiler(self.trainer.strategy.root_device)
            check_graphs(self.compile_mode, self.trainer.accumulate_grad_batches)
            if isinstance(self.trainer.strategy, FSDP2Strategy):
                raise ValueError(
                    f"model.compile_mode {self.compile_mode} does not work with fsdp2: leave one of them out"
                )

    def configure_model(self) -> None:
        """Build the model for the data module that is attached. Raises ValueError where the two do not fit."""
        if hasattr(self, "model"):
            return
        data = self._data()
        self.bpb_of_source.update({_OF + source.name: BitsPerByte() for source in data.sources if source.name})
        try:
            net = data.geometry.resolve(self.net)
        except ValueError as error:
            raise ValueError(f"model.net.{error}") from error
        self.model = net.build()
        try:
            check_method(self.method, self.model, data.geometry.unit)
        except ValueError as error:
            raise ValueError(f"model.method {self.method}: {error}") from error
        if isinstance(self.trainer.strategy, FSDP2Strategy):
            shard_model(self.model, self.trainer.strategy.device_mesh["data_parallel"])

    def on_train_start(self) -> None:
        """Note the run's seed and its memory, compile, and set the learning rate where the run resumes."""
        self._step = StepOptions(activation_budget(self.activation_memory, self.device))
        if self.compile_mode is not None:
            self.model.compile_blocks(self.compile_mode)
        if self.activation_checkpointing:
            self.model.checkpoint_blocks()
        self._seed = torch.initial_seed()
        trainer = self.trainer
        self._update = AccumulatedLoss(trainer.strategy, trainer.world_size, trainer.accumulate_grad_batches)
        for config in self.trainer.lr_scheduler_configs:
            assert isinstance(config.scheduler, LambdaLR)
            apply_current_lr(config.scheduler)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Look at the clock, which the learning rate may follow, and seed dropout by (seed, batch, rank) alone.

        So a resumed run drops what the uninterrupted one does.
        """
        self._time_used = time_used(self.trainer)
        number = self.trainer.fit_loop.epoch_loop.total_batch_idx
        common_seed = self._seed * 1_000_003 + number * 1_009
        torch.manual_seed((common_seed + self.global_rank) % 2**63)
        if self.trainer.world_size > 1:
            generator = torch.Generator().manual_seed(common_seed % 2**63)
            self._step = replace(self._step, shared_generator=generator, all_reduce_max=self._all_reduce_max)
        if self.compile_mode is not None:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean loss in nats over the symbols of an update, of all its batches on all devices."""
        nats_Bt, span = self.model.training_nll(batch.ids, batch.condition, self._step)
        loss = self._update.add(totals(nats_Bt, batch.ids, span))
        self.log("train/loss", self._update.nats_per_symbol)
        self.log("train/bpb", self._update.bits_per_byte, prog_bar=True)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Weigh accumulated batches by their symbols, which are known only now."""
        factor = self._update.finish()
        if factor is not None:
            for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)

    def _all_reduce_max(self, number: int) -> int:
        """The maximum over all devices."""
        return int(self.trainer.strategy.reduce(torch.tensor(number, device=self.device), reduce_op="max"))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to val/bpb, and its windows of each source of a mix to that source's own."""
        self._count("val", self.val_bpb, batch, prog_bar=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to test/bpb, as in validation."""
        self._count("test", self.test_bpb, batch)

    def _count(self, split: str, metric: BitsPerByte, batch: Batch, prog_bar: bool = False) -> None:
        nats = self._nats(batch)
        metric.update(nats, batch.ids, batch.num_context)
        self.log(f"{split}/bpb", metric, prog_bar=prog_bar)
        for number, (name, its) in enumerate(self.bpb_of_source.items(), start=1):
            rows = batch.condition == number  # none on some devices, which must log all the same
            assert isinstance(its, BitsPerByte)
            its.update(nats[rows], batch.ids[rows], batch.num_context[rows])
            self.log(f"{split}/bpb/{name.removeprefix(_OF)}", its)

    def _nats(self, batch: Batch) -> Tensor:
        return method_nll(self.method, self.model, batch.ids, batch.condition, self._data().geometry.unit, self._step)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, with the learning rate set at every update."""
        # Lightning cannot clip gradients that a fused optimizer unscales itself.
        optimizer = adamw(self.model, self.optimizer, fused=self.trainer.precision != "16-mixed")
        factor = lr_factor(self.optimizer, self.trainer.estimated_stepping_batches, lambda: self._time_used)
        schedule = LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip as Lightning does, but also under a fused optimizer where no gradient is scaled (bfloat16).

        Lightning refuses that for all mixed precision, though only float16 gradients are scaled.
        """
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and plugin.scaler is None:
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val or 0.0, algorithm)
            return
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what it takes to load the bare model and to generate with it."""
        checkpoint[SPEC_KEY] = make_spec(self.model, self._data().spec())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another architecture or other data geometry; let this run's optimizer settings win.

        Raises ValueError, also for one that `fit` cannot go on from exactly.
        """
        if SPEC_KEY not in checkpoint:
            raise ValueError("the checkpoint was not written by megabyte-mm")
        self.configure_model()
        differing = _differences(make_spec(self.model, self._data().spec()), _completed(checkpoint[SPEC_KEY]))
        if differing:
            raise ValueError("the checkpoint does not fit this run's settings: " + "; ".join(differing))
        try:
            self._check(checkpoint)
        except ValueError as error:
            raise ValueError(f"{self.trainer.ckpt_path}: a damaged checkpoint: {error}") from error
        apply_current_settings(checkpoint, self.optimizer)

    def _check(self, checkpoint: dict[str, Any]) -> None:
        strategy = self.trainer.strategy
        in_shards = isinstance(strategy, FSDP2Strategy) and strategy.loaded_from_folder
        weights = None if in_shards else self.state_dict()
        if self.trainer.state.fn == TrainerFn.FITTING:
            check_resumable(checkpoint, self.trainer, parameter_groups(self.model), weights)
        elif weights is not None:
            check_weights(checkpoint.get(WEIGHTS), weights)

    def _data(self) -> ByteData:
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, ByteData):
            raise ValueError("ByteLM needs a trainer with a ByteData")
        return data


def activation_budget(asked: float | None, device: torch.device) -> float:
    """Bytes for the activations of a training step: the GiB that were asked for, or a default for the device."""
    if asked is not None:
        return asked * 2**30
    if device.type == "cuda":
        return 0.4 * torch.cuda.get_device_properties(device).total_memory
    return StepOptions.activation_budget


def check_compiler(device: torch.device) -> None:
    """Raise ValueError where torch.compile would not find the C++ compiler that it needs on a CPU."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if device.type == "cpu" and sys.platform != "win32" and shutil.which(compiler) is None:
        raise ValueError(
            f"model.compile_mode needs a C++ compiler, and there is no {compiler}: "
            "install one, name it in the environment variable CXX, or leave compile_mode out"
        )


def check_graphs(mode: CompileMode, batches: int) -> None:
    """Raise ValueError where CUDA graphs would write over gradients that are added up over several batches."""
    if batches > 1 and mode in ("reduce-overhead", "max-autotune"):
        raise ValueError(
            f"model.compile_mode {mode} records CUDA graphs, which cannot add up gradients over "
            f"trainer.accumulate_grad_batches {batches}: take default or max-autotune-no-cudagraphs"
        )


def time_used(trainer: Trainer) -> float:
    """The share of trainer.max_time that has passed on the first device, 0 without a limit; all devices must ask."""
    timers = [c for c in trainer.callbacks if isinstance(c, Timer)]  # type: ignore[attr-defined] # set by a connector
    shares = [0.0]
    for timer in timers:
        remaining = timer.time_remaining()
        if remaining is not None:
            shares.append(timer.time_elapsed() / max(timer.time_elapsed() + remaining, 1e-9))
    # Clocks differ, and with them the learning rates and then the weights of the devices would.
    return trainer.strategy.broadcast(max(shares)) if timers else 0.0


MAY_CHANGE = ("format", "model.config.dropout", "model.config.init_std")
"""Entries of a checkpoint's spec that a resumed run may set otherwise."""


def _completed(spec: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's spec with the defaults of what did not exist when it was written."""
    return {**spec, "model": {**spec["model"], "config": asdict(config_of(spec["model"]))}}  # type: ignore[call-overload]


def _differences(ours: Any, theirs: Any, at: str = "") -> list[str]:
    """Where two nested plain values differ, one line each; what may change from run to run is left out."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        pairs = {f"{at}.{key}".strip("."): (ours.get(key), theirs.get(key)) for key in {**ours, **theirs}}
        return [line for path, pair in pairs.items() if path not in MAY_CHANGE for line in _differences(*pair, path)]
    return [] if ours == theirs else [f"{at} is {ours!r} here and {theirs!r} there"]
