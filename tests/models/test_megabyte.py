"""MEGABYTE against its definition, and the errors of its config."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from megabyte_mm.errors import FieldError
from megabyte_mm.models import Megabyte, MegabyteConfig, StackConfig
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


@pytest.mark.parametrize(("patch_size", "length"), [(4, 1), (4, 4), (4, 13), (2, 9), (1, 6)])
def test_forward_is_the_equations_of_the_paper(length: int, patch_size: int) -> None:
    torch.manual_seed(0)
    model = Megabyte(replace(CONFIG, patch_size=patch_size)).eval().double()
    for parameter in model.parameters():  # biases and norms too, so that a forgotten one shows
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.5)
    ids = torch.randint(0, 257, (2, length), generator=torch.Generator().manual_seed(0))
    condition = torch.tensor([2, 1])
    expected = torch.stack(
        [reference.logits(model, row.tolist(), int(c)) for row, c in zip(ids, condition, strict=True)]
    )
    with torch.no_grad():
        torch.testing.assert_close(model(ids, condition), expected)


@pytest.mark.parametrize("length", [1, 7, 48])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_explicit_attention_equals_the_fused_one(length: int, dtype: torch.dtype) -> None:
    q, k, v = (torch.randn(3, 2, length, 8, dtype=dtype, requires_grad=True) for _ in range(3))
    upstream = torch.randn(3, 2, length, 8, dtype=dtype)
    explicit, fused = attend(q, k, v), F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(explicit, fused)
    slopes = [torch.autograd.grad(output, [q, k, v], upstream) for output in (explicit, fused)]
    torch.testing.assert_close(slopes[0], slopes[1])


def test_weights_start_from_the_distribution_of_the_paper() -> None:
    model = Megabyte(replace(CONFIG, init_std=0.006, global_stack=StackConfig(dim=128, layers=2, heads=2)))
    weight = model.get_parameter("global_stack.blocks.0.feedforward.up.weight")
    assert weight.abs().max() <= 0.012
    # A normal truncated at two sigma has 0.88 of its standard deviation left.
    assert weight.std().item() == pytest.approx(0.006 * 0.88, rel=0.02)


def test_embeddings_of_bytes_of_close_values_may_start_close() -> None:
    torch.manual_seed(0)
    random = Megabyte(replace(CONFIG, init_std=0.05))
    torch.manual_seed(0)
    waves = Megabyte(replace(CONFIG, init_std=0.05, embedding_init="waves"))
    rows = waves.get_parameter("embedder.symbols.weight")
    assert rows[:256].std().item() == pytest.approx(0.05, rel=0.01)
    steps = (rows[:256] - rows[:256].roll(1, dims=0)).norm(dim=1)  # from 255 to 0 too
    assert steps.min() > 0
    assert steps.max() < 0.06 * (rows[0] - rows[128]).norm()
    changed = {name for name, value in waves.named_parameters() if not torch.equal(value, random.get_parameter(name))}
    assert changed == {"embedder.symbols.weight"}
    assert torch.equal(rows[256], random.get_parameter("embedder.symbols.weight")[256])  # END


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding_init": "wave"}, "embedding_init is 'wave'; known: random, waves"),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"patch_size": 3}, "global_stack.dim 16 is not a multiple of patch_size 3"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"init_std": 0.0}, "init_std is 0.0"),
        ({"conditions": -1}, "conditions is -1"),
        ({"cross_patch": 5}, "cross_patch is 5; a patch has only patch_size 4 positions"),
        ({"global_stack": None, "local_stack": None}, "global_stack and local_stack are both None; one of them is"),
        (
            {"local_stack": None, "cross_patch": 2, "local_start": "byte"},
            "cross_patch is 2 and local_start is 'byte', but there is no local_stack to use it: without one, set cross",
        ),
    ],
)
def test_config_names_the_wrong_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FieldError, match=message) as raised:
        replace(CONFIG, **changes)
    assert message.startswith(raised.value.field)


def test_stack_config_names_the_wrong_field() -> None:
    with pytest.raises(FieldError, match="dim 10 is not a multiple of heads 4"):
        StackConfig(dim=10, layers=1, heads=4)
    with pytest.raises(FieldError, match="layers is 0"):
        StackConfig(dim=8, layers=0, heads=4)


def test_open_fields_come_from_the_data() -> None:
    open_config = replace(CONFIG, patch_size=None, max_len=None, conditions=None)
    resolved = open_config.resolve(patch_size=4, max_len=99, conditions=2)
    assert (resolved.patch_size, resolved.max_len, resolved.conditions) == (4, 99, 2)
    assert CONFIG.resolve(patch_size=None, max_len=30, conditions=3) == CONFIG
    with pytest.raises(FieldError, match="max_len is 30, but the data have 64"):
        CONFIG.resolve(patch_size=None, max_len=64, conditions=3)
    with pytest.raises(ValueError, match="needs a config with patch_size and max_len"):
        Megabyte(open_config)
