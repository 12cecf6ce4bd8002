"""The estimated costs of a model are those that torch counts and keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from megabyte_mm.evaluation import costs, memory
from megabyte_mm.evaluation.costs import binary, short
from megabyte_mm.models import (
    BlockConfig,
    ByteModel,
    MegabyteConfig,
    ModelConfig,
    PerceiverAR,
    PerceiverARConfig,
    StackConfig,
    TransformerConfig,
)
from megabyte_mm.models.flops import total_flops

WINDOW = 512
LARGE, SMALL = StackConfig(128, 3, 4), StackConfig(64, 2, 2)
MODERN = BlockConfig(norm="rms", activation="swiglu", positions="rotary", qk_norm=True, bias=False)
BASE = MegabyteConfig(8, WINDOW, LARGE, SMALL)
CONFIGS: dict[str, ModelConfig] = {
    "megabyte": BASE,
    "megabyte-extended": replace(BASE, cross_patch=4, conv_encoder=True, local_start="byte"),
    "megabyte-modern": replace(BASE, cross_patch=8, block=MODERN),
    "megabyte-gelu": replace(BASE, block=BlockConfig(activation="gelu")),
    "without-local": replace(BASE, local_stack=None, conv_encoder=True),
    "without-global": replace(BASE, global_stack=None, cross_patch=4),
    "transformer": TransformerConfig(WINDOW, LARGE),
    "transformer-blocks": TransformerConfig(WINDOW, LARGE, context=128, block=MODERN),
    "perceiver-ar": PerceiverARConfig(WINDOW, LARGE, latents=128),
    "perceiver-ar-context": PerceiverARConfig(WINDOW, LARGE, latents=32, context=64, block=MODERN),
    "perceiver-ar-one-span": PerceiverARConfig(WINDOW, LARGE, latents=1024, block=MODERN),
}
every_model = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def empty(config: ModelConfig) -> ByteModel:
    with torch.device("meta"):
        return config.build()


def held(model: ByteModel, name: str) -> int:
    """The weights of the module, or of the parameter, of that name."""
    modules = dict(model.named_modules())
    found = modules[name].parameters() if name in modules else [model.get_parameter(name)]
    return sum(parameter.numel() for parameter in found)


@every_model
def test_each_part_holds_what_the_module_of_its_name_holds(config: ModelConfig) -> None:
    model = empty(config)
    parts = costs.parts(model)
    assert {part.name: part.parameters for part in parts} == {part.name: held(model, part.name) for part in parts}


@every_model
def test_every_operation_belongs_to_a_part(config: ModelConfig) -> None:
    model = empty(config)
    parts = costs.parts(model)
    assert sum(part.flops for part in parts) == pytest.approx(model.flops_per_byte())
    assert sum(part.training_flops for part in parts) == pytest.approx(model.training_flops_per_byte())


def test_parts_bear_the_names_of_the_state_dict() -> None:
    config = replace(BASE, conv_encoder=True)
    found = {part.name: part for part in costs.parts(empty(config))}
    assert list(found) == [
        *("start_CG", "local_start_L", "embedder.symbols", "embedder.convolutions", "embedder.positions"),
        *("global_stack", "to_local", "local_symbols", "local_positions", "local_stack"),
    ]
    assert found["embedder.positions"].parameters == WINDOW * 128 // 8
    assert found["local_symbols"].parameters == 257 * 64
    assert found["embedder.symbols"].flops == 0  # it is looked up, not multiplied


def counted(model: ByteModel, run: Callable[[torch.Tensor], object]) -> int:
    """Operations that torch counts in a run on a full window, with all blocks."""
    ids = torch.zeros(1, model.max_len, dtype=torch.int64, device="meta")
    with FlopCounterMode(display=False) as counter:
        run(ids)
    return counter.get_total_flops()


def shortened(config: ModelConfig) -> ModelConfig:
    """The config with a window that is quickly counted."""
    window = min(WINDOW, 3 * config.latents) if isinstance(config, PerceiverARConfig) else 144
    return replace(config, max_len=window)  # type: ignore[type-var] # all are dataclasses


@every_model
def test_forward_operations_are_those_that_torch_counts(config: ModelConfig) -> None:
    model = empty(shortened(config))
    with torch.no_grad():
        assert total_flops(model.forward_flops) == counted(model, model)


@every_model
def test_training_operations_are_those_that_torch_counts(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    model = empty(shortened(config))
    # PerceiverAR learns from a random span: the estimate is the mean over all.
    spans = model.training_spans(model.max_len) if isinstance(model, PerceiverAR) else [None]

    def train(ids: torch.Tensor) -> None:
        nats, _ = model.training_nll(ids)
        nats.sum().backward()

    totals = []
    for span in spans:
        monkeypatch.setattr(PerceiverAR, "sample_span", lambda self, ids, options, span=span: span)
        totals.append(counted(model, train))
    estimate = 3 * total_flops(model.training_flops)
    # Logits are computed twice, the second time in the backward pass.
    estimate += sum(flops.total for name, flops in model.training_flops.items() if name.endswith("symbols"))
    # On the meta device attention is not fused. A fused backward pass recomputes the scores: one more product.
    assert estimate == pytest.approx(sum(totals) / len(totals), rel=2e-3)


def test_operations_are_those_of_the_paper() -> None:
    """2 (m_global / P + m_local) for each byte, and attention's two products (section 3)."""
    flops = empty(BASE).forward_flops
    blocks = {name: 12 * stack.dim**2 * stack.layers for name, stack in (("global", LARGE), ("local", SMALL))}
    expected = {
        "global_stack": (2 * blocks["global"] / 8, 4 * 128 * 3 * WINDOW / 8 / 8),
        "local_stack": (2 * blocks["local"], 4 * 64 * 2 * 8),
        "to_local": (2 * 16 * 64, 0),
        "local_symbols": (2 * 257 * 64, 0),
    }
    found = {name: (flops[name].matrices / WINDOW, flops[name].attention / WINDOW) for name in expected}
    assert found == expected
    assert total_flops(flops) / WINDOW == sum(map(sum, expected.values()))


