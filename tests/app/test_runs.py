"""Stop ends the run of one page, running or waiting, and no other."""

from data_adapters import MediaError
from megabyte_mm.app.page import STOPPED, show_generation
from megabyte_mm.app.runs import MAX_RUNS, Runs

VALUES = (None, None, "", 0.5, None, 2, 1.0, 1.0, 0, None, 1.0)
"""The elements of the page, as they are at first."""


def test_a_run_is_wanted_until_it_is_stopped_or_replaced():
    runs = Runs()
    one, other = runs.begin(None), runs.begin(None)
    runs.stop(one)
    assert [runs.is_wanted(token) for token in (one, other, None)] == [False, True, False]
    newer = runs.begin(other)
    assert [runs.is_wanted(token) for token in (other, newer)] == [False, True]
    runs.stop("of nobody")


def test_runs_of_closed_pages_are_forgotten():
    runs = Runs()
    tokens = [runs.begin(None) for _ in range(MAX_RUNS + 1)]
    assert [runs.is_wanted(token) for token in (tokens[0], tokens[1], tokens[-1])] == [False, True, True]


def test_a_run_that_was_stopped_in_the_queue_computes_nothing(pictures):
    states = list(show_generation(pictures, lambda: False, *VALUES))
    assert [status for _, status, _ in states] == [STOPPED]


def test_a_stopped_run_writes_no_files(pictures, monkeypatch):
    monkeypatch.setattr("megabyte_mm.app.generating.INTERVAL", 0.0)
    wanted = iter([True, False])
    states = list(show_generation(pictures, lambda: next(wanted), *VALUES))
    assert states[-1][1] == STOPPED
    assert 'data-state="complete"' not in "".join(status for _, status, _ in states)


def test_a_refusal_is_a_line_in_place_of_the_continuations(pictures, monkeypatch):
    def refuse(*_):
        raise MediaError("<b>.png", "is no picture")

    monkeypatch.setattr(type(pictures), "continuations", refuse)
    *_, (_, status, _) = show_generation(pictures, lambda: True, *VALUES)
    assert "&lt;b&gt;.png: is no picture" in status
