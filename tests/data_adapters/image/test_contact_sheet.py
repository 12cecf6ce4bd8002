import numpy as np
import pytest

from data_adapters import contact_sheet
from data_adapters.image.contact_sheet import BACKGROUND as B

BLACK, WHITE = np.zeros((1, 2), np.uint8), np.full((2, 1, 3), 255, np.uint8)


def test_a_sheet_of_images_of_two_sizes():
    sheet = np.asarray(contact_sheet([[BLACK, WHITE], [WHITE]], scale=1, gap=1))
    expected = [
        [B, B, B, B, B, B],
        [B, 0, 0, B, 255, B],
        [B, B, B, B, 255, B],
        [B, B, B, B, B, B],
        [B, 255, B, B, B, B],
        [B, 255, B, B, B, B],
        [B, B, B, B, B, B],
    ]
    np.testing.assert_array_equal(sheet, np.repeat(np.array(expected)[..., None], 3, axis=2))


def test_a_scale_repeats_pixels():
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    sheet = np.asarray(contact_sheet([[picture]], scale=3, gap=0))
    np.testing.assert_array_equal(sheet, picture.repeat(3, axis=0).repeat(3, axis=1))


@pytest.mark.parametrize(("side", "scale"), [(28, 4), (32, 4), (64, 2), (200, 1)])
def test_small_images_are_enlarged(side, scale):
    sheet = contact_sheet([[np.zeros((side, side), np.uint8)] * 2], gap=2)
    assert sheet.size == (2 * side * scale + 6, side * scale + 4)


def test_a_grey_image_may_have_a_channel_axis():
    assert contact_sheet([[BLACK[..., None]]], 1).tobytes() == contact_sheet([[BLACK]], 1).tobytes()


@pytest.mark.parametrize(
    "rows", [[], [[]], [[np.zeros((2, 2, 4), np.uint8)]], [[np.zeros((2, 2))]], [[np.zeros((0, 2), np.uint8)]]]
)
def test_other_shapes_are_refused(rows):
    with pytest.raises(ValueError, match=r"an image must be|at least one image"):
        contact_sheet(rows)
