"""Every symbol of a stream is scored once, and the same symbols by either way of cutting it into views."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megabyte_mm.windows import Views


@st.composite
def cuttings(draw):
    """(plain, sliding, bytes of a stream)."""
    unit = draw(st.integers(1, 6))
    window = unit * draw(st.integers(1, 9))
    fixed_length = draw(st.booleans())
    length = draw(st.integers(0, 6 * window))
    return *(Views(window, unit, sliding, fixed_length) for sliding in (False, True)), length


def cut(views: Views, length: int) -> list[tuple[int, int]]:
    """(start, seen) of each view of one stream."""
    count = int(views.counts(np.array([length]))[0])
    starts, seen = views.located(np.full(count, length), np.arange(count))
    return list(zip(starts.tolist(), seen.tolist(), strict=True))


def scored(views: Views, length: int) -> list[int]:
    """The symbols that the views score, as a reader of windows filled with END finds them: bytes and the first END."""
    last = length if views.fixed_length else length + 1
    spans = [range(start + seen, min(start + views.window, last)) for start, seen in cut(views, length)]
    return [symbol for span in spans for symbol in span]


@given(cuttings())
def test_every_symbol_is_scored_once_and_the_same_ones_either_way(case):
    plain, sliding, length = case
    expected = list(range(int(plain.symbols(np.array([length]))[0])))
    assert scored(plain, length) == expected
    assert scored(sliding, length) == expected


@given(cuttings())
def test_views_lie_inside_their_stream_between_units(case):
    plain, sliding, length = case
    for views in (plain, sliding):
        for start, seen in cut(views, length):
            assert start % views.unit == 0
            assert 0 <= start <= length
            assert 0 <= seen < views.window


@given(cuttings())
def test_only_the_first_view_begins_without_context(case):
    _, sliding, length = case
    context = [seen for _, seen in cut(sliding, length)]
    assert context[:1] in ([], [0])
    assert all(seen >= sliding.window - sliding.stride for seen in context[1:])


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
def test_views_of_eight_symbols(length, plain, sliding):
    assert cut(Views(8), length) == plain
    assert cut(Views(8, sliding=True), length) == sliding


def test_an_uneven_window_never_shows_an_end_that_does_not_count():
    assert cut(Views(5, sliding=True), 10) == [(0, 0), (2, 3), (4, 3), (5, 4)]


def test_a_unit_of_more_than_half_a_window_slides_by_whole_units():
    assert Views(6, 4, sliding=True).stride == 4
    assert Views(6, 6, sliding=True).stride == 6
    assert Views(20, 4, sliding=True).stride == 8
