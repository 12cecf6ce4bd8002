"""torch.export: one program for any number of rows and any length, with the logits of the model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.export import Dim

from megabyte_mm.models import BlockConfig, MegabyteConfig, ModelConfig, StackConfig, TransformerConfig
from tests.models.layouts import EACH

PATCH, LONGEST = 4, 64
STACK = StackConfig(dim=16, layers=1, heads=2)
BASE = MegabyteConfig(PATCH, LONGEST, STACK, STACK, conditions=3, conv_encoder=True, init_std=0.5)
ROTARY = BlockConfig(positions="rotary")
VARIANTS: dict[str, ModelConfig] = {
    "learned positions": BASE,
    "across patches": replace(BASE, block=ROTARY, cross_patch=3, neighbourhood=EACH, local_start="byte"),
    "transformer": TransformerConfig(max_len=LONGEST, stack=STACK, conditions=3, init_std=0.5),
}


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of torch's exporter about itself
@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_an_exported_model_takes_any_batch_and_length(config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = config.build().eval()
    batch, length = Dim("batch", min=1, max=16), Dim("length", min=2 * PATCH + 1, max=LONGEST)
    program = torch.export.export(
        model,
        (torch.zeros(3, 22, dtype=torch.long), torch.arange(3)),
        dynamic_shapes=({0: batch, 1: length}, {0: batch}),
        prefer_deferred_runtime_asserts_over_guards=True,
    ).module()
    for rows, symbols in ((1, 9), (2, 12), (5, 31), (3, 64)):
        ids, condition = torch.randint(257, (rows, symbols)), torch.arange(rows) % 3
        torch.testing.assert_close(program(ids, condition), model(ids, condition))
