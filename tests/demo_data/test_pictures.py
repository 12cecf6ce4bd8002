"""Pictures: bold, few colours, never twice the same."""

import numpy as np
import pytest

from megabyte_mm.demo_data.pictures import CLASSES, SIDE, make_pictures


@pytest.mark.parametrize("kind", CLASSES)
def test_all_pictures_of_a_class_differ_and_none_is_blank(kind):
    pictures = make_pictures(kind, 90, np.random.default_rng(0))
    assert {(p.shape, p.dtype) for p in pictures} == {((SIDE, SIDE, 3), np.dtype(np.uint8))}
    assert len({p.tobytes() for p in pictures}) == 90
    assert all(len(np.unique(p.reshape(-1, 3), axis=0)) >= 2 for p in pictures)


def test_every_channel_value_is_a_multiple_of_eight():
    values = np.unique([make_pictures(kind, 50, np.random.default_rng(1)) for kind in CLASSES])
    assert not np.any(values % 8)
    assert len(values) < 32


@pytest.mark.parametrize("kind", ["circle", "cross", "diamond", "ring", "square"])
def test_the_upper_half_of_a_shape_shows_its_widest_row(kind):
    for picture in make_pictures(kind, 50, np.random.default_rng(2)):
        ink = np.any(picture != picture[0, 0], axis=2).sum(axis=1)
        assert ink[: SIDE // 2].max() >= ink[SIDE // 2 :].max() - 2


def test_asking_for_more_pictures_than_there_are_says_how_many_there_are():
    with pytest.raises(ValueError, match="120 different pictures of class circle, fewer than 121"):
        make_pictures("circle", 121, np.random.default_rng(0))
