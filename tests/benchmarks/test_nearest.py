"""Pictures from captions are judged by the captions of the nearest real ones."""

import numpy as np
import pytest

from benchmarks.completion.nearest import Captioned, caption_rows


def test_a_picture_has_the_caption_of_the_nearest_real_one_of_its_size():
    small, dark, light = (np.full((side, side, 3), value, np.uint8) for side, value in ((1, 90), (2, 0), (2, 250)))
    real = Captioned([small, dark, light], ["small", "dark", "light"])
    assert real.nearest(np.full((2, 2, 3), 100, np.uint8)) == "dark"
    assert real.nearest(np.full((2, 2, 3), 255, np.uint8)) == "light"  # without wrapping around 255
    with pytest.raises(ValueError, match="no real picture has the size of a generated one, 3 x 2"):
        real.nearest(np.zeros((2, 3, 3), np.uint8))


def test_whole_captions_and_the_words_that_tell_them_apart_are_counted():
    wanted = ["a red ring, top", "a red ring, left", "a blue ring, top", "a blue ring, left"]
    found = ["a red ring, top", "a red ring, top", "a red ring, top", "a blue ring, left"]
    assert caption_rows(wanted, found) == [
        ("all", 4, 0.5),
        ("blue", 2, 0.5),
        ("left", 2, 0.5),
        ("red", 2, 1.0),
        ("top", 2, 1.0),
    ]
