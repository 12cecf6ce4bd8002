"""Rows of several parts with patch sizes of their own: every path gives the numbers of single rows, read one by one."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.errors import FieldError
from megabyte_mm.models import (
    Backend,
    BlockConfig,
    Decoder,
    Execution,
    MegabyteConfig,
    StackConfig,
    StepOptions,
    config_of,
)
from megabyte_mm.models.megabyte import Megabyte, PartConfig
from megabyte_mm.models.neighbourhood import NeighbourhoodConfig
from tests.models.layouts import LAST_BYTES, PIXELS, SAMPLES

TEXT, PICTURE, SOUND = 0, 1, 2
CONFIG = MegabyteConfig(
    parts=(PartConfig(4, 12), PartConfig(12, 48), PartConfig(8, 32)),
    orders=((TEXT,), (PICTURE,), (SOUND,), (TEXT, PICTURE), (PICTURE, TEXT), (TEXT, SOUND, TEXT)),
    patch_size=4,
    max_len=60,
    conditions=6,
    global_stack=StackConfig(dim=48, layers=2, heads=4),
    local_stack=StackConfig(dim=16, layers=2, heads=2),
    init_std=0.1,
)
VARIANTS = {
    "paper": {},
    "neighbourhood": {"neighbourhood": NeighbourhoodConfig(rows=64, layouts=(LAST_BYTES, PIXELS, SAMPLES))},
    "convolutions": {"conv_encoder": True},
    "rotary, byte": {"local_start": "byte", "block": BlockConfig(positions="rotary", qk_norm=True)},
    "rms, swiglu": {"block": BlockConfig(norm="rms", activation="swiglu", bias=False), "patch_scale": 3.0},
}
CONDITIONS = torch.tensor([0, 1, 2, 3, 4, 5, 3])
LENGTHS = [12, 48, 32, 60, 60, 56, 60]
IDS = torch.randint(0, 257, (len(LENGTHS), 60), generator=torch.Generator().manual_seed(0))


def build(variant: str = "paper") -> Megabyte:
    torch.manual_seed(0)
    return replace(CONFIG, **VARIANTS[variant]).build().eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_of_a_batch_are_those_read_one_by_one(variant: str) -> None:
    model = build(variant)
    with torch.no_grad():
        together, nats = model(IDS, CONDITIONS), model.nll(IDS, CONDITIONS)
        for row, length in enumerate(LENGTHS):
            ids, condition = IDS[row : row + 1, :length], CONDITIONS[row : row + 1]
            alone = model(ids, condition)
            torch.testing.assert_close(together[row, :length], alone[0], atol=1e-5, rtol=1e-5)
            expected = F.cross_entropy(alone[0], ids[0], reduction="none")
            torch.testing.assert_close(nats[row, :length], expected, atol=1e-4, rtol=1e-4)
            assert not nats[row, length:].any()


def test_a_row_of_one_part_is_a_row_of_the_model_of_that_patch_size() -> None:
    """Only the vector of the part, here 0, is added to it."""
    model = build()
    model.part_PG.data.zero_()
    single = replace(CONFIG, parts=None, orders=None, patch_size=12, max_len=48).build().eval()
    names = {"embedder": "more_sizes.12.embedder", "to_local": "more_sizes.12.to_local"}
    names["local_positions"] = "more_sizes.12.local_positions"
    state = {**model.state_dict()}
    single.load_state_dict({name: state[_renamed(name, names)] for name in single.state_dict()})
    condition = torch.tensor([PICTURE, PICTURE])
    torch.testing.assert_close(model(IDS[:2, :48], condition), single(IDS[:2, :48], condition))


def _renamed(name: str, names: dict[str, str]) -> str:
    top, _, rest = name.partition(".")
    return f"{names.get(top, top)}.{rest}" if rest else top


@pytest.mark.parametrize("condition", range(6))
def test_no_logit_depends_on_its_own_symbol_or_a_later_one(condition: int) -> None:
    model, condition_1 = build("neighbourhood"), torch.tensor([condition])
    length = LENGTHS[condition]
    with torch.no_grad():
        logits = model(IDS[:1, :length], condition_1)
        for t in range(0, length, 3):
            changed = IDS[:1, :length].clone()
            changed[:, t:] = (changed[:, t:] + 1) % 257
            torch.testing.assert_close(model(changed, condition_1)[:, : t + 1], logits[:, : t + 1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_of_chunks_are_those_of_whole_rows(variant: str) -> None:
    model = build(variant).train()
    gradients = []
    for budget in (2**31, 1):
        model.zero_grad()
        model.nll(IDS, CONDITIONS, StepOptions(activation_budget=budget)).sum().backward()
        gradients.append({name: weight.grad.clone() for name, weight in model.named_parameters()})  # type: ignore[union-attr]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-4)


def test_layers_of_absent_sizes_have_gradients_of_0() -> None:
    model = build()
    model.nll(IDS[:1, :12], torch.tensor([TEXT])).sum().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    assert not [name for name, gradient in gradients.items() if gradient is None]
    assert not gradients["more_sizes.12.to_local.weight"].any()  # type: ignore[union-attr]
    assert gradients["to_local.weight"].any()  # type: ignore[union-attr]


def test_parts_that_are_not_learned_cost_no_local_model_and_change_no_gradient() -> None:
    learned, plain = build(), build()
    # Of the picture in text+image, and of the picture in image+text.
    unlearned = frozenset({(3, 12), (4, 0)})
    is_left_out = torch.zeros_like(IDS, dtype=torch.bool)
    for condition, start in unlearned:
        is_left_out[condition == CONDITIONS, start : start + 48] = True
    symbols_read = []
    assert learned.local_stack is not None
    learned.local_stack.register_forward_hook(lambda _, inputs, __: symbols_read.append(inputs[0].shape[:2].numel()))
    nats = learned.nll(IDS, CONDITIONS, StepOptions(unlearned=unlearned))
    whole = plain.nll(IDS, CONDITIONS)
    assert not nats[is_left_out].any()
    torch.testing.assert_close(nats, whole.masked_fill(is_left_out, 0.0))
    assert sum(symbols_read) == sum(LENGTHS) - int(is_left_out.sum())
    nats.sum().backward()
    whole.masked_fill(is_left_out, 0.0).sum().backward()
    for (name, weight), other in zip(learned.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, other.grad, msg=name)


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_in_different_parts_decode_together(variant: str, backend: Backend) -> None:
    """Prefixes end at the beginning, inside and at the end of parts and patches; a row alone has the same numbers."""
    model, execution = build(variant), Execution(backend)
    with torch.no_grad():
        expected = model(IDS, CONDITIONS)
    for prefixes in ([0] * 7, [11, 47, 0, 12, 48, 44, 24], [3, 12, 31, 10, 59, 12, 13]):
        decoder = model.decoder(len(LENGTHS), CONDITIONS, execution=execution)
        for row, logits in decoded(decoder, prefixes).items():
            torch.testing.assert_close(logits, expected[row, : LENGTHS[row]][-len(logits) :], atol=1e-5, rtol=1e-5)
        row = 5
        alone = decoded(model.decoder(1, CONDITIONS[row:][:1], execution=execution), [prefixes[row]], row)
        together = decoded(model.decoder(len(LENGTHS), CONDITIONS, execution=execution), prefixes)
        assert torch.equal(alone[0], together[row])


def decoded(decoder: Decoder, prefixes: list[int], first: int = 0) -> dict[int, Tensor]:
    """The logits of the positions of each row, from `first` on, that a decoder reaches one by one to its end."""
    logits_B = decoder.prefill_rows([IDS[first + row, :length] for row, length in enumerate(prefixes)])
    assert decoder.lengths is not None
    logits = {row: [logits_B[row]] for row in range(len(prefixes))}
    active = set(logits)
    while True:
        for row in sorted(active):
            if decoder.lengths[row] + 1 == decoder.capacity_of(row):
                decoder.finish_row(row)
                active.remove(row)
        if not active:
            return {row: torch.stack(values) for row, values in logits.items()}
        ids = torch.stack([IDS[first + row, length] for row, length in enumerate(decoder.lengths)])
        logits_B = decoder.step(ids)
        for row in active:
            logits[row].append(logits_B[row])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_row_restarts_inside_a_patch_beside_others(variant: str) -> None:
    model = build(variant)
    decoder = model.decoder(3, CONDITIONS[:3])
    decoder.prefill_rows([IDS[0, :8], IDS[1, :24], IDS[2, :16]])
    for t in range(2):
        decoder.step(torch.stack([IDS[0, 8 + t], IDS[1, 24 + t], IDS[2, 16 + t]]))
    context = IDS[3, :31]  # of the picture, which ends inside its third patch
    logits = decoder.step(torch.stack([IDS[0, 10], context[-1], IDS[2, 18]]), {1: context})
    with torch.no_grad():
        expected = model(
            torch.stack([F.pad(IDS[0, :11], (0, 21)), F.pad(context, (0, 1)), IDS[2, :32]]), CONDITIONS[:3]
        )
    for row, length in enumerate((11, 31, 19)):
        torch.testing.assert_close(logits[row], expected[row, length], atol=1e-5, rtol=1e-5)
    assert decoder.lengths == [11, 31, 19]


def test_a_row_is_full_where_its_last_part_is() -> None:
    decoder = build().decoder(2, torch.tensor([TEXT, PICTURE]))
    assert [decoder.capacity_of(row) for row in range(2)] == [12, 48]
    with pytest.raises(ValueError, match="12 symbols leave no room for another in a window of 12"):
        decoder.prefill_rows([IDS[0, :12], IDS[1, :12]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"orders": None}, "parts and orders come together"),
        ({"orders": ((0,), (3,))}, "orders must hold numbers of parts, 0 to 2"),
        ({"conditions": 2}, "orders are 6, but there are 2 conditions"),
        ({"max_len": 99}, "max_len is 99, but the parts make it 60"),
        ({"patch_size": 12}, "patch_size is 12, but the parts make it 4"),
        ({"cross_patch": 2}, "cross_patch is 2; a model whose rows have parts has none"),
        ({"local_stack": None}, "local_stack is None; a model whose rows have parts needs it"),
        ({"global_stack": StackConfig(40, 2, 4)}, "global_stack.dim 40 is not a multiple of patch_size 12"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(FieldError, match=message):
        replace(CONFIG, **changes)  # type: ignore[arg-type]


def test_spec_builds_the_same_model() -> None:
    assert config_of({"name": "megabyte", "config": asdict(CONFIG)}) == CONFIG
