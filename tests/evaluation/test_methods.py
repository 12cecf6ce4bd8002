"""Strided inference against its definition: each symbol from a run of the model on what comes before it."""

import pytest
import torch

from megabyte_mm.alphabet import END
from megabyte_mm.evaluation.methods import (
    METHODS,
    check_method,
    method_nll,
    patch_positions,
    stride_offset,
    strided_nll,
)
from tests.evaluation.conftest import tiny


def symbols(rows: int, length: int) -> torch.Tensor:
    ids = torch.randint(0, 257, (rows, length), generator=torch.Generator().manual_seed(length))
    ids[-1, length // 2 :] = END
    return ids


@torch.no_grad()
def one_by_one(model, ids, condition, offset):
    """The paper's words: predict the first half of each patch; then shift the patches, and predict the other half."""
    nats = torch.empty(ids.shape)
    for place in range(ids.shape[1]):
        shifted = place >= model.patch_size and place % model.patch_size >= offset
        begin = offset if shifted else 0
        prefix = ids[:, begin : place + 1].clone()
        symbol = prefix[:, -1].clone()
        prefix[:, -1] = 0  # whatever stands here, its distribution may not know it
        logits = model(prefix, condition)[:, -1]
        nats[:, place] = torch.nn.functional.cross_entropy(logits, symbol, reduction="none")
    return nats


@pytest.mark.parametrize("length", [1, 3, 4, 5, 6, 8, 11, 16])
@pytest.mark.parametrize(("patch_size", "unit", "offset"), [(4, 1, 2), (5, 1, 2), (6, 2, 2), (4, 2, 2), (6, 3, 3)])
def test_strided_is_what_a_run_on_each_prefix_gives(patch_size, unit, offset, length):
    model, ids, condition = tiny(patch_size), symbols(3, length), torch.tensor([0, 1, 0])
    assert stride_offset(patch_size, unit) == offset
    nats = strided_nll(model, ids, condition, unit)
    assert nats.dtype == torch.float32
    torch.testing.assert_close(nats, one_by_one(model, ids, condition, offset), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_from_the_second_patch_on_every_place_is_in_the_first_half(model):
    places = patch_positions("strided", 16, 4)
    assert places.tolist() == [0, 1, 2, 3, *([0, 1] * 6)]
    assert patch_positions("plain", 6, 4).tolist() == [0, 1, 2, 3, 0, 1]
    assert patch_positions("strided", 14, 6, unit=2).tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 0, 1, 2, 3, 0, 1]


@torch.no_grad()
def test_without_strides_the_models_own_numbers_are_kept(model):
    ids = symbols(2, 16)
    expected = model.nll(ids)
    for method in ("plain", "sliding"):
        assert torch.equal(method_nll(method, model, ids), expected)
    strided = method_nll("strided", model, ids)
    assert torch.equal(strided[:, :4], expected[:, :4])
    assert torch.equal(strided[:, 4::4], expected[:, 4::4])
    assert not torch.equal(strided, expected)
    assert torch.equal(method_nll("sliding+strided", model, ids), strided)


def test_a_method_that_does_not_fit_is_refused():
    for method in METHODS:
        check_method(method, tiny(4), unit=2)
    with pytest.raises(ValueError, match="unknown method 'clever'; known: plain, sliding, strided, sliding.strided"):
        check_method("clever", tiny(4))
    with pytest.raises(ValueError, match="strided needs a model with patches of at least 2 bytes, and this one has no"):
        check_method("strided", tiny(1))
    with pytest.raises(ValueError, match="of at least 6 bytes, and this one's hold 3 bytes"):
        check_method("sliding+strided", tiny(3), unit=3)
    check_method("sliding", tiny(1))
