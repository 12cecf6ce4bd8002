from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_adapters.file import FileAdapter
from megabyte_mm.data.windows import WindowGrid, random_bits, resolve_window, shuffled

UNITS = st.sampled_from([1, 2, 3, 4])
LENGTHS = st.lists(st.integers(0, 70), min_size=1, max_size=8)


@st.composite
def grids(draw):
    unit = draw(UNITS)
    lengths = np.array(draw(LENGTHS), dtype=np.int64) * unit
    return WindowGrid(lengths, draw(st.integers(1, 20)) * unit, unit)


@given(grids())
def test_fixed_windows_hold_every_byte_once_in_order(grid):
    records, starts, seen_before = grid.fixed(np.arange(len(grid)))
    seen = [
        (record, byte)
        for record, start in zip(records, starts, strict=True)
        for byte in range(start, min(start + grid.window, grid.lengths[record]))
    ]
    assert seen == [(record, byte) for record, length in enumerate(grid.lengths) for byte in range(length)]
    assert not seen_before.any()


@given(grids())
def test_sliding_windows_score_every_byte_once_in_order(grid):
    sliding = replace(grid, sliding=True)
    records, starts, context = sliding.fixed(np.arange(len(sliding)))
    scored = [
        (record, byte)
        for record, start, seen in zip(records, starts, context, strict=True)
        for byte in range(start + seen, min(start + grid.window, grid.lengths[record]))
    ]
    assert scored == [(record, byte) for record, length in enumerate(grid.lengths) for byte in range(length)]
    assert (starts % grid.unit == 0).all()


@given(grids(), st.integers(0, 2**63), st.integers(0, 10**6))
def test_a_jittered_window_stays_on_units_near_its_place_and_inside_its_record(grid, seed, epoch):
    items = np.arange(len(grid))
    fixed_records, fixed, _ = grid.fixed(items)
    records, starts = grid.jittered(items, seed, epoch)
    np.testing.assert_array_equal(records, fixed_records)
    assert (starts % grid.unit == 0).all()
    assert (starts >= 0).all()
    assert (starts < grid.lengths[records]).all()
    assert (abs(starts - fixed) <= grid.window // 2).all()
    is_last = np.append(records[1:] != records[:-1], True)[: len(items)]
    assert (starts[is_last] <= fixed[is_last]).all()
    assert (starts[grid.lengths[records] <= grid.window] == 0).all()


@given(grids(), st.integers(0, 100), st.integers(0, 100))
def test_jitter_depends_on_the_item_alone_and_not_on_its_batch(grid, seed, epoch):
    items = np.arange(len(grid))
    together = np.stack(grid.jittered(items, seed, epoch))
    alone = [np.stack(grid.jittered(items[i : i + 1], seed, epoch))[:, 0] for i in items]
    assert len(items) == 0 or (together == np.stack(alone, axis=1)).all()


def test_jitter_is_uniform_and_differs_between_epochs_and_seeds():
    grid = WindowGrid(np.array([8 * 10_000]), 8)
    items = np.arange(1, 9_999)
    moves = grid.jittered(items, 0, 0)[1] - items * 8
    counts = np.bincount(moves + 4, minlength=9)
    assert counts.min() > 980
    for seed, epoch in ((0, 1), (1, 0)):
        assert (grid.jittered(items, seed, epoch)[1] - items * 8 == moves).mean() < 0.2


def test_the_shuffle_is_a_permutation_fixed_for_ever():
    assert sorted(shuffled(1000, 3, 4)) == list(range(1000))
    assert shuffled(8, seed=0, epoch=0).tolist() == [0, 7, 4, 2, 1, 6, 5, 3]
    assert len({tuple(shuffled(20, seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_the_first_bits_are_splitmix64s():
    """The published generator's first outputs for the seed 1234567, by way of `random_bits`'s last step."""
    from megabyte_mm.data.windows import _mixed

    state = np.array([1234567], dtype=np.uint64)
    assert int(_mixed(state)[0]) == 6457827717110365317
    assert random_bits(-1, 2**70, 0, np.arange(2)).dtype == np.uint64


class Fixed(FileAdapter):
    length = 12


class Wide(FileAdapter):
    unit = 6


def test_the_window_follows_the_adapter_and_a_wrong_one_is_named():
    assert resolve_window(Fixed(), None) == resolve_window(Fixed(), 12) == 12
    assert resolve_window(FileAdapter(), None) == 2048
    assert resolve_window(Wide(), None) == 2046
    assert resolve_window(Wide(), 600) == 600
    with pytest.raises(ValueError, match=r"data\.window 512: .* streams of 12 bytes"):
        resolve_window(Fixed(), 512)
    with pytest.raises(ValueError, match=r"data\.window 1000 must be a positive multiple of 6 bytes, such as 1002"):
        resolve_window(Wide(), 1000)
    with pytest.raises(ValueError, match=r"data\.window 0 .* such as 6"):
        resolve_window(Wide(), 0)
