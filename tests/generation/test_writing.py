"""Continuations as files, and the sheet that shows pictures side by side."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from data_adapters import AudioAdapter, FileAdapter, ImageAdapter, TextAdapter
from data_adapters.image.contact_sheet import BACKGROUND
from megabyte_mm.generation.continuation import (
    SHEET,
    UNKNOWN,
    Continuations,
    file_names,
    picture_sheet,
    write_continuations,
)

IMAGES = ImageAdapter("L", (2, 2), scan="raster", patch=1)


def pixels(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)


def grey(sheet: Image.Image, scale: int, gap: int = 2) -> list[list[list[int]]]:
    """The pictures of a sheet of 2x2 pictures, row by row, each as its four pixels."""
    cells = np.asarray(sheet.convert("L"))
    step = 2 * scale + gap
    rows = []
    for top in range(gap, cells.shape[0] - gap, step):
        row = [
            cells[top : top + step - gap : scale, left : left + step - gap : scale]
            for left in range(gap, cells.shape[1] - gap, step)
        ]
        rows.append([tile.reshape(-1).tolist() for tile in row])
    return rows


EMPTY = [BACKGROUND] * 4


def test_a_row_shows_prefix_continuations_and_original():
    form = IMAGES.default_format()
    made = [
        Continuations("a", form, pixels(1, 2), [pixels(1, 2, 3, 4), pixels(1, 2, 5, 6)], pixels(1, 2, 9, 9)),
        Continuations("b", form, pixels(7), [pixels(7, 0, 0, 0)]),
    ]
    sheet = picture_sheet(IMAGES, made)
    assert sheet.mode == "RGB"
    assert grey(sheet, scale=56) == [
        [[1, 2, UNKNOWN, UNKNOWN], [1, 2, 3, 4], [1, 2, 5, 6], [1, 2, 9, 9]],
        [[7, UNKNOWN, UNKNOWN, UNKNOWN], [7, 0, 0, 0], EMPTY, EMPTY],
    ]


def test_samples_without_a_prefix_are_laid_out_as_a_square():
    samples = [pixels(*[number] * 4) for number in range(5)]
    sheet = picture_sheet(IMAGES, [Continuations("sample", IMAGES.default_format(), pixels(), samples)])
    assert grey(sheet, scale=56) == [
        [[0] * 4, [1] * 4, [2] * 4],
        [[3] * 4, [4] * 4, EMPTY],
    ]


def test_a_picture_that_ended_early_is_grey_from_there():
    sheet = picture_sheet(IMAGES, [Continuations("a", IMAGES.default_format(), pixels(), [pixels(5, 6, 7)])])
    assert grey(sheet, scale=56) == [[[5, 6, 7, UNKNOWN]]]


def test_files_are_named_after_their_prefix_and_hold_their_stream(tmp_path):
    made = [
        Continuations("a", IMAGES.default_format(), pixels(1), [pixels(1, 2, 3, 4), pixels(1, 5, 6, 7)]),
        Continuations("b", IMAGES.default_format(), pixels(8), [pixels(8, 8, 8, 8)]),
    ]
    files = write_continuations(tmp_path / "new" / "folder", IMAGES, made)
    assert [file.name for file in files] == ["a-000.png", "a-001.png", "b-000.png", SHEET]
    assert sorted(files) == sorted((tmp_path / "new" / "folder").iterdir())
    assert [IMAGES.read(file).data.tolist() for file in files[:3]] == [[1, 2, 3, 4], [1, 5, 6, 7], [8, 8, 8, 8]]
    with Image.open(files[-1]) as sheet:
        np.testing.assert_array_equal(np.asarray(sheet), np.asarray(picture_sheet(IMAGES, made)))


@pytest.mark.parametrize(
    ("adapter", "format", "expected"),
    [
        (TextAdapter(), {"modality": "text"}, "a-000.txt"),
        (AudioAdapter(8000, 1, container="flac"), AudioAdapter(8000, 1).default_format(), "a-000.flac"),
        (FileAdapter(".jpg"), FileAdapter(".jpg").default_format(), "a-000.jpg"),
        (FileAdapter(".jpg"), {"modality": "file", "suffix": ".mp3"}, "a-000.mp3"),
        (FileAdapter(), {"modality": "file", "suffix": ""}, "a-000"),
    ],
)
def test_the_suffix_is_the_prefixs_own_or_the_adapters(tmp_path, adapter, format, expected):
    assert file_names("a", 1, adapter, format) == [expected]
    files = write_continuations(tmp_path, adapter, [Continuations("a", format, pixels(), [pixels(1, 2)])])
    assert [file.name for file in files] == [expected]
    assert list(tmp_path.iterdir()) == files


def test_a_failure_leaves_whole_files_only(tmp_path):
    made = [Continuations("a", IMAGES.default_format(), pixels(), [pixels(1, 2, 3, 4), pixels(1, 2, 3, 4, 5)])]
    with pytest.raises(ValueError, match="too many"):
        write_continuations(tmp_path, IMAGES, made)
    assert [file.name for file in tmp_path.iterdir()] == ["a-000.png"]
    assert IMAGES.read(tmp_path / "a-000.png").data.tolist() == [1, 2, 3, 4]
