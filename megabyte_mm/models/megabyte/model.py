"""MEGABYTE: a global Transformer over patches, and a local one over the bytes inside each (Yu et al. 2023, section 2).

Legend: B rows, T symbols, K patches, P symbols in a patch, N = B * K, G global width (the whole patch), E = G / P,
L local width, V the 257 symbols.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megabyte_mm.alphabet import END, SYMBOLS
from megabyte_mm.models.base import ByteModel, ModelConfig, condition_ids
from megabyte_mm.models.decoding.caches import LayerCache
from megabyte_mm.models.decoding.execution import Execution
from megabyte_mm.models.flops import PartWork, Work, matmul_parameters, stack_work, table_work
from megabyte_mm.models.layers import (
    BlockConfig,
    Stack,
    StackConfig,
    init_weights,
    stack_activations,
    trunc_normal_parameter,
)
from megabyte_mm.models.loss import chunked_cross_entropy
from megabyte_mm.models.megabyte.chunked_loss import Chunk, in_chunks
from megabyte_mm.models.megabyte.decoder import MegabyteDecoder
from megabyte_mm.models.megabyte.embedders import PatchEmbedder

MIN_CHUNK_RATIO = 4
"""A chunk has at least so many times the patches that are read once more before it, for attention across patches."""


@dataclass(frozen=True)
class MegabyteConfig(ModelConfig):
    """The architecture of a MEGABYTE model.

    Three fields may stay None on the command line, where the data tell them; `Megabyte` itself needs the first two.

    Args:
        patch_size: Symbols in a patch. For images it follows from the scan (3 p² for colour, p² for grey).
        max_len: Longest sequence in symbols; on the command line, the data's window.
        global_stack: The Transformer over patches. Its dim is the whole patch's width: a multiple of patch_size. None
            leaves it out, for comparison: each patch is then predicted without the ones before it.
        local_stack: The Transformer over the symbols of one patch. None leaves it out, for comparison: the global
            output then predicts each symbol of a patch independently of the others.
        conv_encoder: Causal convolutions over the bytes before they are cut into patches.
        cross_patch: How many positions of the previous patch the local model's attention sees, up to patch_size.
        local_start: What the local model reads where a patch begins: a learned vector, as in the paper, or the last
            byte of the patch before.
        embedding_scale: Factor on a byte's embedding where the local model reads it, but not where the same table makes
            logits. With small initial weights, about 5 makes the input bytes matter from the first step (Vaswani et
            al. 2017 use the square root of the width).
        block: What the Transformer blocks of both stacks are made of.
        conditions: How many start patches are learned: one, or one more than there are classes.
        dropout: Share of attention weights and of sublayer outputs dropped in training (0.1 in the paper).
        init_std: Standard deviation of the initial weights, truncated at two of them (0.006 in the paper).
    """

    name: ClassVar[str] = "megabyte"

    patch_size: int | None = None
    max_len: int | None = None
    global_stack: StackConfig | None = field(default_factory=lambda: StackConfig(dim=512, layers=6, heads=8))
    local_stack: StackConfig | None = field(default_factory=lambda: StackConfig(dim=256, layers=4, heads=4))
    conv_encoder: bool = False
    cross_patch: int = 0
    local_start: Literal["learned", "byte"] = "learned"
    embedding_scale: float = 1.0
    block: BlockConfig = field(default_factory=BlockConfig)
    conditions: int | None = None
    dropout: float = 0.0
    init_std: float = 0.006

    def __post_init__(self) -> None:
        self.check_common_fields("patch_size", "max_len", "conditions")
        if self.local_start not in ("learned", "byte"):
            raise ValueError(f"local_start is {self.local_start!r}; known: learned, byte")
        self._check_parts()
        if self.patch_size is None:
            return
        if self.global_stack is not None and self.global_stack.dim % self.patch_size:
            raise ValueError(
                f"global_stack.dim {self.global_stack.dim} is not a multiple of patch_size {self.patch_size}: "
                f"the global model sees the patch's {self.patch_size} embeddings side by side"
            )
        if self.cross_patch > self.patch_size:
            raise ValueError(
                f"cross_patch is {self.cross_patch}; a patch has only patch_size {self.patch_size} positions"
            )

    def _check_parts(self) -> None:
        if self.global_stack is None and self.local_stack is None:
            raise ValueError("global_stack and local_stack are both None; one of them is needed")
        if self.cross_patch < 0:
            raise ValueError(f"cross_patch is {self.cross_patch}; it must be at least 0")
        of_local = {
            "cross_patch": self.cross_patch > 0,
            "local_start": self.local_start != "learned",
            "embedding_scale": self.embedding_scale != 1.0,
        }
        of_global = {"conv_encoder": self.conv_encoder}
        defaults = MegabyteConfig.__dataclass_fields__
        for stack, fields in (("local_stack", of_local), ("global_stack", of_global)):
            unused = [name for name, is_set in fields.items() if is_set and getattr(self, stack) is None]
            if unused:
                told = " and ".join(f"{name} is {getattr(self, name)!r}" for name in unused)
                wanted = ", ".join(f"{name}: {defaults[name].default!r}" for name in unused)
                raise ValueError(f"{told}, but there is no {stack} to use it: without one, set {wanted}")

    def resolve(self, patch_size: int | None, max_len: int, conditions: int, unit: int = 1) -> MegabyteConfig:
        found = self.filled(patch_size=patch_size, max_len=max_len, conditions=conditions)
        size = found["patch_size"]
        if size is None:
            raise ValueError("patch_size is missing: this modality leaves the patch size to you")
        if size % unit:
            raise ValueError(f"patch_size {size} cuts through the data's {unit}-byte frames")
        return replace(self, **found)  # type: ignore[arg-type] # it does not look at the names

    def build(self) -> Megabyte:
        return Megabyte(self)


class Megabyte(ByteModel):
    """The paper's model with its extensions and ablations; docs/architecture.md walks through its parts."""

    config: MegabyteConfig

    def __init__(self, config: MegabyteConfig) -> None:
        super().__init__()
        if config.patch_size is None or config.max_len is None:
            raise ValueError("Megabyte needs a config with patch_size and max_len")
        self.patch_size, self.max_len = config.patch_size, config.max_len
        self.config = config = replace(config, conditions=config.conditions or 1)
        self.max_patches = -(self.max_len // -self.patch_size)
        self.global_stack: Stack | None = None
        self.local_stack: Stack | None = None
        if config.global_stack is not None:
            self._add_global(config, config.global_stack)
        if config.local_stack is not None:
            self._add_local(config, config.local_stack)
        init_weights(self, config.init_std)
        self._add_starts(config)
        of_global = ("embedder.", "global_stack.", "start_CG")
        self._local_names = [name for name, _ in self.named_parameters() if not name.startswith(of_global)]

    def _add_global(self, config: MegabyteConfig, stack: StackConfig) -> None:
        learned = self.max_patches * self.patch_size if config.block.positions == "learned" else 0
        self.embedder = PatchEmbedder(self.patch_size, stack.dim, learned, config.conv_encoder)
        self.global_stack = Stack(stack, config.block, config.dropout)
        if config.local_stack is None:
            self.heads = nn.Linear(stack.dim, self.patch_size * SYMBOLS, bias=config.block.bias)
            return
        self.to_local = nn.Linear(stack.dim // self.patch_size, config.local_stack.dim, bias=False)

    def _add_local(self, config: MegabyteConfig, stack: StackConfig) -> None:
        self.local_symbols = nn.Embedding(SYMBOLS, stack.dim)
        self.local_positions = nn.Embedding(self.patch_size, stack.dim)
        self.local_stack = Stack(stack, config.block, config.dropout, previous=config.cross_patch)

    def _add_starts(self, config: MegabyteConfig) -> None:
        """What stands before the first patch, for each condition, and before the first byte of a patch."""
        if config.global_stack is not None:
            self.start_CG = trunc_normal_parameter(config.conditions or 1, config.global_stack.dim, std=config.init_std)
        if config.local_stack is not None:
            self.local_start_L = trunc_normal_parameter(config.local_stack.dim, std=config.init_std)
            if config.global_stack is None:
                self.condition_CL = trunc_normal_parameter(
                    config.conditions or 1, config.local_stack.dim, std=config.init_std
                )

    @property
    def max_positions(self) -> int | None:
        """Longest sequence that the model has positions for; None with rotary positions."""
        rotary = self.global_stack is None or self.config.block.positions == "rotary"
        return None if rotary else self.max_len

    def forward(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        batch, length = ids_BT.shape
        padded_BT, condition_B, global_BKG = self._read_patches(ids_BT, condition_B)
        if self.local_stack is None:
            logits_BKPV: Tensor = self.heads(global_BKG)
            return logits_BKPV.view(batch, -1, SYMBOLS)[:, :length]
        return self.to_logits(self.local_output(global_BKG, padded_BT, condition_B))[:, :length]

    def nll(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of every symbol in nats: (B, T) int64 -> (B, T) float32.

        Patches go through the local model in chunks, as many at a time as `activation_budget` allows; where they are
        several, and gradients are wanted, each chunk is computed anew for the backward pass.
        """
        padded_BT, condition_B, global_BKG = self._read_patches(ids_BT, condition_B)
        chunks = list(self._chunks(*padded_BT.shape))

        def nats(chunk: Chunk, global_output_BkG: Tensor | None) -> Tensor:
            return self._chunk_nll(global_output_BkG, padded_BT, condition_B, chunk)

        if len(chunks) == 1:
            nats_BT = nats(chunks[0], global_BKG)
        elif torch.is_grad_enabled():
            nats_BT = in_chunks(nats, chunks, global_BKG, self._local_weights, padded_BT)
        else:
            told = (None if global_BKG is None else global_BKG[:, chunk.inputs] for chunk in chunks)
            nats_BT = torch.cat([nats(*each) for each in zip(chunks, told, strict=True)], dim=1)
        return nats_BT[:, : ids_BT.shape[1]].float()

    def _read_patches(self, ids_BT: Tensor, condition_B: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """The symbols filled up to whole patches, a condition for each row, and what the global model says of them."""
        batch, length = ids_BT.shape
        self.check_length(length)
        condition_B = condition_ids(condition_B, batch, ids_BT.device)
        # Causality keeps whatever fills the last patch from reaching any position that is returned.
        padded_BT = F.pad(ids_BT, (0, -length % self.patch_size), value=END)
        return padded_BT, condition_B, self.global_output(padded_BT, condition_B)

    def patches_at_once(self, batch: int) -> int:
        """How many patches of each row have their local activations held together."""
        local = self.config.local_stack
        seen = self.patch_size + self.config.cross_patch
        held = 3 * 4 * SYMBOLS if local is None else stack_activations(local, seen)
        # At least so many that what is read twice at their borders is little.
        least = MIN_CHUNK_RATIO * self._receptive_field
        fitting = min(self.activation_budget / (held * batch * self.patch_size), self.max_patches)
        return max(int(fitting), least, 1)

    @property
    def _receptive_field(self) -> int:
        """How many patches before its own a place hears of in the local model: one more with each layer."""
        local = self.config.local_stack
        return local.layers if local is not None and self.config.cross_patch else 0

    def _chunks(self, batch: int, length: int) -> Iterator[Chunk]:
        """Stretches of patches that are read together, each with the patches before that it hears of."""
        patches, size = length // self.patch_size, self.patches_at_once(batch)
        for first in range(0, patches, size):
            last = min(first + size, patches)
            # Across patches, some of those before are read once more, for what these see of them.
            reads = slice(max(first - self._receptive_field, 0), last)
            yield Chunk(reads, outputs=slice(first * self.patch_size, last * self.patch_size))

    def _local_weights(self) -> list[Tensor]:
        """All that a chunk is computed with, but for what the global model says."""
        found = (attrgetter(name)(self) for name in self._local_names)
        return [weight for weight in found if weight.requires_grad]

    def _chunk_nll(self, global_output_BkG: Tensor | None, ids_BT: Tensor, condition_B: Tensor, chunk: Chunk) -> Tensor:
        """The nats of the symbols that a chunk gives, from what the global model says of the patches that it reads."""
        wanted_BC = ids_BT[:, chunk.outputs]
        if self.local_stack is None:
            logits_BKPV = self.heads(global_output_BkG)
            return F.cross_entropy(
                logits_BKPV.view(-1, SYMBOLS).float(), wanted_BC.flatten(), reduction="none"
            ).view_as(wanted_BC)
        begin = chunk.inputs.start * self.patch_size
        ids_BC = ids_BT[:, begin : chunk.outputs.stop]
        before_B1 = ids_BT[:, begin - 1 :][:, :1] if begin else None
        hidden_BCL = self.local_output(global_output_BkG, ids_BC, condition_B, before_B1)
        hidden_BCL = hidden_BCL[:, chunk.outputs.start - begin :]
        nats_N = chunked_cross_entropy(hidden_BCL.flatten(0, 1), self.local_symbols.weight, wanted_BC.flatten())
        return nats_N.view_as(wanted_BC)

    def local_output(
        self,
        global_BkG: Tensor | None,
        ids_BC: Tensor,
        condition_B: Tensor,
        before_B1: Tensor | None = None,
        caches: Sequence[LayerCache] | None = None,
    ) -> Tensor:
        """The last hidden vectors of the local model over whole patches of each row: (B, C) int64 -> (B, C, L).

        global: what the global model says of these patches; before: the symbol before them, None where rows begin;
        caches: receive what the patch after them will see.
        """
        assert self.local_stack is not None
        patches = ids_BC.shape[1] // self.patch_size
        context_NPL = self.local_context(global_BkG, condition_B, patches)
        previous_NQ = ids_BC.reshape(-1, self.patch_size)[:, :-1]
        input_NPL = self.local_input(context_NPL, self.local_starts(ids_BC, before_B1), previous_NQ)
        hidden_NPL: Tensor = self.local_stack(input_NPL, caches, patches=patches)
        return hidden_NPL.view(*ids_BC.shape, -1)

    def global_output(self, ids_BT: Tensor, condition_B: Tensor) -> Tensor | None:
        """What the global model says of each patch: (B, T) int64, T a multiple of P -> (B, K, G); None without one.

        It reads the start patch and all patches but the last.
        """
        if self.global_stack is None:
            return None
        start_B1G = F.embedding(condition_B, self.start_CG).unsqueeze(1)
        patches_BKG = torch.cat([start_B1G, self.embedder(ids_BT[:, : -self.patch_size])], dim=1)
        recompute = self.recomputes_global(len(ids_BT))
        global_BKG: Tensor = self.global_stack(patches_BKG, recompute=recompute)
        return global_BKG

    def recomputes_global(self, batch: int) -> bool:
        """Whether a training step on so many full windows keeps the inputs of the global model's blocks alone."""
        if self.config.global_stack is None:
            return False
        held = stack_activations(self.config.global_stack, self.max_patches) * self.max_patches * batch
        return held > self.activation_budget

    def local_context(self, global_BKG: Tensor | None, condition_B: Tensor, patches: int) -> Tensor:
        """What the local model is told of each place of a patch, with its position: (B, K, G) -> (N, P, L)."""
        global_NQL: Tensor
        if global_BKG is None:
            condition_BL = F.embedding(condition_B, self.condition_CL)
            global_NQL = condition_BL.repeat_interleave(patches, 0).unsqueeze(1)
        else:
            global_NQL = self.to_local(global_BKG.reshape(-1, self.patch_size, global_BKG.shape[-1] // self.patch_size))
        context_NPL: Tensor = global_NQL + self.local_positions.weight
        return context_NPL

    def local_starts(self, ids_BT: Tensor, before_B1: Tensor | None = None) -> Tensor:
        """What the local model reads first in each patch: (B, T) int64, T a multiple of P -> (N, L).

        before: the symbol before the first of them; None where the sequence begins.
        """
        batch, patches = ids_BT.shape[0], ids_BT.shape[1] // self.patch_size
        if self.config.local_start == "learned":
            return self.local_start_L.expand(batch * patches, -1)
        last_BK = ids_BT[:, self.patch_size - 1 :: self.patch_size]
        if before_B1 is not None:
            return self.local_bytes(torch.cat([before_B1, last_BK[:, :-1]], dim=1)).flatten(0, 1)
        bytes_BKL = self.local_bytes(last_BK[:, :-1])
        return torch.cat([self.local_start_L.expand(batch, 1, -1).to(bytes_BKL), bytes_BKL], dim=1).flatten(0, 1)

    def local_bytes(self, ids_NQ: Tensor) -> Tensor:
        """Symbols as the local model reads them: (N, Q) int64 -> (N, Q, L)."""
        bytes_NQL: Tensor = self.local_symbols(ids_NQ)
        return bytes_NQL * self.config.embedding_scale

    def local_input(self, context_NPL: Tensor, starts_NL: Tensor, previous_NQ: Tensor) -> Tensor:
        """The local model's input at the first Q + 1 places of a patch: (N, P, L), (N, L), (N, Q) -> (N, Q + 1, L)."""
        bytes_NQL = torch.cat([starts_NL.unsqueeze(1), self.local_bytes(previous_NQ)], dim=1)
        return bytes_NQL + context_NPL[:, : bytes_NQL.shape[1]]

    def to_logits(self, hidden_NQL: Tensor) -> Tensor:
        """Logits by the local symbol table, which input and output share."""
        return F.linear(hidden_NQL, self.local_symbols.weight)

    def new_decoder(self, condition_B: Tensor, capacity: int, execution: Execution) -> MegabyteDecoder:
        return MegabyteDecoder(self, condition_B, capacity, execution)

    @property
    def tied_embeddings(self) -> tuple[str, ...]:
        return () if self.local_stack is None else ("local_symbols.weight",)

    def work(self) -> PartWork:
        """2 (m_g / P + m_l) operations per byte for the matrices, and attention's two products (paper, section 3)."""
        return {**self._global_work(), **self._local_work()}

    def _global_work(self) -> PartWork:
        if self.global_stack is None:
            return {}
        length, patches = self.max_len, self.max_len / self.patch_size
        found = {"global_stack": (stack_work(self.global_stack, patches, patches * self.max_patches),)}
        if self.embedder.convolutions is not None:
            found["embedder.convolutions"] = (Work(matmul_parameters(self.embedder.convolutions), length),)
        if self.local_stack is None:
            found["heads"] = (Work(matmul_parameters(self.heads), patches),)
        else:
            found["to_local"] = (Work(matmul_parameters(self.to_local), length),)
        return found

    def _local_work(self) -> PartWork:
        if self.local_stack is None:
            return {}
        length, seen = self.max_len, self.patch_size + self.config.cross_patch
        return {
            "local_stack": (stack_work(self.local_stack, length, length * seen),),
            "local_symbols": (table_work(self.local_symbols, length),),
        }
