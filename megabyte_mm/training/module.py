"""ByteLM: the LightningModule that trains a byte model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.plugins import MixedPrecision, Precision
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import GradClipAlgorithmType, rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import ModuleDict
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from megabyte_mm.checkpoint import AVERAGE_KEY, SPEC_KEY, averaged_state, make_spec
from megabyte_mm.checkpoint.dcp import STATE_DICT
from megabyte_mm.checkpoint.safety import NOT_FINITE, are_finite
from megabyte_mm.data.dataset import Batch
from megabyte_mm.data.module import ByteData
from megabyte_mm.errors import FieldError
from megabyte_mm.evaluation import Method, is_sliding, method_nll
from megabyte_mm.metrics import BitsPerByte, Totals, totals
from megabyte_mm.models import DEFAULT_STEP, ByteModel, CompileMode, MegabyteConfig, ModelConfig
from megabyte_mm.models.transfer import to_device
from megabyte_mm.training.average import WeightAverage, resume_average
from megabyte_mm.training.callback_checks import check_callbacks, check_monitors
from megabyte_mm.training.compatibility import (
    build_model,
    check_resumable,
    check_spec,
    check_weights,
    use_former_layouts,
)
from megabyte_mm.training.distributed import FSDP2Strategy, check_strategy, end_group_at_exit, shard_model
from megabyte_mm.training.initial_weights import load_initial_weights
from megabyte_mm.training.loss import AccumulatedLoss
from megabyte_mm.training.optim import (
    LearningRate,
    OptimizerConfig,
    ParameterGroup,
    apply_current_lr,
    apply_current_settings,
    build_optimizer,
    parameter_groups,
    works_in_shards,
)
from megabyte_mm.training.trainer import (
    GRAPH_MODES,
    CompileSetting,
    activation_budget,
    compile_mode_here,
    read_clock,
    records_graphs,
)

_PREFIX = "of "
"""Precedes the names of sources in a ModuleDict, which reserves some names."""


MatmulPrecision = Literal["highest", "high", "medium"]


class ByteLM(LightningModule):
    """Trains a byte model by next-symbol prediction and measures it in bits per byte.

    The model is built once the data are open, since patch size, window and conditions may follow from them.

    Args:
        net: The architecture. Fields that are null follow from the data.
        optimizer: The optimizer and its learning rate schedule.
        method: Scoring method of validation and test: plain, sliding, strided, sliding+strided.
        activation_memory: GiB that the activations of a training step may take; beyond that, a part of them is
            recomputed in the backward pass. By default 2 on a CPU, and 0.4 of the memory of a GPU.
        compile_mode: Compile the Transformer blocks with torch.compile in training, in the mode of that name;
            reduce-overhead and max-autotune record CUDA graphs. Null: the eager code, which is faster on a CPU. auto:
            on a CUDA GPU where torch.compile can work, reduce-overhead if one device trains, without accumulation,
            chunks or several parts, else default; elsewhere null.
        activation_checkpointing: Keep only the input of each Transformer block, whatever the memory, and recompute the
            rest in the backward pass.
        ema_decay: Keep an exponential moving average of the weights with this decay, such as 0.999. It is validated,
            sampled, and used wherever the checkpoint is. Null: no average.
        matmul_precision: Precision of float32 products on a GPU: highest, high (TF32 on NVIDIA) or medium, as of
            torch.set_float32_matmul_precision. Null leaves torch's setting, which is highest.
    """

    model: ByteModel

    def __init__(
        self,
        net: ModelConfig = MegabyteConfig(),  # noqa: B008 - both are frozen
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
        method: Method = "plain",
        activation_memory: float | None = None,
        compile_mode: CompileSetting = "auto",
        activation_checkpointing: bool = False,
        ema_decay: float | None = None,
        matmul_precision: MatmulPrecision | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.optimizer = optimizer
        self.method = method
        if activation_memory is not None and not activation_memory > 0:
            raise FieldError("model.activation_memory", f"is {activation_memory}; it must be above 0")
        self.activation_memory = activation_memory
        self.compile_mode = compile_mode
        self._compile_mode: CompileMode | None = None
        self.activation_checkpointing = activation_checkpointing
        self.init_from: str | None = None
        """What `fit` takes the first weights from, as of `load_model`; a run that resumes does not read it."""
        if ema_decay is not None and not 0.0 < ema_decay < 1.0:
            raise FieldError("model.ema_decay", f"is {ema_decay}; it must be between 0 and 1, such as 0.999")
        self.average = None if ema_decay is None else WeightAverage(ema_decay)
        self.matmul_precision = matmul_precision
        self._former_matmul_precision: str | None = None
        self._step_options = DEFAULT_STEP
        self._clock = 0.0, math.inf
        self.val_bpb = BitsPerByte()
        self.test_bpb = BitsPerByte()
        self.bpb_of_part = ModuleDict()
        self._parts: dict[str, tuple[int, slice]] = {}
        self._part_weights: dict[str, float] | None = None
        self._unlearned: tuple[tuple[int, slice], ...] = ()

    @property
    def measured_parts(self) -> tuple[str, ...]:
        """The parts of records, or the sources of a mix, that count in val/bpb, by their names in logs."""
        return tuple(self._parts)

    @classmethod
    def load_from_checkpoint(cls, *_: Any, **__: Any) -> Self:
        """Not supported: the data fix parts of the model. `megabyte_mm.load_model` loads a trained one."""
        raise NotImplementedError("use megabyte_mm.load_model(path): it returns the trained model and its adapter")

    def configure_callbacks(self) -> list[Callback]:
        """Return the callback that averages the weights, if any. Raises FieldError for callbacks that do not work."""
        check_callbacks(self.trainer.callbacks)  # type: ignore[attr-defined] # set by a connector
        if self.average is None:
            return []
        if isinstance(self.trainer.strategy, FSDP2Strategy):
            raise FieldError("model.ema_decay", "does not work with fsdp2: leave it out, or take trainer.strategy ddp")
        return [self.average]

    def on_fit_start(self) -> None:
        """Raise FieldError for a callback that monitors a figure that does not exist."""
        check_monitors(self.trainer.callbacks, self.measured_parts)  # type: ignore[attr-defined]

    def setup(self, stage: str) -> None:
        """Let the data make the windows of the method. Raises ValueError for settings that do not work here."""
        check_strategy(self.trainer.strategy)
        if self.trainer.world_size > 1:
            end_group_at_exit()
        self._data().use_sliding_windows(is_sliding(self.method))
        if stage == "fit":
            self._compile_mode = compile_mode_here(self.compile_mode, self.trainer)
        if self.matmul_precision is not None:
            self._former_matmul_precision = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision(self.matmul_precision)

    def teardown(self, stage: str) -> None:
        """Restore the precision of products, which is a setting of the whole process."""
        if self._former_matmul_precision is not None:
            torch.set_float32_matmul_precision(self._former_matmul_precision)
            self._former_matmul_precision = None

    def configure_model(self) -> None:
        """Build the model for the data module of the trainer. Raises ValueError where the two do not fit."""
        if hasattr(self, "model"):
            return
        data = self._data()
        parts, self._part_weights = data.opened.measured_parts(), data.weights_of_parts()
        weights = self._part_weights or dict.fromkeys(parts, 1.0)
        self._parts = {name: place for name, place in parts.items() if weights[name]}
        self._unlearned = tuple(place for name, place in parts.items() if not weights[name])
        unlearned = frozenset((condition, symbols.start) for condition, symbols in self._unlearned)
        self._step_options = replace(self._step_options, unlearned=unlearned)
        self.bpb_of_part.update({_PREFIX + name: BitsPerByte() for name in self._parts})
        self.model = build_model(self.net, self.method, data.geometry)
        if self.init_from is not None and self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.ckpt_path:
            names = [source.name for source in data.sources]
            notes = load_initial_weights(self.model, self.init_from, data.geometry.conditions, names)
            rank_zero_info("; ".join([f"starting with the weights of {self.init_from}", *notes]))
        if isinstance(self.trainer.strategy, FSDP2Strategy):
            shard_model(self.model, self.trainer.strategy.device_mesh["data_parallel"])

    def on_train_start(self) -> None:
        """Set the memory, compile, and set the learning rate, which a checkpoint may have replaced."""
        budget = activation_budget(self.activation_memory, self.device)
        self._step_options = replace(self._step_options, activation_budget=budget)
        if self._compile_mode is not None:
            chosen = self.compile_mode != "auto" or self.activation_checkpointing
            if not chosen and records_graphs(self.trainer, self.model, self._data().batch_size, budget):
                self._compile_mode = "reduce-overhead"
            rank_zero_info(f"compiling the model ({self._compile_mode}): the first steps take a minute or so")
            self.model.compile_blocks(self._compile_mode)
        if self.activation_checkpointing:
            self.model.checkpoint_blocks()
        self._seed = torch.initial_seed()
        trainer = self.trainer
        self._accumulated_loss = AccumulatedLoss(trainer.strategy, trainer.world_size, trainer.accumulate_grad_batches)
        self._clock = read_clock(trainer)
        for config in self.trainer.lr_scheduler_configs:
            assert isinstance(config.scheduler, LambdaLR)
            apply_current_lr(config.scheduler)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Read the clock, which the learning rate may follow, and seed dropout by (seed, batch, rank).

        A resumed run then has the same dropout as an uninterrupted one.
        """
        self._clock = read_clock(self.trainer)
        number = self.trainer.fit_loop.epoch_loop.total_batch_idx
        common_seed = self._seed * 1_000_003 + number * 1_009
        torch.manual_seed((common_seed + self.global_rank) % 2**63)
        if self.trainer.world_size > 1:
            generator = torch.Generator().manual_seed(common_seed % 2**63)
            self._step_options = replace(
                self._step_options, shared_generator=generator, all_reduce_max=self._all_reduce_max
            )
        if self._compile_mode is not None:
            if self._compile_mode in GRAPH_MODES:
                self.zero_grad()  # the next graphs write over the memory of these gradients
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean loss in nats per symbol of an update, over its batches on all devices."""
        options = replace(self._step_options, num_filled=self._data().num_filled)
        nats_Bt, span = self.model.training_nll(batch.ids, batch.condition, options)
        if self._part_weights is None:
            loss = self._accumulated_loss.add(totals(nats_Bt, batch.ids, span, batch.scored))
        else:
            weight_BT = self._symbol_weights(batch)
            learned = totals(nats_Bt, batch.ids, span, batch.scored & (weight_BT > 0))
            loss = self._accumulated_loss.add(learned, _weighted(nats_Bt, weight_BT[:, span]))
        self.log("train/loss", self._accumulated_loss.nats_per_symbol)
        self.log("train/bpb", self._accumulated_loss.bits_per_byte, prog_bar=True)
        return loss

    def _symbol_weights(self, batch: Batch) -> Tensor:
        """The weight of each symbol in the loss, (B, T): each part of a row weighs as much as `part_weights` says."""
        assert self._part_weights is not None
        weight_BT = torch.zeros_like(batch.ids, dtype=torch.float32)
        condition_B = to_device(batch.condition, batch.ids.device)
        for name, (condition, symbols) in self._parts.items():
            scored_Bt = batch.scored[:, symbols] & (condition_B == condition)[:, None]
            share_B1 = self._part_weights[name] / scored_Bt.sum(dim=1, keepdim=True).clamp(min=1)
            weight_BT[:, symbols] += scored_Bt * share_B1
        return weight_BT

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Weight accumulated batches by their symbols, whose number is known only now."""
        factor = self._accumulated_loss.finish()
        if factor is not None:
            for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)

    def _all_reduce_max(self, number: int) -> int:
        """The maximum over all devices."""
        return int(self.trainer.strategy.reduce(torch.tensor(number, device=self.device), reduce_op="max"))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to val/bpb, and its symbols of each source of a mix or part of records to the metric of that.

        Parts of weight 0 count in neither.
        """
        self._update_metrics("val", self.val_bpb, batch, prog_bar=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to test/bpb, as in validation."""
        self._update_metrics("test", self.test_bpb, batch)

    def _update_metrics(self, split: str, metric: BitsPerByte, batch: Batch, prog_bar: bool = False) -> None:
        nats = self._nats(batch)
        metric.update(nats, batch.ids, self._learned(batch))
        self.log(f"{split}/bpb", metric, prog_bar=prog_bar)
        for name, place in self._parts.items():
            part_bpb = self.bpb_of_part[_PREFIX + name]
            assert isinstance(part_bpb, BitsPerByte)
            # A device may have no such rows, and must still log.
            each = [self.symbols_of_part(of_BT, batch.condition, *place) for of_BT in (nats, batch.ids, batch.scored)]
            part_bpb.update(*each)
            self.log(f"{split}/bpb/{name}", part_bpb)

    @staticmethod
    def symbols_of_part(values_BT: Tensor, condition_B: Tensor, condition: int, symbols: slice) -> Tensor:
        """The values of a part's symbols in the rows of a condition: (B, T), conditions on the CPU -> (n, t)."""
        # Numbers of rows: a mask on a GPU would be waited for, and its size.
        row_n = (condition_B == condition).nonzero()[:, 0]
        return values_BT[to_device(row_n, values_BT.device), symbols]

    def _learned(self, batch: Batch) -> Tensor:
        """The scored symbols of parts with weight, (B, T) bool."""
        learned_BT, condition_B = batch.scored.clone(), to_device(batch.condition, batch.ids.device)
        for condition, symbols in self._unlearned:
            learned_BT[:, symbols] &= (condition_B != condition)[:, None]
        return learned_BT

    def _nats(self, batch: Batch) -> Tensor:
        return method_nll(
            self.method, self.model, batch.ids, batch.condition, self._data().geometry.unit, self._step_options
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, with the learning rate set at every update."""
        # Lightning cannot clip gradients that a fused optimizer unscales itself.
        fused = self.trainer.precision != "16-mixed"
        product_dtype = torch.bfloat16 if self.trainer.precision == "bf16-mixed" else torch.float32
        if isinstance(self.trainer.strategy, FSDP2Strategy) and not works_in_shards(self.model, self.optimizer):
            reason = f"{self.optimizer.algorithm} does not work with fsdp2: take trainer.strategy ddp"
            raise FieldError("model.optimizer.algorithm", reason)
        optimizer = build_optimizer(self.model, self.optimizer, fused, product_dtype)
        rate = LearningRate(self.optimizer, self.trainer.estimated_stepping_batches, lambda: self._clock)
        schedule = LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip as Lightning does, and also with a fused optimizer where gradients are not scaled (bfloat16).

        Lightning refuses that for all mixed precision, though it scales gradients in float16 only.
        """
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and plugin.scaler is None:
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val or 0.0, algorithm)
            return
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the spec that loading the bare model and generation need, and the average of the weights."""
        checkpoint[SPEC_KEY] = make_spec(self.model, self._data().spec())
        if self.average is not None and self.average.state:
            checkpoint[AVERAGE_KEY] = self.average.state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the checkpoint, and apply the optimizer settings of this run to it.

        Raises ValueError for another model or other data, and where `fit` could not resume exactly.
        """
        self.configure_model()
        use_former_layouts(self.model, checkpoint)
        check_spec(self.trainer.ckpt_path, checkpoint, make_spec(self.model, self._data().spec()))
        groups = parameter_groups(self.model, self.optimizer)
        training = self.trainer.state.fn == TrainerFn.FITTING
        try:
            self._check_checkpoint(checkpoint, groups if training else None)
        except FieldError:
            raise
        except ValueError as error:
            raise ValueError(f"{self.trainer.ckpt_path}: a damaged checkpoint: {error}") from error
        for key in (STATE_DICT, AVERAGE_KEY):
            if not are_finite(
                checkpoint.get(key, {}).values()
            ):  # the weights of a folder are checked when they are read
                raise ValueError(f"{self.trainer.ckpt_path}: {NOT_FINITE}")
        if training:
            resume_average(self.average, checkpoint)
            apply_current_settings(checkpoint, self.optimizer, groups)
        elif AVERAGE_KEY in checkpoint:
            checkpoint[STATE_DICT] = averaged_state(checkpoint)

    def _check_checkpoint(self, checkpoint: dict[str, Any], groups: Sequence[ParameterGroup] | None) -> None:
        """Raise ValueError where something is missing. groups: of a run that resumes; None where it only measures."""
        strategy = self.trainer.strategy
        from_folder = isinstance(strategy, FSDP2Strategy) and strategy.loaded_from_folder
        weights = None if from_folder else self.state_dict()
        if groups is not None:
            check_resumable(checkpoint, self.trainer, groups, weights)
        elif weights is not None:
            check_weights(checkpoint.get(STATE_DICT), weights)
        if AVERAGE_KEY in checkpoint:
            check_weights(checkpoint[AVERAGE_KEY], dict(self.named_parameters()))

    def _data(self) -> ByteData:
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, ByteData):
            raise ValueError("ByteLM needs a trainer with a ByteData")
        return data


def _weighted(nats_Bt: Tensor, weight_Bt: Tensor) -> Totals:
    """The totals of symbols that have weights."""
    total = weight_Bt.sum()
    return Totals((nats_Bt.where(weight_Bt > 0, 0.0) * weight_Bt).sum(), total, total)
