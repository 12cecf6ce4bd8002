"""Which symbols there are, and which of them count."""

import numpy as np
import pytest
import torch

from megabyte_mm.alphabet import BYTES, END, SYMBOLS, fill_parts, fill_window, scored, to_bytes, to_ids


def test_the_alphabet_is_the_bytes_and_one_end():
    assert (BYTES, END, SYMBOLS) == (256, 256, 257)


def test_every_byte_and_the_first_end_are_scored():
    ids = torch.tensor([[0, 7, END, END, END], [END, END, END, END, END], [0, 0, 0, 255, 0], [1, 2, 3, 4, END]])
    expected = [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]
    assert scored(ids).tolist() == [[bool(value) for value in row] for row in expected]


def test_what_follows_an_end_is_not_scored_even_where_it_is_a_byte():
    assert scored(torch.tensor([[5, END, 5, END, 5]])).tolist() == [[True, True, False, False, False]]


def test_a_window_is_filled_with_end():
    ids = fill_window(np.array([0, 255, 0], np.uint8), 5)
    assert ids.dtype == np.int64
    assert ids.tolist() == [0, 255, 0, END, END]
    assert fill_window(np.array([9, 8], np.uint8), 2).tolist() == [9, 8]
    assert fill_window(np.empty(0, np.uint8), 1).tolist() == [END]
    with pytest.raises(ValueError, match="3 bytes do not fit into a window of 2"):
        fill_window(np.zeros(3, np.uint8), 2)


def test_each_part_of_a_row_begins_where_its_window_does():
    ids = np.full(9, 7, np.int64)
    fill_parts(ids, [np.array([1, 2], np.uint8), np.empty(0, np.uint8), np.array([3, 4], np.uint8)], [3, 1, 2])
    assert ids.tolist() == [1, 2, END, END, 3, 4, END, END, END]
    with pytest.raises(ValueError, match="3 bytes do not fit into a window of 2"):
        fill_parts(ids, [np.zeros(3, np.uint8)], [2])


def test_all_bytes_survive_the_way_to_symbols_and_back():
    data = np.arange(256, dtype=np.uint8)
    data.flags.writeable = False  # as a file's bytes are
    ids = to_ids(data)
    assert ids.dtype == torch.int64
    np.testing.assert_array_equal(to_bytes(ids), data)


def test_bytes_stop_at_the_first_end():
    assert to_bytes(torch.tensor([3, 0, END, 4, END])).tolist() == [3, 0]
    assert to_bytes(torch.tensor([END])).tolist() == []
    assert to_bytes(torch.empty(0, dtype=torch.int64)).dtype == np.uint8
