"""Steps in kernels of Triton give the numbers of torch's operations, and are left where they do not."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from itertools import product
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.models import BlockConfig, Execution, StackConfig
from megabyte_mm.models.decoding import steps
from megabyte_mm.models.decoding.fused import FusedProjection, FusedStackSteps
from megabyte_mm.models.decoding.steps import Projection, StackSteps, stack_steps
from megabyte_mm.models.layers import ACTIVATIONS, Stack
from megabyte_mm.models.rotary import apply_rotary
from tests.triton_interpreter import needs_triton, run_interpreted

KERNELS = "megabyte_mm.models.decoding.fused.kernels"
BLOCKS = {
    "paper": BlockConfig(),
    "modern": BlockConfig("rms", "swiglu", "rotary", bias=False, qk_norm=True),
    "squares": BlockConfig("rms", "relu2", "learned", bias=False),
    "gelu": BlockConfig("layer", "gelu", "rotary", qk_norm=True),
}


def make_stack(block: BlockConfig, previous: int = 0) -> Stack:
    torch.manual_seed(0)
    stack = Stack(StackConfig(24, 2, 2), block, previous=previous)
    for parameter in stack.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return stack.eval()


@torch.no_grad()
def check_stack(block: BlockConfig, previous: int, precision: Any, slots: tuple[int, ...]) -> None:
    """Steps of two rows at different positions, in a cache of three rows; a tile of the kernel holds 64 slots."""
    stack, head_VD = make_stack(block, previous), torch.randn(57, 24)
    execution = Execution("eager", precision, exact=True)
    caches = [stack.caches(3, 200) for _ in range(2)]
    for cache in caches[0]:
        cache.keys.normal_()
        cache.values.normal_()
    for cache, other in zip(*caches, strict=True):
        other.keys.copy_(cache.keys)
        other.values.copy_(cache.values)
    plain, fused = (
        StackSteps(stack, caches[0], execution, head_VD),
        FusedStackSteps(stack, caches[1], execution, head_VD),
    )
    start_B = torch.tensor([0, 2])
    for slot in slots:
        x_BD, slot_B = torch.randn(2, 24), torch.tensor([slot, slot + 3])
        wanted_BV, got_BV = (run(x_BD, start_B, slot_B, slot + 4) for run in (plain, fused))
        torch.testing.assert_close(got_BV, wanted_BV, rtol=1e-4, atol=1e-4)
    for plain_cache, fused_cache in zip(*caches, strict=True):
        torch.testing.assert_close(fused_cache.keys, plain_cache.keys, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(fused_cache.values, plain_cache.values, rtol=1e-4, atol=1e-4)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The kernels' definitions in torch, for machines without Triton."""
    module = ModuleType("kernels")
    module.linear, module.attend = linear, attend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, KERNELS, module)
    monkeypatch.setattr("megabyte_mm.models.decoding.fused.kernels", module, raising=False)
    return module


def linear(
    x_BK: Tensor,
    weight_NK: Tensor,
    bias_N: Tensor | None,
    scale_N: Tensor | None = None,
    residual_BN: Tensor | None = None,
    norm: tuple[str, Tensor, Tensor | None, float] | None = None,
    activation: str = "none",
    gated: bool = False,
) -> Tensor:
    if norm is not None:
        kind, weight_K, norm_bias_K, epsilon = norm
        width = (x_BK.shape[1],)
        if kind == "layer":
            x_BK = F.layer_norm(x_BK, width, weight_K, norm_bias_K, epsilon)
        else:
            x_BK = F.rms_norm(x_BK, width, weight_K, epsilon)
    y_BN = x_BK @ weight_NK.float().T
    y_BN = y_BN if scale_N is None else y_BN * scale_N
    y_BN = y_BN if bias_N is None else y_BN + bias_N
    if gated:
        gate_BN, y_BN = y_BN.chunk(2, dim=1)
        y_BN = ACTIVATIONS[activation](gate_BN) * y_BN
    elif activation != "none":
        y_BN = ACTIVATIONS[activation](y_BN)
    return y_BN if residual_BN is None else residual_BN + y_BN


