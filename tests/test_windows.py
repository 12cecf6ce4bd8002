"""Every symbol of a stream is scored once, and the same symbols by edge-to-edge and by sliding windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megabyte_mm.windows import ScoringWindows


@st.composite
def cases(draw):
    """(edge to edge, sliding, bytes of a stream)."""
    unit = draw(st.integers(1, 6))
    window = unit * draw(st.integers(1, 9))
    fixed_length = draw(st.booleans())
    length = draw(st.integers(0, 6 * window))
    return *(ScoringWindows(window, unit, sliding, fixed_length) for sliding in (False, True)), length


def located(windows: ScoringWindows, length: int) -> list[tuple[int, int]]:
    """(start, context) of each window of one stream."""
    count = int(windows.num_windows(np.array([length]))[0])
    starts, context = windows.locate(np.full(count, length), np.arange(count))
    return list(zip(starts.tolist(), context.tolist(), strict=True))


def scored(windows: ScoringWindows, length: int) -> list[int]:
    """The scored symbols, bytes and the first END, when windows are filled with END."""
    last = length if windows.fixed_length else length + 1
    return [
        symbol
        for start, context in located(windows, length)
        for symbol in range(start + context, min(start + windows.window, last))
    ]


@given(cases())
def test_every_symbol_is_scored_once_and_the_same_ones_with_either_overlap(case):
    plain, sliding, length = case
    expected = list(range(int(plain.num_symbols(np.array([length]))[0])))
    assert scored(plain, length) == scored(sliding, length) == expected


@given(cases())
def test_windows_start_between_units_and_all_but_the_first_have_context(case):
    plain, sliding, length = case
    for windows in (plain, sliding):
        for start, context in located(windows, length):
            assert start % windows.unit == 0
            assert 0 <= start <= length
            assert 0 <= context < windows.window
    contexts = [context for _, context in located(sliding, length)]
    assert contexts[:1] in ([], [0])
    assert all(context >= sliding.window - sliding.stride for context in contexts[1:])


@pytest.mark.parametrize(
    ("length", "plain", "sliding"),
    [
        (0, [], []),
        (5, [(0, 0)], [(0, 0)]),
        (8, [(0, 0)], [(0, 0)]),
        (9, [(0, 0), (8, 0)], [(0, 0), (4, 4)]),
        (16, [(0, 0), (8, 0)], [(0, 0), (4, 4), (8, 4)]),
        (12, [(0, 0), (8, 0)], [(0, 0), (4, 4), (8, 4)]),  # the last one scores END alone
    ],
)
def test_windows_of_eight_symbols(length, plain, sliding):
    assert located(ScoringWindows(8), length) == plain
    assert located(ScoringWindows(8, sliding=True), length) == sliding


def test_an_uneven_window_reads_no_end_that_is_not_scored():
    assert located(ScoringWindows(5, sliding=True), 10) == [(0, 0), (2, 3), (4, 3), (5, 4)]


def test_a_unit_of_more_than_half_a_window_slides_by_whole_units():
    assert [ScoringWindows(*case, sliding=True).stride for case in ((6, 4), (6, 6), (20, 4))] == [4, 6, 8]
