"""The pieces that blocks are made of compute what their papers say."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from megabyte_mm.models import BlockConfig, MegabyteConfig, ModelConfig, PerceiverARConfig, StackConfig
from megabyte_mm.models.attention import FUSED_ROWS, MultiHeadAttention, attend
from megabyte_mm.models.layers import FeedForward
from megabyte_mm.models.rotary import RotaryEmbedding, apply_rotary

STACK = StackConfig(dim=8, layers=2, heads=2, feedforward=3)
INPUT = torch.linspace(-2, 2, 24).view(3, 8)


def sigmoid(x: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + (-x).exp())


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("relu", lambda x: x * (x > 0)),
        ("relu2", lambda x: x * x * (x > 0)),
        ("gelu", lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2),
    ],
)
def test_a_feedforward_layer_activates_between_two_products(activation: Any, expected: Any) -> None:
    layer = FeedForward(STACK, BlockConfig(activation=activation))
    assert layer.up.out_features == 24
    with torch.no_grad():
        torch.testing.assert_close(layer(INPUT), layer.down(expected(layer.up(INPUT))))


def test_a_gated_feedforward_layer_has_as_many_weights() -> None:
    wide = StackConfig(dim=96, layers=1, heads=2)
    plain, gated = (FeedForward(wide, BlockConfig(activation=name, bias=False)) for name in ("relu", "swiglu"))
    assert sum(p.numel() for p in gated.parameters()) == sum(p.numel() for p in plain.parameters())
    x = torch.linspace(-2, 2, 192).view(2, 96)
    with torch.no_grad():
        gate, value = gated.up(x).chunk(2, dim=-1)
        torch.testing.assert_close(gated(x), gated.down(gate * sigmoid(gate) * value))


def test_rotary_positions_turn_pairs_by_their_angles() -> None:
    x = torch.ones(1, 1, 3, 4, dtype=torch.float64)
    turned = apply_rotary(x, RotaryEmbedding(4).between(5, 8, like=x))
    for place, position in enumerate((5, 6, 7)):
        for pair, rate in enumerate((1.0, 0.01)):  # 10,000 to the power of 0 and of -1/2
            angle = math.pi / 4 + position * rate  # (1, 1) stands at 45 degrees
            expected = [math.sqrt(2) * math.cos(angle), math.sqrt(2) * math.sin(angle)]
            assert turned[0, 0, place, [pair, pair + 2]].tolist() == pytest.approx(expected)


def test_rotary_positions_show_how_far_apart_two_places_are() -> None:
    query, key = torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cos_sin = RotaryEmbedding(8).between(0, 50, like=query)

    def product(at: int, of: int) -> float:
        return float(
            apply_rotary(query.view(1, 1, 1, 8), cos_sin[:, [at]]).flatten()
            @ apply_rotary(key.view(1, 1, 1, 8), cos_sin[:, [of]]).flatten()
        )

    assert product(30, 23) == pytest.approx(product(9, 2))
    assert product(30, 23) != pytest.approx(product(30, 22))
    assert product(30, 23) != pytest.approx(product(23, 30))


DROPPED = {
    "megabyte": MegabyteConfig(4, 12, STACK, STACK, dropout=0.5, conv_encoder=True, cross_patch=2),
    "perceiver_ar": PerceiverARConfig(12, STACK, latents=4, dropout=0.5),
}


@pytest.mark.parametrize("config", DROPPED.values(), ids=DROPPED)
def test_dropout_acts_behind_every_sublayer_and_nowhere_else(config: ModelConfig) -> None:
    """As in the paper: on all that is added to the residual stream, never on embeddings."""
    model = config.build()
    calls: dict[str, list[float]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(
                lambda _module, _args, output, name=name: calls.setdefault(name, []).append(
                    float((output == 0).float().mean())
                )
            )
    model(torch.arange(240).view(20, 12))
    blocks = {name for name, module in model.named_modules() if hasattr(module, "feedforward")}
    assert set(calls) == {f"{name}.dropout" for name in blocks}
    times = 6 if isinstance(config, PerceiverARConfig) else 1  # spans of its window
    assert {len(shares) for shares in calls.values()} == {2 * times}
    assert all(0.2 < share < 0.8 for shares in calls.values() for share in shares)


@pytest.mark.parametrize("config", DROPPED.values(), ids=DROPPED)
@pytest.mark.parametrize("gradients", [True, False])
def test_every_attention_drops_weights_in_training(config: ModelConfig, gradients: bool) -> None:
    """Explicit, as in training on a CPU, and fused."""
    model, ids = config.build(), torch.arange(240).view(20, 12)
    attentions = [module for module in model.modules() if isinstance(module, MultiHeadAttention)]
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for attention in attentions:
        attention.weight_dropout = 0.0
    with torch.set_grad_enabled(gradients):
        steady = model(ids)
        torch.testing.assert_close(model(ids), steady)
        for attention in attentions:
            attention.weight_dropout = 0.5
            assert not torch.allclose(model(ids), steady, atol=1e-6, rtol=0)
            attention.weight_dropout = 0.0


@pytest.mark.parametrize(("length", "seen"), [(4, 4), (4, 6), (1, 6)], ids=["causal", "masked", "one"])
def test_more_sequences_than_a_fused_kernel_takes_go_through_it_in_parts(
    length: int, seen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = (torch.randn(8, 2, size, 6, dtype=torch.float64) for size in (length, seen, seen))
    with torch.no_grad():
        whole = attend(q, k, v)
        monkeypatch.setitem(FUSED_ROWS, "cpu", 3)
        sizes = []
        fused = torch.nn.functional.scaled_dot_product_attention

        def noted(q: torch.Tensor, *arguments: Any) -> torch.Tensor:
            sizes.append(len(q))
            return fused(q, *arguments)

        monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", noted)
        torch.testing.assert_close(attend(q, k, v), whole)
    assert sizes == [3, 3, 2]
