from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from megabyte_mm.data.order import shuffled
from megabyte_mm.data.windows import WindowGrid, random_bits

UNITS = st.sampled_from([1, 2, 3, 4])
LENGTHS = st.lists(st.integers(0, 70), min_size=1, max_size=8)


@st.composite
def grids(draw):
    unit = draw(UNITS)
    lengths = np.array(draw(LENGTHS), dtype=np.int64) * unit
    return WindowGrid(lengths, draw(st.integers(1, 20)) * unit, unit)


@given(grids())
def test_fixed_windows_hold_every_byte_once_in_order(grid):
    records, starts, seen_before = grid.locate(np.arange(len(grid)))
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
    records, starts, context = sliding.locate(np.arange(len(sliding)))
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
    fixed_records, fixed, _ = grid.locate(items)
    records, starts = grid.jitter(items, seed, epoch)
    np.testing.assert_array_equal(records, fixed_records)
    assert (starts % grid.unit == 0).all()
    assert (starts >= 0).all()
    assert (starts < grid.lengths[records]).all()
    assert (abs(starts - fixed) <= grid.window // 2).all()
    is_last = np.append(records[1:] != records[:-1], True)[: len(items)]
    assert (starts[is_last] <= fixed[is_last]).all()
    assert (starts[grid.lengths[records] <= grid.window] == 0).all()


@settings(max_examples=25)
@given(grids(), st.integers(0, 100), st.integers(0, 100))
def test_jitter_depends_on_the_item_alone_and_not_on_its_batch(grid, seed, epoch):
    items = np.arange(len(grid))
    together = np.stack(grid.jitter(items, seed, epoch))
    alone = [np.stack(grid.jitter(items[i : i + 1], seed, epoch))[:, 0] for i in items]
    assert len(items) == 0 or (together == np.stack(alone, axis=1)).all()


def test_jitter_is_uniform_and_differs_between_epochs_and_seeds():
    grid = WindowGrid(np.array([8 * 10_000]), 8)
    items = np.arange(1, 9_999)
    moves = grid.jitter(items, 0, 0)[1] - items * 8
    counts = np.bincount(moves + 4, minlength=9)
    assert counts.min() > 980
    for seed, epoch in ((0, 1), (1, 0)):
        assert (grid.jitter(items, seed, epoch)[1] - items * 8 == moves).mean() < 0.2


def test_the_shuffle_is_a_permutation_fixed_for_ever():
    assert sorted(shuffled(1000, 3, 4)) == list(range(1000))
    assert shuffled(8, seed=0, epoch=0).tolist() == [0, 7, 4, 2, 1, 6, 5, 3]
    assert len({tuple(shuffled(20, seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_the_first_bits_are_splitmix64s():
    """The published generator's first outputs for the seed 1234567, by way of `random_bits`'s last step."""
    from megabyte_mm.data.windows import _mix

    state = np.array([1234567], dtype=np.uint64)
    assert int(_mix(state)[0]) == 6457827717110365317
    assert random_bits(-1, 2**70, 0, np.arange(2)).dtype == np.uint64
