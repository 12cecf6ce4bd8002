"""metrics.csv -> curve."""

import os

import pytest
from metrics import Curve, last_value, read_curve

LOG = """epoch,step,train/bpb,val/bpb,train/bytes
0,9,7.5,,1000
0,19,5.25,,2000
0,19,,5.5,
1,29,nan,,
1,39,,6.0,
"""


def test_each_column_keeps_its_own_rows_and_what_is_not_finite_is_left_out(tmp_path):
    (tmp_path / "csv/version_0").mkdir(parents=True)
    (tmp_path / "csv/version_0/metrics.csv").write_text(LOG)
    curve = read_curve(tmp_path)
    assert curve == Curve(train=((9, 7.5), (19, 5.25)), val=((19, 5.5), (39, 6.0)))
    assert curve.best == 5.5
    assert last_value(tmp_path, "train/bytes") == 2000
    assert last_value(tmp_path, "lr") is None


def test_the_newest_log_counts(tmp_path):
    for version, (value, time) in enumerate([(2.0, 200), (1.0, 100)]):
        log = tmp_path / f"version_{version}" / "metrics.csv"
        log.parent.mkdir()
        log.write_text(f"step,val/bpb\n1,{value}\n")
        os.utime(log, (time, time))
    assert read_curve(tmp_path).best == 2.0


def test_missing_logs_and_missing_validation_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"left no metrics\.csv"):
        read_curve(tmp_path)
    with pytest.raises(ValueError, match="no val/bpb"):
        _ = Curve(train=((1, 2.0),)).best
