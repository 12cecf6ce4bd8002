"""The table and the JSON of many files."""

import json
import math

import numpy as np
import pytest

from megabyte_mm.evaluation.curves import Curves
from megabyte_mm.evaluation.scoring import Score
from megabyte_mm.evaluation.table import FileResult, format_table, to_json, total

BIT = math.log(2)
FILES = [
    FileResult("a.txt", 1500, {"plain": 3000 * BIT, "strided": 1500 * BIT}),
    FileResult("folder/empty.txt", 0, {"plain": 0.0, "strided": 0.0}),
    FileResult("b.txt", 500, {"plain": 4000 * BIT, "strided": 100 * BIT}),
]


def test_the_table_is_aligned_and_ends_with_the_total():
    assert format_table(FILES, ["plain", "strided"]) == [
        "file              bytes   plain  strided",
        "a.txt             1,500  2.0000   1.0000",
        "folder/empty.txt      0       -        -",
        "b.txt               500  8.0000   0.2000",
        "total of 3        2,000  3.5000   0.8000",
    ]


def test_the_total_divides_once():
    assert total(FILES, ["plain"]).bits_per_byte("plain") == pytest.approx(7000 / 2000)
    assert total([], ["plain"]).bits_per_byte("plain") is None


def test_the_values_are_json():
    curves = Curves(2, 3)
    curves.add(Score(np.array([BIT], np.float32), np.array([1], np.int32), np.array([0], np.int32), 1))
    values = json.loads(json.dumps(to_json(FILES, ["plain"], {"plain": curves}), allow_nan=False))
    assert values["methods"] == ["plain"]
    assert values["files"][1]["bits_per_byte"] == {"plain": None, "strided": None}
    assert values["files"][0]["path"] == "a.txt"
    assert values["total"]["bytes"] == 2000
    assert values["total"]["nats"]["plain"] == pytest.approx(7000 * BIT)
    assert values["curves"]["plain"]["patch"] == [None, pytest.approx(1)]
    assert values["curves"]["plain"]["window"] == [pytest.approx(1), None, None]
    assert "curves" not in to_json(FILES, ["plain"])
