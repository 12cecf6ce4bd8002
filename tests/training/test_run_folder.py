"""A run's folder: several starts read as one run."""

import pytest

from megabyte_mm.training.run_folder import best_point, common_prefix_length, evenly_spaced, open_run, read_metrics

FIRST = """epoch,step,train/bpb,val/bpb,train/bytes
0,9,7.5,,1000
0,19,5.25,,2000
0,19,,5.5,
1,29,nan,,
1,39,4.5,6.0,4000
"""
SECOND = """step,train/bpb,val/bpb,val/bpb/image
29,4.75,,
39,4.25,5.0,3.0
"""


def write_log(run, number, text):
    folder = run / "logs" / f"version_{number}"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(text)
    return folder


def test_each_metric_keeps_its_own_rows_by_updates_done_and_what_is_not_finite_is_left_out(tmp_path):
    write_log(tmp_path, 0, FIRST)
    metrics = read_metrics(open_run(tmp_path))
    assert metrics["train/bpb"] == ((10, 7.5), (20, 5.25), (40, 4.5))
    assert metrics["val/bpb"] == ((20, 5.5), (40, 6.0))
    assert best_point(metrics["val/bpb"]) == (20, 5.5)
    assert best_point(()) is None


def test_a_later_start_takes_the_place_of_what_came_after_its_checkpoint(tmp_path):
    for number, text in ((10, SECOND), (9, FIRST)):  # as text, version_10 comes first
        write_log(tmp_path, number, text)
    metrics = read_metrics(open_run(tmp_path))
    assert metrics["train/bpb"] == ((10, 7.5), (20, 5.25), (30, 4.75), (40, 4.25))
    assert metrics["val/bpb"] == ((20, 5.5), (40, 5.0))
    assert metrics["val/bpb/image"] == ((40, 3.0),)
    assert metrics["train/bytes"] == ((10, 1000.0), (20, 2000.0))


def test_a_start_that_logged_nothing_takes_nothing_away(tmp_path):
    write_log(tmp_path, 0, FIRST)
    (tmp_path / "logs/version_1").mkdir()
    write_log(tmp_path, 2, "step,train/bpb\n")
    assert len(read_metrics(open_run(tmp_path))["train/bpb"]) == 3


def test_samples_of_a_later_start_replace_those_of_the_same_update(tmp_path):
    first, second = write_log(tmp_path, 0, FIRST), write_log(tmp_path, 1, SECOND)
    for folder, step in ((first, 20), (first, 100), (second, 100), (second, 30)):
        (folder / f"samples/step-{step:07d}").mkdir(parents=True)
    (first / "samples/step-none").mkdir()
    found = open_run(tmp_path).samples
    assert [(step, folder.parents[1]) for step, folder in found.items()] == [(20, first), (30, second), (100, second)]


def test_best_goes_before_last(tmp_path):
    (tmp_path / "last.ckpt").touch()
    assert open_run(tmp_path).checkpoint == tmp_path / "last.ckpt"
    (tmp_path / "best.ckpt").touch()
    assert open_run(tmp_path).checkpoint == tmp_path / "best.ckpt"


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(ValueError, match="not the folder of a run"):
        open_run(tmp_path)
    with pytest.raises(ValueError, match="missing: no such folder"):
        open_run(tmp_path / "missing")
    write_log(tmp_path, 0, "step,val/bpb\n1,2.0\nx,1.0\n")
    with pytest.raises(ValueError, match=r"metrics\.csv: line 3"):
        read_metrics(open_run(tmp_path))


def test_a_selection_is_even_and_has_both_ends():
    assert evenly_spaced(3, 6) == [0, 1, 2]
    assert evenly_spaced(101, 6) == [0, 20, 40, 60, 80, 100]
    assert evenly_spaced(5, 1) == [4]
    assert evenly_spaced(0, 6) == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([b"abcd", b"abxy", b"abc"], 2),
        ([b"ab", b"abc"], 2),
        ([b"abc"], 0),
        ([], 0),
        ([b"", b"a"], 0),
        ([b"a", b"a"], 1),
    ],
)
def test_what_several_files_begin_with(files, expected):
    assert common_prefix_length(files) == expected


@pytest.mark.parametrize("row", ["ten,5.0", "9,five", '9,"' + "5" * 2**18])
def test_a_file_that_is_no_metrics_csv_is_named_with_its_line(row, tmp_path):
    folder = write_log(tmp_path, 0, f"step,train/bpb\n4,6.0\n{row}\n")
    with pytest.raises(ValueError, match=rf"{folder}/metrics\.csv: line 3 is not a row of a metrics\.csv"):
        read_metrics(open_run(tmp_path))
