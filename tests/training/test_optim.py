import math

import pytest
import torch
from torch import nn

from megabyte_mm.models import MegabyteConfig, StackConfig
from megabyte_mm.training.optim import OptimizerConfig, build_optimizer, lr_factor


def test_only_matrices_and_tables_decay():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3))
    model[0].weight.requires_grad_(False)
    decayed, others = build_optimizer(model, OptimizerConfig(weight_decay=0.3), fused=False).param_groups
    assert [p.shape for p in decayed["params"]] == [(3, 4)]
    assert [p.shape for p in others["params"]] == [(3,), (3,), (3,)]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)


def test_the_rate_rises_over_the_warm_up_and_falls_to_its_end():
    rates = [lr_factor(OptimizerConfig(warmup_steps=4, final_lr=0.1), 24)(step) for step in range(30)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[14] == pytest.approx(0.55)
    assert rates[24:] == pytest.approx([0.1] * 6)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_cosine_constant_and_endless_runs():
    assert lr_factor(OptimizerConfig(warmup_steps=0, decay="cosine"), 8)(4) == pytest.approx(0.5)
    assert lr_factor(OptimizerConfig(warmup_steps=0, decay="constant"), 8)(7) == 1.0
    assert lr_factor(OptimizerConfig(warmup_steps=2), math.inf)(10**9) == 1.0
    assert lr_factor(OptimizerConfig(warmup_steps=100), 10)(9) == pytest.approx(10 / 101)


@pytest.mark.parametrize(
    "wrong", [{"lr": 0.0}, {"lr": math.nan}, {"beta1": 1.0}, {"beta2": -0.1}, {"weight_decay": -1.0}, {"decay": "exp"}]
)
def test_settings_that_cannot_be_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OptimizerConfig(**wrong)


def test_one_fused_step_equals_a_plain_one():
    models = [nn.Linear(4, 4) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    for model, fused in zip(models, (True, False), strict=True):
        optimizer = build_optimizer(model, OptimizerConfig(), fused)
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
    torch.testing.assert_close(models[0].weight, models[1].weight)


def test_the_rate_falls_with_the_time_that_is_left() -> None:
    used = 0.0
    factor = lr_factor(OptimizerConfig(warmup_steps=0), math.inf, lambda: used)
    assert factor(1000) == 1.0
    used = 0.75
    assert factor(1000) == pytest.approx(0.25)
    assert lr_factor(OptimizerConfig(warmup_steps=0), 10, lambda: used)(9) == pytest.approx(0.1)  # steps are further on
    used = 1.5
    assert factor(1001) == 0.0


@pytest.fixture
def model():
    torch.manual_seed(0)
    stack = StackConfig(8, layers=2, heads=2)
    return MegabyteConfig(patch_size=4, max_len=16, global_stack=stack, local_stack=stack).build()


def test_muon_updates_the_matrices_of_blocks_and_adamw_the_rest(model):
    optimizer = build_optimizer(model, OptimizerConfig(muon=True, weight_decay=0.3), fused=True)
    tables, vectors, matrices = optimizer.param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)].split(".")[-2] for p in matrices["params"]} == {"qkv", "out", "up", "down"}
    assert len(matrices["params"]) == 2 * 2 * 4
    assert all("blocks" not in names[id(p)] for p in tables["params"])
    assert [group["weight_decay"] for group in (tables, vectors, matrices)] == [0.3, 0.0, 0.3]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model.nll(torch.arange(16)[None]).mean().backward()
    optimizer.step()
    assert all(not torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("rows", [3, 8, 24])
def test_muon_moves_a_matrix_alike_in_all_directions(model, rows):
    """By a factor of the learning rate that makes the elements of an update as large as Adam's usually are."""
    weight = model.global_stack.blocks[0].attention.qkv.weight
    weight.data = torch.zeros(rows, 8)
    torch.manual_seed(1)
    weight.grad = torch.randn(rows, 8) * torch.logspace(-1, 1, 8) * 1e-3
    build_optimizer(model, OptimizerConfig(lr=0.1, muon=True), fused=True).step()
    moved = torch.linalg.svdvals(weight) / (0.1 * 0.2 * max(rows, 8) ** 0.5)
    assert moved.min() > 0.3
    assert moved.max() < 1.3
    assert (weight * weight.grad).sum() < 0


def test_muon_leaves_a_matrix_without_gradient_where_it_is(model):
    weight = model.global_stack.blocks[0].attention.qkv.weight
    before = weight.detach().clone()
    optimizer = build_optimizer(model, OptimizerConfig(muon=True, weight_decay=0.0), fused=True)
    optimizer.step()
    assert torch.equal(weight, before)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert torch.equal(weight, before)
