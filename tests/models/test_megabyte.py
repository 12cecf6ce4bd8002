"""The model against its definition, and the contracts that everything else stands on."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from megabyte_mm.models import Megabyte, MegabyteConfig, StackConfig, build
from megabyte_mm.models.attention import attend

_location = importlib.util.spec_from_file_location("reference", Path(__file__).with_name("reference.py"))
assert _location is not None
assert _location.loader is not None
reference = importlib.util.module_from_spec(_location)
_location.loader.exec_module(reference)

CONFIG = MegabyteConfig(
    patch_size=4,
    max_len=30,
    global_stack=StackConfig(dim=16, layers=2, heads=2),
    local_stack=StackConfig(dim=12, layers=2, heads=3),
    conditions=3,
    init_std=0.5,
)


def make(config: MegabyteConfig = CONFIG, seed: int = 0) -> Megabyte:
    torch.manual_seed(seed)
    model = Megabyte(config).eval()
    for parameter in model.parameters():  # biases and norms too, so that a forgotten one shows
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def symbols(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 257, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("patch_size", "length"), [(4, 1), (4, 3), (4, 4), (4, 5), (4, 13), (4, 30), (2, 9), (1, 6)])
def test_forward_is_what_the_equations_say(length: int, patch_size: int) -> None:
    model = make(replace(CONFIG, patch_size=patch_size)).double()
    ids = symbols(2, length)
    condition = torch.tensor([2, 1])
    expected = torch.stack(
        [reference.logits(model, row.tolist(), int(c)) for row, c in zip(ids, condition, strict=True)]
    )
    with torch.no_grad():
        torch.testing.assert_close(model(ids, condition), expected)


def test_no_symbol_sees_itself_or_a_later_one() -> None:
    model = make()
    length = 14
    inputs: list[torch.Tensor] = []

    def remember(_module: object, _args: object, output: torch.Tensor) -> torch.Tensor:
        inputs.append(output.detach().clone().requires_grad_())
        return inputs[-1]

    model.embedder.symbols.register_forward_hook(remember)
    model.local_symbols.register_forward_hook(remember)
    logits = model(symbols(1, length))
    embedded, local = inputs
    for t in range(length):
        into_global, into_local = torch.autograd.grad(logits[0, t].sum(), [embedded, local], retain_graph=True)
        patch = t // 4
        reached = into_global[0].abs().sum(-1) > 0
        assert reached.tolist() == [s < patch * 4 for s in range(len(reached))]
        inside = into_local.abs().sum(-1) > 0
        assert inside.tolist() == [[k == patch and k * 4 + p < t for p in range(3)] for k in range(4)]


@pytest.mark.parametrize("prefix", [0, 1, 3, 4, 5, 8, 21, 29])
def test_cached_decoding_equals_forward(prefix: int) -> None:
    model = make()
    ids, condition = symbols(3, 30), torch.tensor([0, 2, 1])
    with torch.no_grad():
        expected = model(ids, condition)
    decoder = model.decoder(3, condition)
    for _ in range(2):  # a second prefill must forget the first
        got = [decoder.prefill(ids[:, :prefix])]
        got += [decoder.step(ids[:, t]) for t in range(prefix, 29)]
        torch.testing.assert_close(torch.stack(got, dim=1), expected[:, prefix:], atol=1e-4, rtol=1e-5)


def test_a_full_decoder_says_so() -> None:
    decoder = make().decoder(1)
    with pytest.raises(ValueError, match="30 symbols leave no room"):
        decoder.prefill(symbols(1, 30))
    decoder.prefill(symbols(1, 29))
    with pytest.raises(ValueError, match="window of 30"):
        decoder.step(torch.tensor([1]))


def test_length_and_batch_neighbours_change_nothing() -> None:
    model = make()
    ids = symbols(4, 30)
    with torch.no_grad():
        together = model(ids)
        for length in (1, 4, 6, 29):
            alone = model(ids[2:3, :length])
            torch.testing.assert_close(alone, together[2:3, :length], atol=1e-5, rtol=1e-5)


def test_nll_is_the_cross_entropy_of_forward_with_its_gradients() -> None:
    model = make()
    ids = symbols(2, 11)
    nats = model.nll(ids)
    assert nats.dtype == torch.float32
    nats.sum().backward()
    got = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    expected = F.cross_entropy(model(ids).flatten(0, 1), ids.flatten(), reduction="none")
    expected.sum().backward()
    torch.testing.assert_close(nats.flatten(), expected)
    torch.testing.assert_close(got, [parameter.grad for parameter in model.parameters() if parameter.grad is not None])


def test_every_weight_matters() -> None:
    model = make()
    model.nll(symbols(3, 30), torch.arange(3)).sum().backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert idle == []


def test_condition_picks_the_start_patch() -> None:
    model = make()
    ids = symbols(1, 9)
    with torch.no_grad():
        default, zero, one = model(ids), model(ids, torch.tensor([0])), model(ids, torch.tensor([1]))
    torch.testing.assert_close(default, zero)
    assert not torch.allclose(zero, one)


@pytest.mark.parametrize("length", [1, 7, 48])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_explicit_attention_equals_the_fused_one(length: int, dtype: torch.dtype) -> None:
    q, k, v = (torch.randn(3, 2, length, 8, dtype=dtype, requires_grad=True) for _ in range(3))
    upstream = torch.randn(3, 2, length, 8, dtype=dtype)
    explicit = attend(q, k, v)
    fused = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(explicit, fused)
    for ours, theirs in zip(
        torch.autograd.grad(explicit, [q, k, v], upstream), torch.autograd.grad(fused, [q, k, v], upstream), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_dropout_acts_in_training_only() -> None:
    model = make(replace(CONFIG, dropout=0.5))
    ids = symbols(1, 12)
    with torch.no_grad():
        torch.testing.assert_close(model(ids), model(ids))
        model.train()
        assert not torch.allclose(model(ids), model(ids))


def test_spec_builds_the_same_architecture() -> None:
    model = make()
    twin = build(model.spec())
    twin.load_state_dict(model.state_dict())
    twin.eval()
    assert twin.config == model.config
    with torch.no_grad():
        torch.testing.assert_close(twin(symbols(1, 9)), model(symbols(1, 9)))


def test_weights_start_as_the_paper_draws_them() -> None:
    model = Megabyte(replace(CONFIG, init_std=0.006, global_stack=StackConfig(dim=128, layers=2, heads=2)))
    weight = model.get_parameter("global_stack.blocks.0.feedforward.up.weight")
    assert weight.abs().max() <= 0.012
    # A normal truncated at two sigma has 0.88 of its standard deviation left.
    assert weight.std().item() == pytest.approx(0.006 * 0.88, rel=0.02)


def test_estimated_flops_are_those_of_the_products() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    config = MegabyteConfig(8, 512, StackConfig(256, 3, 4), StackConfig(128, 2, 4))
    with torch.device("meta"):
        model = Megabyte(config)
        ids = torch.zeros(2, 512, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids)
    # The counter takes causal attention for a full one; at these sizes that is within a few percent.
    assert model.flops_per_byte() * ids.numel() == pytest.approx(counter.get_total_flops(), rel=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 0}, "patch_size is 0"),
        ({"patch_size": 3}, "global_stack.dim 16 is not a multiple of patch_size 3"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"init_std": 0.0}, "init_std is 0.0"),
        ({"conditions": -1}, "conditions is -1"),
    ],
)
def test_config_names_the_wrong_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)


def test_stack_config_names_the_wrong_field() -> None:
    with pytest.raises(ValueError, match="dim 10 is not a multiple of heads 4"):
        StackConfig(dim=10, layers=1, heads=4)
    with pytest.raises(ValueError, match="layers is 0"):
        StackConfig(dim=8, layers=0, heads=4)


def test_config_takes_from_the_data_what_it_leaves_open() -> None:
    open_config = replace(CONFIG, patch_size=None, max_len=None, conditions=None)
    resolved = open_config.resolve(patch_size=4, max_len=99, conditions=2)
    assert (resolved.patch_size, resolved.max_len, resolved.conditions) == (4, 99, 2)
    assert CONFIG.resolve(patch_size=None, max_len=30, conditions=3) == CONFIG
    with pytest.raises(ValueError, match="max_len is 30, but the data have 64"):
        CONFIG.resolve(patch_size=None, max_len=64, conditions=3)
    with pytest.raises(ValueError, match="needs a config with patch_size and max_len"):
        Megabyte(open_config)


def test_too_long_a_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="a sequence of 31 symbols; this model takes 1 to 30"):
        make()(symbols(1, 31))
