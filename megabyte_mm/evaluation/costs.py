"""Costs of a model, from its config alone: parameters, operations, memory, attention, generation; and their table."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from megabyte_mm.evaluation.memory import activation_bytes, state_bytes
from megabyte_mm.models import ByteModel, Flops, Megabyte, PerceiverAR, StepOptions, Transformer
from megabyte_mm.models.baselines.sequence import SequenceEmbedder
from megabyte_mm.models.flops import FlopsByModule
from megabyte_mm.models.megabyte.embedders import PatchEmbedder


@dataclass(frozen=True)
class Part:
    """One part of a model.

    Args:
        name: As in the model's state_dict.
        parameters: All weights in it. A table that input and output share is counted once.
        flops: Floating-point operations of a forward pass, per byte of a full window.
        training_flops: The same of a training step: forward, and backward with twice as many.
    """

    name: str
    parameters: int
    flops: float
    training_flops: float


def parts(model: ByteModel) -> list[Part]:
    """The parts, in the order in which the model holds them; every parameter belongs to one."""
    forward, training = model.forward_flops, model.training_flops
    parameters: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = part_of(model, name)
        parameters[part] = parameters.get(part, 0) + parameter.numel()

    def per_byte(flops: FlopsByModule, name: str) -> float:
        return flops.get(name, Flops()).total / model.max_len

    return [
        Part(name, count, per_byte(forward, name), 3 * per_byte(training, name)) for name, count in parameters.items()
    ]


def part_of(model: nn.Module, parameter: str) -> str:
    """The part that a parameter belongs to: the module just below the model, or below the embedder."""
    top, *below = parameter.split(".")
    inside = getattr(model, top)
    return f"{top}.{below[0]}" if isinstance(inside, PatchEmbedder | SequenceEmbedder) else top


@dataclass(frozen=True)
class AttentionPairs:
    """Pairs of a query and a key for each byte, in one layer of each level (paper, section 3.1).

    Args:
        scores: Of this model: T / P² + P + r for MEGABYTE.
        transformer: Of a Transformer that reads the whole window: T.
        best: Of MEGABYTE with patches of T^(1/3), the paper's choice for long windows, without cross-patch attention.
        best_patch: T^(1/3), rounded.
    """

    scores: float
    transformer: float
    best: float
    best_patch: int


def attention_pairs(model: ByteModel) -> AttentionPairs:
    """The pairs of a forward pass over a full window. Raises ValueError for an architecture that is not known here."""
    length = model.max_len
    patch = max(1, round(length ** (1 / 3)))
    patches = -(length // -patch)
    return AttentionPairs(
        scores=_scores_per_byte(model),
        transformer=float(length),
        best=patches * patches / length + patch,
        best_patch=patch,
    )


def _scores_per_byte(model: ByteModel) -> float:
    length = model.max_len
    if isinstance(model, Megabyte):
        patch = model.patch_size
        global_scores = model.max_patches / patch if model.global_stack is not None else 0.0
        return global_scores + (patch + model.config.cross_patch if model.local_stack is not None else 0)
    if isinstance(model, Transformer):
        return float(model.block_size(length))
    if isinstance(model, PerceiverAR):
        spans = [(span.end - span.first, span.end - span.oldest) for span in model.spans(length)]
        return sum(latents * (latents + visible) for latents, visible in spans) / length
    raise ValueError(f"no costs are known for {type(model).__name__}")


def serial_layers(model: ByteModel) -> float:
    """Layers that must run one after the other to generate a byte (paper, section 3.2): L_global / P + L_local.

    Raises ValueError for an architecture that is not known here.
    """
    if isinstance(model, Megabyte):
        levels = ((model.global_stack, model.patch_size), (model.local_stack, 1))
        return sum(stack.config.layers / size for stack, size in levels if stack is not None)
    if isinstance(model, PerceiverAR):
        return model.config.stack.layers + 1
    if isinstance(model, Transformer):
        return model.config.stack.layers
    raise ValueError(f"no costs are known for {type(model).__name__}")


@dataclass(frozen=True)
class Costs:
    """The size and costs of a model.

    Args:
        architecture: The model's stable name.
        window: The most symbols that it sees.
        patch_size: Symbols in a patch; 1 without patches.
        parameters: All weights.
        flops: Floating-point operations of a forward pass, per byte of a full window.
        training_flops: The same of a training step.
        parts: Its modules, with their shares.
        batch_size: Windows in a training step, for the memory.
        state_bytes: Weights, gradients and AdamW's moments.
        activation_bytes: Kept for the backward pass of a training step, by Lightning's name of the precision.
        attention: Pairs of positions that attention computes.
        serial_layers: Layers that must run one after the other to generate a byte.
    """

    architecture: str
    window: int
    patch_size: int
    parameters: int
    flops: float
    training_flops: float
    parts: tuple[Part, ...]
    batch_size: int
    state_bytes: int
    activation_bytes: dict[str, float]
    attention: AttentionPairs
    serial_layers: float


def costs_of(model: ByteModel, batch_size: int = 1, activation_budget: float = StepOptions.activation_budget) -> Costs:
    """The costs of a model, which may lie on the meta device. Raises ValueError for an unknown architecture."""
    return Costs(
        architecture=model.config.name,
        window=model.max_len,
        patch_size=model.patch_size,
        parameters=model.num_parameters,
        flops=model.flops_per_byte(),
        training_flops=model.training_flops_per_byte(),
        parts=tuple(parts(model)),
        batch_size=batch_size,
        state_bytes=state_bytes(model),
        activation_bytes={
            "32-true": activation_bytes(model, batch_size, False, activation_budget),
            "bf16-mixed": activation_bytes(model, batch_size, True, activation_budget),
        },
        attention=attention_pairs(model),
        serial_layers=serial_layers(model),
    )


def table(costs: Costs) -> list[str]:
    """The lines of a table for a terminal."""
    return [
        f"{costs.architecture}, {_geometry(costs)}",
        "",
        *_parts_table(costs),
        "",
        *_memory_table(costs),
        "",
        *_attention_lines(costs),
    ]


def _geometry(costs: Costs) -> str:
    if costs.patch_size == 1:
        return f"window of {costs.window:,} bytes"
    patches = -(costs.window // -costs.patch_size)
    return f"window of {costs.window:,} bytes: {patches:,} patches of {costs.patch_size}"


def _parts_table(costs: Costs) -> list[str]:
    wide = max(len("total"), *(len(part.name) for part in costs.parts))
    total = Part("total", costs.parameters, costs.flops, costs.training_flops)
    head = f"{'part':<{wide}}  parameters   share   forward FLOPs/byte   training FLOPs/byte"
    lines = [head, *(_part_line(part, costs, wide) for part in (*costs.parts, total))]
    if costs.training_flops < costs.flops:
        lines.append("a training step learns only from the latents of one span of the window")
    return lines


def _part_line(part: Part, costs: Costs, wide: int) -> str:
    share = part.parameters / costs.parameters
    return (
        f"{part.name:<{wide}}  {short(part.parameters):>10}  {share:>6.1%}"
        f"   {_operations(part.flops):>18}   {_operations(part.training_flops):>19}"
    )


def _memory_table(costs: Costs) -> list[str]:
    windows = "1 window" if costs.batch_size == 1 else f"{costs.batch_size:,} windows"
    lines = [f"memory of a training step on {windows}, without the allocator's own"]
    lines.append(f"  weights, gradients, AdamW's moments   {binary(costs.state_bytes):>10}")
    for precision, kept in costs.activation_bytes.items():
        lines.append(f"  {'activations, ' + precision:<36}  {binary(kept):>10}")
    return lines


def _attention_lines(costs: Costs) -> list[str]:
    pairs = costs.attention
    scores = f"attention: {pairs.scores:,.1f} scores per byte and layer"
    if pairs.scores != pairs.transformer:
        times = pairs.transformer / pairs.scores
        scores += f", of a Transformer {pairs.transformer:,.0f}: {times:,.1f} times as many"
    return [
        scores,
        f"  MEGABYTE with patches of T^(1/3) = {pairs.best_patch} bytes: {pairs.best:,.1f}",
        f"generation: {costs.serial_layers:,.2f} layers one after the other per byte",
    ]


def short(count: float) -> str:
    """A number with three digits and a unit: 1.31B, 758M, 65.8k."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= 0.9995 * size:
            return f"{_three_digits(count / size)}{unit}"
    return f"{count:.0f}"


def binary(count: float) -> str:
    """Bytes with three digits and a unit: 14.2 GiB."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= 0.9995 * size:
            return f"{_three_digits(count / size)} {unit}"
    return f"{count:.0f} B"


def _three_digits(number: float) -> str:
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{digits}f}"


def _operations(count: float) -> str:
    return short(count) if count else "-"
