"""MEGABYTE: a global Transformer over patches, and a local one over the bytes inside each (Yu et al. 2023, section 2).

Legend: B rows, T symbols, K patches, P symbols in a patch, N = B * K, G global width (the whole patch), E = G / P,
L local width, V the 257 symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megabyte_mm.alphabet import SYMBOLS, check_ids
from megabyte_mm.models.base import DEFAULT_STEP, ByteModel, Decoder, StepOptions, condition_ids
from megabyte_mm.models.config import StackConfig
from megabyte_mm.models.decoding.caches import LayerCache
from megabyte_mm.models.decoding.execution import Execution
from megabyte_mm.models.layers import Stack, init_weights, stack_activations, trunc_normal_parameter
from megabyte_mm.models.megabyte.chunked_loss import chunked_nll, patches_at_once
from megabyte_mm.models.megabyte.config import MegabyteConfig
from megabyte_mm.models.megabyte.decoder import MegabyteDecoder
from megabyte_mm.models.megabyte.embedders import PatchEmbedder
from megabyte_mm.models.megabyte.interface import PatchInterface, PatchLayers, most_patches, patch_embedder
from megabyte_mm.models.megabyte.padding import first_positions, whole_patches
from megabyte_mm.models.megabyte.parts import parts_logits, parts_nll
from megabyte_mm.models.megabyte.parts_decoder import PartsDecoder
from megabyte_mm.models.neighbourhood import NeighbourhoodEmbedder, neighbourhood_embedder


class Megabyte(ByteModel):
    """The paper's model with its extensions and ablations; docs/architecture.md walks through its parts."""

    config: MegabyteConfig

    def __init__(self, config: MegabyteConfig) -> None:
        super().__init__()
        if config.patch_size is None or config.max_len is None:
            raise ValueError("Megabyte needs a config with patch_size and max_len")
        self.patch_size, self.max_len = config.patch_size, config.max_len
        self.config = config = replace(config, conditions=config.conditions or 1)
        self.max_patches = most_patches(config)
        self.global_stack: Stack | None = None
        self.local_stack: Stack | None = None
        self.neighbourhood: NeighbourhoodEmbedder | None = None
        if config.global_stack is not None:
            self._add_global(config, config.global_stack)
        if config.local_stack is not None:
            self._add_local(config, config.local_stack)
        self.more_sizes = nn.ModuleDict({str(size): PatchInterface(config, size) for size in config.patch_sizes[1:]})
        """The interfaces of all patch sizes but the first, whose layers are this module's own."""
        init_weights(self, config.init_std)
        if config.embedding_init == "waves":
            for embedder in (module for module in self.modules() if isinstance(module, PatchEmbedder)):
                embedder.start_as_waves(config.init_std)
        self._add_starts(config)

    def _add_global(self, config: MegabyteConfig, stack: StackConfig) -> None:
        self.embedder = patch_embedder(config, self.patch_size)
        self.global_stack = Stack(stack, config.block, config.dropout)
        if config.local_stack is None:
            self.heads = nn.Linear(stack.dim, self.patch_size * SYMBOLS, bias=config.block.bias)
            return
        self.to_local = nn.Linear(stack.dim // self.patch_size, config.local_stack.dim, bias=False)

    def _add_local(self, config: MegabyteConfig, stack: StackConfig) -> None:
        self.local_symbols = nn.Embedding(SYMBOLS, stack.dim)
        self.local_positions = nn.Embedding(self.patch_size, stack.dim)
        self.local_stack = Stack(stack, config.block, config.dropout, previous=config.cross_patch)
        kinds = (config.conditions or 1) if config.parts is None else len(config.parts)
        self.neighbourhood = neighbourhood_embedder(config.neighbourhood, stack.dim, config.embedding_scale, kinds)

    def _add_starts(self, config: MegabyteConfig) -> None:
        """Add the inputs before the first patch, one for each condition, and before the first byte of a patch."""
        conditions, std = config.conditions or 1, config.init_std
        if config.global_stack is not None:
            self.start_CG = trunc_normal_parameter(conditions, config.global_stack.dim, std=std)
            if config.parts is not None:
                self.part_PG = trunc_normal_parameter(len(config.parts), config.global_stack.dim, std=std)
        if config.local_stack is not None:
            self.local_start_L = trunc_normal_parameter(config.local_stack.dim, std=std)
            if config.global_stack is None:
                self.condition_CL = trunc_normal_parameter(conditions, config.local_stack.dim, std=std)

    @property
    def patch_sizes(self) -> tuple[int, ...]:
        return self.config.patch_sizes

    @property
    def max_positions(self) -> int | None:
        """Longest sequence that the model has positions for; None with rotary positions."""
        rotary = self.global_stack is None or self.config.block.positions == "rotary"
        return None if rotary and self.config.parts is None else self.max_len

    @property
    def tied_embeddings(self) -> tuple[str, ...]:
        return () if self.local_stack is None else ("local_symbols.weight",)

    def layers_of(self, size: int | None = None) -> PatchLayers:
        """The layers of a patch size, by default that of the first part."""
        size = self.patch_size if size is None else size
        holder = self if size == self.patch_size else self.more_sizes[str(size)]
        return PatchLayers(size, holder.embedder, holder.to_local, holder.local_positions)  # type: ignore[arg-type]

    def forward(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        batch, length = ids_BT.shape
        if self.config.parts is not None:
            return parts_logits(self, ids_BT, condition_B)
        padded_BT, condition_B = self.padded(ids_BT, condition_B)
        recompute = self.recomputes_global(batch, DEFAULT_STEP.activation_budget)
        global_BKG = self.global_output(padded_BT, condition_B, recompute)
        if self.local_stack is None:
            logits_BKX: Tensor = self.heads(global_BKG)
            return first_positions(logits_BKX.view(batch, padded_BT.shape[1], SYMBOLS), length)
        hidden_BTL = self.local_output(global_BKG, padded_BT, condition_B)
        return first_positions(F.linear(hidden_BTL, self.local_symbols.weight), length)

    def nll(self, ids_BT: Tensor, condition_B: Tensor | None = None, options: StepOptions = DEFAULT_STEP) -> Tensor:
        """Negative log-likelihood of every symbol in nats: (B, T) int64 -> (B, T) float32.

        Patches go through the local model in chunks, as many at a time as the activation budget allows; if there are
        several, and gradients are needed, each chunk is recomputed in the backward pass.
        """
        if self.config.parts is not None:
            return parts_nll(self, ids_BT, condition_B, options)
        padded_BT, condition_B = self.padded(ids_BT, condition_B)
        recompute = self.recomputes_global(ids_BT.shape[0], options.activation_budget)
        global_BKG = self.global_output(padded_BT, condition_B, recompute)
        nats_BT = chunked_nll(self, global_BKG, padded_BT, condition_B, options.activation_budget)
        return nats_BT[:, : ids_BT.shape[1]].float()

    def padded(self, ids_BT: Tensor, condition_B: Tensor | None) -> tuple[Tensor, Tensor]:
        """The symbols padded to whole patches, and a condition for each row. Raises ValueError as `checked` does."""
        condition_B = self.checked(ids_BT, condition_B)
        # Causality keeps the padding of the last patch from reaching any position that is returned.
        return whole_patches(ids_BT, self.patch_size), condition_B

    def checked(self, ids_BT: Tensor, condition_B: Tensor | None) -> Tensor:
        """A condition for each row, on the device of the symbols.

        Raises ValueError for too many of either, and for ids that are no symbols.
        """
        self.check_length(ids_BT.shape[1])
        check_ids(ids_BT)
        return condition_ids(condition_B, ids_BT.shape[0], ids_BT.device)

    def global_output(self, ids_BT: Tensor, condition_B: Tensor, recompute: bool = False) -> Tensor | None:
        """Embed patches, shift them by one and read them with the global model: (B, T) int64 -> (B, K, G).

        T is a multiple of P. None without a global model. recompute: as of `Stack.forward`.
        """
        if self.global_stack is None:
            return None
        start_B1G = F.embedding(condition_B, self.start_CG).unsqueeze(1)
        patches_BKG = torch.cat([start_B1G, self.embedder(ids_BT[:, : -self.patch_size])], dim=1)
        global_BKG: Tensor = self.global_stack(patches_BKG, recompute=recompute)
        return global_BKG

    def local_output(
        self,
        global_BKG: Tensor | None,
        ids_BT: Tensor,
        condition_B: Tensor,
        first: int = 0,
        caches: Sequence[LayerCache] | None = None,
        size: int | None = None,
    ) -> Tensor:
        """Project the global output, add the bytes shifted by one, and read both with the local model -> (B, t, L).

        The t symbols are those of the K patches from number `first` on. global: (B, K, G), None without a global model;
        ids: (B, T) int64, all symbols up to the last of these patches; caches: receive the keys that the patch behind
        them sees. size: symbols in a patch, by default those of the first part; rows of several parts are read part by
        part, as rows of their own, with the number of the part as the condition.
        """
        assert self.local_stack is not None
        size = size or self.patch_size
        begin = first * size
        read_Bt = ids_BT[:, begin:]
        patches = read_Bt.shape[1] // size
        context_NPL = self.local_context(global_BKG, condition_B, patches, size)
        # In this order: the gradients of one table are summed in the order of its uses, which decides the last bits.
        starts_NL = self.local_starts(read_Bt, ids_BT[:, begin - 1 : begin] if begin else None, size)
        previous_NQL = self.local_bytes(read_Bt.reshape(-1, size)[:, :-1])
        input_NPL = torch.cat([starts_NL.unsqueeze(1), previous_NQL], dim=1) + context_NPL
        if self.neighbourhood is not None:
            input_NPL = input_NPL + self.neighbourhood(ids_BT, condition_B, begin, ids_BT.shape[1]).view(
                input_NPL.shape
            )
        hidden_NPL: Tensor = self.local_stack(input_NPL, caches, patches=patches)
        return hidden_NPL.view(*read_Bt.shape, -1)

    def local_context(
        self, global_BKG: Tensor | None, condition_B: Tensor, patches: int, size: int | None = None
    ) -> Tensor:
        """The input of each position of a patch that does not depend on its bytes: (B, K, G) -> (N, P, L).

        It is the position's share of the global output, projected, or the condition without a global model; plus the
        position's embedding.
        """
        context_NQL: Tensor
        if global_BKG is None:
            condition_BL = F.embedding(condition_B, self.condition_CL)
            context_NQL = condition_BL.repeat_interleave(patches, 0).unsqueeze(1)
            positions_PL = self.local_positions.weight
        else:
            layers = self.layers_of(size)
            shares_NPE = global_BKG.reshape(-1, layers.patch_size, global_BKG.shape[-1] // layers.patch_size)
            context_NQL = layers.to_local(shares_NPE)
            positions_PL = layers.local_positions.weight
        context_NPL: Tensor = context_NQL + positions_PL
        return context_NPL

    def local_starts(self, ids_BT: Tensor, before_B1: Tensor | None = None, size: int | None = None) -> Tensor:
        """The first input of the local model in each patch: (B, T) int64, T a multiple of P -> (N, L).

        before: the symbol in front of the first patch; None where the sequence begins.
        """
        size = size or self.patch_size
        batch, patches = ids_BT.shape[0], ids_BT.shape[1] // size
        if self.config.local_start == "learned":
            return self.local_start_L.expand(batch * patches, -1)
        last_BK = ids_BT[:, size - 1 :: size]
        if before_B1 is not None:
            return self.local_bytes(torch.cat([before_B1, last_BK[:, :-1]], dim=1)).flatten(0, 1)
        bytes_BKL = self.local_bytes(last_BK[:, :-1])
        return torch.cat([self.local_start_L.expand(batch, 1, -1).to(bytes_BKL), bytes_BKL], dim=1).flatten(0, 1)

    def local_bytes(self, ids_NQ: Tensor) -> Tensor:
        """Embeddings of symbols in the local model: (N, Q) int64 -> (N, Q, L)."""
        bytes_NQL: Tensor = self.local_symbols(ids_NQ)
        return bytes_NQL * self.config.embedding_scale

    def recomputes_global(self, batch: int, activation_budget: float) -> bool:
        """True if a training step on that many full windows keeps only the inputs of the global model's blocks."""
        if self.config.global_stack is None:
            return False
        activations = stack_activations(self.config.global_stack, self.max_patches) * self.max_patches * batch
        return activations > activation_budget

    def runs_blocks_once(self, batch: int, activation_budget: float) -> bool:
        in_chunks = patches_at_once(self, batch, activation_budget) < self.max_patches
        return self.config.parts is None and not in_chunks and not self.recomputes_global(batch, activation_budget)

    def new_decoder(self, condition_B: Tensor, capacity: int, execution: Execution) -> Decoder:
        decoder = MegabyteDecoder if self.config.parts is None else PartsDecoder
        return decoder(self, condition_B, capacity, execution)
