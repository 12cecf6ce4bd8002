import io
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from megabyte_mm.errors import FieldError
from megabyte_mm.models import MegabyteConfig, StackConfig
from megabyte_mm.training.optim import LearningRate, OptimizerConfig, apply_current_lr, build_optimizer


def test_only_matrices_and_tables_decay():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3))
    model[0].weight.requires_grad_(False)
    decayed, others = build_optimizer(model, OptimizerConfig(weight_decay=0.3), fused=False).param_groups
    assert [p.shape for p in decayed["params"]] == [(3, 4)]
    assert [p.shape for p in others["params"]] == [(3,), (3,), (3,)]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)


def test_the_rate_rises_over_the_warm_up_and_falls_to_its_end():
    rates = [LearningRate(OptimizerConfig(warmup_steps=4, final_lr=0.1), 24)(step) for step in range(30)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[14] == pytest.approx(0.55)
    assert rates[24:] == pytest.approx([0.1] * 6)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_cosine_constant_and_endless_runs():
    assert LearningRate(OptimizerConfig(warmup_steps=0, decay="cosine"), 8)(4) == pytest.approx(0.5)
    assert LearningRate(OptimizerConfig(warmup_steps=0, decay="constant"), 8)(7) == 1.0
    assert LearningRate(OptimizerConfig(warmup_steps=2), math.inf)(10**9) == 1.0
    assert LearningRate(OptimizerConfig(warmup_steps=100), 10)(9) == pytest.approx(10 / 101)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"lr": rate} for rate in (0.0, math.nan, math.inf)),
        *({"beta1": 1.0}, {"beta1": math.nan}, {"beta2": -0.1}),
        *({name: value} for name in ("weight_decay", "final_lr") for value in (-1.0, math.nan, math.inf)),
        *({"warmup_steps": -1}, {"decay": "exp"}),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(wrong):
    with pytest.raises(FieldError) as error:
        OptimizerConfig(**wrong)
    assert error.value.field == next(iter(wrong))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"algorithm": "AdamWW"}, "algorithm is 'AdamWW', which is no optimizer"),
        ({"algorithm": "no.such.Optimizer"}, "algorithm is 'no.such.Optimizer', which is no optimizer"),
        ({"algorithm": "torch.nn.Linear"}, "algorithm is 'torch.nn.Linear', which is no optimizer"),
        ({"algorithm": "SGD", "muon": True}, "muon goes with AdamW alone"),
        ({"algorithm": "SGD", "options": {"momntum": 0.9}}, "do not suit SGD: .* 'momntum'"),
        ({"algorithm": "SGD", "options": {"momentum": -1}}, "do not suit SGD: Invalid momentum value: -1"),
        ({"algorithm": "SGD", "options": {"weight_decay": 0.1}}, "options holds weight_decay, which"),
        ({"options": {"betas": [0.9, 0.9]}}, "options holds betas, which"),
        ({"algorithm": "Rprop"}, "weight_decay is 0.1, but Rprop has none: set it to 0"),
        ({"algorithm": "LBFGS"}, "do not suit LBFGS: LBFGS doesn't support per-parameter options"),
    ],
)
def test_an_optimizer_that_cannot_work_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(FieldError, match=reason):
        OptimizerConfig(**settings)


@pytest.mark.parametrize("algorithm", ["SGD", "torch.optim.SGD", "torch.optim.sgd.SGD"])
def test_any_optimizer_gets_the_groups_and_its_options(algorithm: str) -> None:
    config = OptimizerConfig(lr=0.3, weight_decay=0.2, algorithm=algorithm, options={"momentum": 0.9})
    optimizer = build_optimizer(nn.Linear(4, 3), config, fused=True)
    assert isinstance(optimizer, torch.optim.SGD)
    assert [(g["weight_decay"], g["momentum"], g["lr"]) for g in optimizer.param_groups] == [
        (w, 0.9, 0.3) for w in (0.2, 0)
    ]


def test_one_fused_step_equals_a_plain_one():
    models = [nn.Linear(4, 4) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    for model, fused in zip(models, (True, False), strict=True):
        optimizer = build_optimizer(model, OptimizerConfig(), fused)
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
    torch.testing.assert_close(models[0].weight, models[1].weight)


def test_the_rate_falls_with_the_time_that_is_left() -> None:
    now = 0.0
    rate = LearningRate(OptimizerConfig(warmup_steps=0), math.inf, lambda: (now, 8.0))
    assert rate(0) == 1.0
    now = 6.0
    assert rate(1000) == pytest.approx(0.25)
    steps_are_further_on = LearningRate(OptimizerConfig(warmup_steps=0), 10, lambda: (now, 8.0))
    assert steps_are_further_on(9) == pytest.approx(0.1)
    now = 12.0
    assert rate(1001) == 0.0


@pytest.mark.parametrize(("decay", "halfway"), [("linear", 0.55), ("cosine", 0.55), ("constant", 1.0)])
def test_the_time_of_the_warm_up_does_not_lower_the_rate(decay, halfway) -> None:
    now = 0.0
    config = OptimizerConfig(warmup_steps=4, decay=decay, final_lr=0.1)
    rate = LearningRate(config, math.inf, lambda: (now, 60.0))
    rates = []
    for step in range(5):
        now = 5.0 * step
        rates.append(rate(step))
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    now = 40.0  # halfway between the 20 seconds of the warm-up and the end
    assert rate(9) == pytest.approx(halfway)
    now = 61.0
    assert rate(10) == pytest.approx(1.0 if decay == "constant" else 0.1)


def schedule_at(clock: tuple[float, float], warmup_steps: int = 2) -> LambdaLR:
    config = OptimizerConfig(lr=1.0, warmup_steps=warmup_steps)
    return LambdaLR(
        build_optimizer(nn.Linear(2, 2), config, fused=False), LearningRate(config, math.inf, lambda: clock)
    )


def trained(schedule: LambdaLR, steps: int) -> LambdaLR:
    for _ in range(steps):
        schedule.optimizer.step()
        schedule.step()
    return schedule


def resumed(state: dict[str, Any], **settings: Any) -> float:
    """The learning rate of the next update of a run that resumes after 40 of 100 seconds."""
    again = schedule_at((40.0, 100.0), **settings)
    again.load_state_dict(state)
    apply_current_lr(again)
    rates = {group["lr"] for group in again.optimizer.param_groups}
    assert len(rates) == 1
    return rates.pop()


def test_a_checkpoint_holds_the_time_of_the_warm_up() -> None:
    state = trained(schedule_at((20.0, 100.0)), 3).state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    assert resumed(torch.load(file, weights_only=True)) == pytest.approx(0.75)


def test_a_checkpoint_without_the_time_of_its_warm_up_continues_as_it_began() -> None:
    state = trained(schedule_at((20.0, 100.0)), 3).state_dict()
    assert resumed(state | {"lr_lambdas": [None, None]}) == pytest.approx(0.6)


def test_a_longer_warm_up_of_a_resumed_run_ends_at_the_peak() -> None:
    state = trained(schedule_at((20.0, 100.0)), 3).state_dict()
    assert resumed(state, warmup_steps=3) == pytest.approx(0.75)
    assert resumed(state, warmup_steps=7) == pytest.approx(0.5)
    again = schedule_at((40.0, 100.0), warmup_steps=4)
    again.load_state_dict(state)
    apply_current_lr(again)
    assert trained(again, 1).get_last_lr() == pytest.approx([1.0, 1.0])


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