def kept_for_backward(model: ByteModel, ids: torch.Tensor, mixed: bool) -> int:
    """Bytes that autograd saves in a training step, each storage once, weights left out."""
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    found: dict[int, torch.Tensor] = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        found[tensor.untyped_storage()._cdata] = tensor  # held, so that no other takes its place
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=mixed),
    ):
        nats, _ = model.training_nll(ids)
        total = nats.sum()
    assert total.requires_grad
    return sum(t.untyped_storage().nbytes() for key, t in found.items() if key not in weights)


@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "bfloat16"])
@every_model
# Torch takes its fused RMSNorm only where numbers and weights have one dtype.
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_memory_is_what_autograd_keeps(config: ModelConfig, mixed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a GPU, attention that keeps no scores.
    monkeypatch.setattr("megabyte_mm.models.attention.CPU_EXPLICIT_UP_TO", 0)
    # PerceiverAR at the end of its window.
    monkeypatch.setattr(torch, "randint", lambda high, *_, **__: torch.tensor(high - 1))
    model = config.build()
    estimate = memory.activation_bytes(model, batch=2, mixed=mixed)
    ids = torch.arange(2 * WINDOW).reshape(2, WINDOW) % 256
    of_the_paper = config in (BASE, CONFIGS["transformer"])
    assert estimate == pytest.approx(kept_for_backward(model, ids, mixed), rel=0.01 if of_the_paper else 0.25)


def test_dropout_keeps_which_numbers_it_dropped() -> None:
    kept = [memory.activation_bytes(empty(replace(BASE, dropout=p)), batch=1, mixed=False) for p in (0.0, 0.1)]
    assert kept[1] - kept[0] == 2 * (3 * 128 * WINDOW / 8 + 2 * 64 * WINDOW)


def test_the_optimizer_holds_three_times_the_weights_beside_them() -> None:
    model = empty(BASE)
    assert memory.state_bytes(model) == 16 * sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("config", "scores", "layers"),
    [
        (BASE, WINDOW / 8**2 + 8, 3 / 8 + 2),
        (replace(BASE, cross_patch=4), WINDOW / 8**2 + 8 + 4, 3 / 8 + 2),
        (replace(BASE, local_stack=None), WINDOW / 8**2, 3 / 8),
        (replace(BASE, global_stack=None), 8, 2),
        (CONFIGS["transformer"], WINDOW, 3),
        (CONFIGS["transformer-blocks"], 128, 3),
        # Seven spans of 128 latents, but for the first and the last, which are of 64 and 128.
        (PerceiverARConfig(256, LARGE, latents=128), (64 * 64 * 2 + 3 * 128 * 128 + 128 * (128 + 192 + 256)) / 256, 4),
    ],
)
def test_attention_and_generation_are_those_of_the_paper(config: ModelConfig, scores: float, layers: float) -> None:
    model = empty(config)
    found = costs.attention_pairs(model)
    assert found.scores == pytest.approx(scores)
    assert found.transformer == model.max_len
    assert costs.serial_layers(model) == layers


def test_patches_of_the_cube_root_cost_the_fourth_third_power() -> None:
    found = costs.attention_pairs(empty(TransformerConfig(10**6, LARGE, block=BlockConfig(positions="rotary"))))
    assert (found.best_patch, found.best) == (100, 200.0)  # T / P² + P = 2 T^(1/3), for each of T bytes


def test_an_architecture_without_costs_is_named() -> None:
    class Strange(ByteModel):
        max_len = 4

    Strange.__abstractmethods__ = frozenset()
    strange: Any = Strange()  # type: ignore[abstract]
    for function in (costs.attention_pairs, costs.serial_layers):
        with pytest.raises(ValueError, match="no costs are known for Strange"):
            function(strange)
    with pytest.raises(ValueError, match="no costs are known for Strange"):
        memory.activation_bytes(strange, batch=1, mixed=False)


def test_figures_have_three_digits_and_a_unit() -> None:
    assert [short(n) for n in (0, 7, 999, 1000, 65_792, 999_600, 758.3e6, 1.318e9, 4e12)] == [
        *("0", "7", "999", "1.00k", "65.8k", "1.00M", "758M", "1.32B", "4.00T")
    ]
    assert [binary(n) for n in (12, 2048, 3.5 * 2**20, 14.25 * 2**30, 45 * 2**40)] == [
        *("12 B", "2.00 KiB", "3.50 MiB", "14.2 GiB", "45.0 TiB")
    ]
