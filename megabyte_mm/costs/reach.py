"""What attention costs against a Transformer over the same window, and how many layers wait for each other."""

from __future__ import annotations

from dataclasses import dataclass

from megabyte_mm.models import ByteModel, Megabyte, PerceiverAR, Transformer


@dataclass(frozen=True)
class Attention:
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


def attention(model: ByteModel) -> Attention:
    """The pairs that a forward pass over a full window looks at.

    Raises ValueError for an architecture that does not tell its work.
    """
    length = model.max_len
    works = [work for part in model.work().values() for work in part]
    patch = max(1, round(length ** (1 / 3)))
    patches = -(length // -patch)
    return Attention(
        scores=sum(work.scores for work in works) / length,
        transformer=float(length),
        best=patches * patches / length + patch,
        best_patch=patch,
    )


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
