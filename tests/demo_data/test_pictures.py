"""Pictures: bold, in few colours, all different."""

import numpy as np
import pytest

from megabyte_mm.demo_data.pictures import CLASSES, SIDE, make_pictures


@pytest.mark.parametrize("label", CLASSES)
def test_all_pictures_of_a_class_differ_and_none_is_blank(label):
    pictures = make_pictures(label, 90, np.random.default_rng(0))
    assert {(p.shape, p.dtype) for p in pictures} == {((SIDE, SIDE, 3), np.dtype(np.uint8))}
    assert len({p.tobytes() for p in pictures}) == 90
    assert all(len(np.unique(p.reshape(-1, 3), axis=0)) >= 2 for p in pictures)


def test_every_channel_value_is_a_multiple_of_eight():
    values = np.unique([make_pictures(label, 50, np.random.default_rng(1)) for label in CLASSES])
    assert not np.any(values % 8)
    assert len(values) < 32


@pytest.mark.parametrize("label", ["circle", "cross", "diamond", "ring", "square"])
def test_the_upper_half_of_a_shape_shows_its_widest_row(label):
    for picture in make_pictures(label, 50, np.random.default_rng(2)):
        ink = np.any(picture != picture[0, 0], axis=2).sum(axis=1)
        assert ink[: SIDE // 2].max() >= ink[SIDE // 2 :].max() - 2


def test_more_pictures_than_a_class_has_are_refused_with_their_number():
    with pytest.raises(ValueError, match="120 different pictures of class circle, fewer than 121"):
        make_pictures("circle", 121, np.random.default_rng(0))
