import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_adapters.image.scan import patch_scan, patch_unscan, raster_scan, raster_unscan

# Position in the patch scan of each pixel of a 1-channel grid.
EXPECTED = {
    (4, 4, 2): [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]],
    (2, 5, 2): [[0, 1, 4, 5, 8], [2, 3, 6, 7, 9]],
    (5, 3, 2): [[0, 1, 4], [2, 3, 5], [6, 7, 10], [8, 9, 11], [12, 13, 14]],
    (3, 3, 4): [[0, 1, 2], [3, 4, 5], [6, 7, 8]],
    (2, 3, 1): [[0, 1, 2], [3, 4, 5]],
}


@pytest.mark.parametrize(("shape", "positions"), EXPECTED.items())
def test_a_patch_scan_has_the_documented_order(shape, positions):
    height, width, patch = shape
    grid = np.array(positions, np.uint8)[..., None]
    np.testing.assert_array_equal(patch_scan(grid, patch), np.arange(height * width))


def test_the_channels_of_a_pixel_stay_together():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    expected = [0, 1, 2, 3, 4, 5, 12, 13, 14, 15, 16, 17, 6, 7, 8, 9, 10, 11, 18, 19, 20, 21, 22, 23]
    assert patch_scan(pixels, 2).tolist() == expected
    assert raster_scan(pixels).tolist() == list(range(24))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 13), st.integers(1, 13), st.sampled_from([1, 3]), st.integers(1, 15))
def test_both_scans_are_inverted_exactly_at_any_size(height, width, channels, patch):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    np.testing.assert_array_equal(patch_unscan(patch_scan(pixels, patch), height, width, channels, patch), pixels)
    np.testing.assert_array_equal(raster_unscan(raster_scan(pixels), height, width, channels), pixels)


@pytest.mark.parametrize("unscan", [raster_unscan, partial(patch_unscan, patch=2)])
@pytest.mark.parametrize("size", [0, 29, 31])
def test_a_wrong_number_of_bytes_is_refused(unscan, size):
    with pytest.raises(ValueError, match="reshape"):
        unscan(np.zeros(size, np.uint8), 5, 2, 3)


def test_a_photo_is_scanned_in_well_under_a_second():
    pixels = np.zeros((3000, 4000, 3), np.uint8)
    start = time.process_time()
    patch_unscan(patch_scan(pixels, 7), 3000, 4000, 3, 7)
    assert time.process_time() - start < 2  # both ways, on a slow machine; a loop over patches would take much longer