def attend(
    qkv_BX: Tensor,
    keys_BHCE: Tensor,
    values_BHCE: Tensor,
    start_B: Tensor,
    slot_B: Tensor,
    norms_E: tuple[Tensor, Tensor] | None = None,
    cos_sin_2Ce: Tensor | None = None,
    epsilon: float = 0.0,
) -> Tensor:
    heads, width = keys_BHCE.shape[1], keys_BHCE.shape[3]
    rows = []
    for row, (start, slot) in enumerate(zip(start_B.tolist(), slot_B.tolist(), strict=True)):
        q_HE, k_HE, v_HE = qkv_BX[row].view(3, heads, width)
        if norms_E is not None:
            q_HE, k_HE = (
                F.rms_norm(x_HE, (width,), weight_E, epsilon)
                for x_HE, weight_E in zip((q_HE, k_HE), norms_E, strict=True)
            )
        if cos_sin_2Ce is not None:
            q_HE, k_HE = (apply_rotary(x_HE, cos_sin_2Ce[:, slot, None]) for x_HE in (q_HE, k_HE))
        keys_BHCE[row, :, slot], values_BHCE[row, :, slot] = k_HE, v_HE
        seen = slice(start, slot + 1)
        out_H1E = F.scaled_dot_product_attention(q_HE[:, None], keys_BHCE[row, :, seen], values_BHCE[row, :, seen])
        rows.append(out_H1E.flatten())
    return torch.stack(rows)


@pytest.mark.parametrize("precision", [None, "bfloat16", "int8"])
@pytest.mark.parametrize("previous", [0, 3])
@pytest.mark.parametrize("name", BLOCKS)
def test_fused_steps_have_the_numbers_of_torchs_operations(
    name: str, previous: int, precision: str | None, kernels: ModuleType
) -> None:
    check_stack(BLOCKS[name], previous, precision, slots=(0, 1, 7, 150))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("precision", [None, "bfloat16", "int8"])
def test_a_fused_projection_has_the_numbers_of_torchs_operations(precision: Any) -> None:
    weight_NK, bias_N, x_BK = torch.randn(9, 5), torch.randn(9), torch.randn(3, 5)
    execution = Execution("eager", precision, exact=True)
    plain, fused = (kind(weight_NK, bias_N, execution) for kind in (Projection, FusedProjection))
    torch.testing.assert_close(fused(x_BK), plain(x_BK), rtol=1e-5, atol=1e-5)


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Steps are chosen as on a GPU with Triton, and nothing of their checks is remembered."""
    monkeypatch.setattr(steps, "runs_kernels", lambda like: True)
    monkeypatch.setattr(steps, "is_native", lambda execution, like: False)
    checks = (steps._shape_agrees, steps._projection_agrees)
    for check in checks:
        check.cache_clear()
    yield
    for check in checks:
        check.cache_clear()


def kinds(execution: Execution = Execution()) -> list[type]:  # noqa: B008 - it is frozen
    """Those of the steps and of a projection."""
    for check in (steps._shape_agrees, steps._projection_agrees):
        check.cache_clear()
    stack = make_stack(BLOCKS["paper"])
    run = stack_steps(stack, stack.caches(2, 8), execution, torch.randn(9, 24))
    return [type(run), type(steps.projection(torch.randn(9, 5), torch.randn(9), execution))]


FUSED, PLAIN = [FusedStackSteps, FusedProjection], [StackSteps, Projection]


@pytest.mark.usefixtures("on_gpu")
def test_kernels_that_fail_or_differ_are_left_with_a_warning(
    kernels: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert kinds() == kinds(Execution(precision="int8")) == FUSED
    assert not caplog.text
    kernels.linear = lambda *inputs, **options: 1.2 * linear(*inputs, **options)  # type: ignore[attr-defined]
    assert kinds() == PLAIN
    assert caplog.text.count("generation does without its own kernels on cpu: Tensor-likes are not close!") == 2
    kernels.linear = linear  # type: ignore[attr-defined]
    kernels.attend = lambda *inputs: attend(*inputs)[:, :1].expand(-1, 24)  # type: ignore[attr-defined]
    assert kinds() == [StackSteps, FusedProjection]
    del kernels.linear
    assert kinds() == PLAIN


@pytest.mark.usefixtures("on_gpu", "kernels")
def test_a_check_of_kernels_leaves_the_random_numbers_of_a_program_alone() -> None:
    stack, before = make_stack(BLOCKS["paper"]), torch.get_rng_state()
    assert isinstance(stack_steps(stack, stack.caches(2, 8), Execution()), FusedStackSteps)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("on_gpu")
def test_heads_of_odd_width_take_torchs_operations() -> None:
    stack = Stack(StackConfig(6, 1, 2), BlockConfig())
    assert isinstance(stack_steps(stack, stack.caches(1, 8), Execution()), StackSteps)


@needs_triton
def test_kernels_compute_the_same() -> None:
    run_interpreted(__name__, "check_kernels")


def check_kernels() -> None:
    """Triton's interpreter runs kernels on the CPU; it has no products in bfloat16."""
    importlib.import_module(KERNELS)
    cases = (("paper", 0, (0, 63, 64, 180)), ("modern", 0, (150,)), ("squares", 0, (1,)), ("gelu", 3, (70,)))
    for (name, previous, slots), precision in product(cases, (None, "int8")):
        check_stack(BLOCKS[name], previous, precision, slots)
