"""Streams of every length, whatever windows and batches they come to."""

import math

import numpy as np
import pytest
import torch

from megabyte_mm.alphabet import END, fill_window
from megabyte_mm.evaluation.methods import METHODS
from megabyte_mm.evaluation.scoring import score_streams
from tests.evaluation.conftest import stream, tiny

LENGTHS = [5, 0, 16, 1, 17, 40, 32, 0, 15]


def streams():
    return [(stream(length), length % 2) for length in LENGTHS]


@torch.no_grad()
def plainly(model, data, condition):
    """Window after window, one at a time."""
    windows = [fill_window(data[start : start + 16], 16) for start in range(0, len(data), 16)]
    rows = [model.nll(torch.from_numpy(ids)[None], torch.tensor([condition]))[0] for ids in windows]
    return torch.cat(rows)[: len(data) + (len(data) % 16 != 0)].numpy() if rows else np.empty(0, np.float32)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_plain_scores_are_the_models_numbers_in_order(model, batch_size):
    scores = list(score_streams(model, streams(), 16, batch_size=batch_size))
    assert [score.bytes for score in scores] == LENGTHS
    for (data, condition), score in zip(streams(), scores, strict=True):
        np.testing.assert_allclose(score.nats, plainly(model, data, condition), rtol=1e-5)
        assert score.window_position.tolist() == [place % 16 for place in range(len(score.nats))]
        assert score.patch_position.tolist() == [place % 4 for place in range(len(score.nats))]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_scores_the_same_symbols_whatever_the_batches(model, method):
    together = list(score_streams(model, streams(), 16, method=method, batch_size=7))
    alone = [next(score_streams(model, [one], 16, method=method, batch_size=1)) for one in streams()]
    for ours, theirs, length in zip(together, alone, LENGTHS, strict=True):
        np.testing.assert_allclose(ours.nats, theirs.nats, rtol=1e-4)
        assert len(ours.nats) == length + (length % 16 != 0)
        assert ours.nats.dtype == np.float32
        assert np.isfinite(ours.nats).all()
        assert (ours.patch_position < 4).all()


@torch.no_grad()
def test_sliding_gives_every_symbol_at_least_half_a_window_of_context(model):
    data = stream(30)
    [score] = score_streams(model, [(data, 0)], 16, method="sliding")
    assert score.window_position.tolist() == [*range(16), *([*range(8, 16)] * 2)][:31]
    last = torch.from_numpy(fill_window(data[16:], 16))[None]
    np.testing.assert_allclose(score.nats[24:], model.nll(last)[0, 8:15].numpy(), rtol=1e-5)
    assert int(last[0, 14]) == END


def test_streams_of_fixed_length_never_end(model):
    lengths = {length: len(score.nats) for length in (16, 10) for score in scored(model, length, True)}
    assert lengths == {16: 16, 10: 10}
    assert len(next(scored(model, 10, False)).nats) == 11


def scored(model, length, fixed_length):
    return score_streams(model, [(stream(length), 0)], 16, fixed_length=fixed_length)


def test_bits_per_byte_counts_the_end_but_not_among_the_bytes(model):
    [score] = score_streams(model, [(stream(5), 0)], 16)
    assert score.bits_per_byte == pytest.approx(score.nats.sum() / 5 / math.log(2))
    assert score.total_nats == pytest.approx(score.nats.sum())
    [nothing] = score_streams(model, [(stream(0), 0)], 16)
    assert math.isnan(nothing.bits_per_byte)


def test_streams_are_taken_only_as_they_are_needed(model):
    taken = []

    def endless():
        for number in range(1000):
            taken.append(number)
            yield stream(20), 0

    next(score_streams(model, endless(), 16, batch_size=4))
    assert len(taken) == 2


@pytest.mark.parametrize("method", METHODS)
def test_the_reported_bytes_add_up(model, method):
    counts: list[int] = []
    list(score_streams(model, streams(), 16, method=method, batch_size=4, on_bytes=counts.append))
    assert sum(counts) == sum(LENGTHS)
    assert len(counts) > 2


def test_a_window_of_another_length_is_the_models_affair(model):
    [score] = score_streams(model, [(stream(20), 0)], 8)
    assert score.window_position.max() == 7
    with pytest.raises(ValueError, match="a sequence of 24 symbols; this model takes 1 to 16"):
        list(score_streams(model, [(stream(20), 0)], 24))


def test_a_model_without_patches_is_not_strided():
    with pytest.raises(ValueError, match="strided needs a model with patches"):
        next(score_streams(tiny(1), [(stream(20), 0)], 16, method="strided"))
