"""Curves of a run, alone and inside a page."""

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np

from megabyte_mm.plots import bits_curves, learning_curve, metric_curve, style
from megabyte_mm.plots.html_elements import inline_svg
from megabyte_mm.plots.runs import MAX_POINTS, smooth

TRAIN, VAL = [(step, 8 / step) for step in range(1, 100)], [(50, 1.0), (99, 0.5)]


def test_the_learning_curve_has_the_axis_of_the_whole_run_from_the_start(tmp_path):
    figure: Any = learning_curve([(10, 7.5), (20, 4.25)], [(20, 4.5)], steps=100)
    (axes,) = figure.axes
    train, val, _ = axes.lines
    assert (train.get_xdata().tolist(), train.get_ydata().tolist()) == ([10, 20], [7.5, 4.25])
    assert (val.get_xdata().tolist(), val.get_ydata().tolist()) == ([20], [4.5])
    assert axes.get_xlim() == (0, 100)
    assert axes.get_title("left") == "training 4.250, validation 4.500"
    empty: Any = learning_curve([], [], steps=10)
    assert empty.axes[0].get_title("left") == ""
    empty.savefig(tmp_path / "empty.png")


def test_every_metric_is_a_line_at_its_updates():
    figure = bits_curves(TRAIN, VAL, {"image": VAL, "text": [(99, 2.0)]})
    [axes] = figure.axes
    lines = {line.get_label(): np.column_stack(line.get_data()).tolist() for line in axes.lines}
    assert lines["validation"] == [[50, 1.0], [99, 0.5]]
    assert lines["validation, text"] == [[99, 2.0]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("updates", "bits per byte")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        *("training", "validation", "validation, image", "validation, text")
    ]


def test_the_name_of_a_source_is_neither_markup_nor_a_formula():
    svg = inline_svg(bits_curves([], VAL, {"<script>$\\frac$": VAL}), "bits", "bits", {})
    assert "validation, &lt;script&gt;$" in svg
    assert "<script" not in svg


def test_curves_of_few_or_no_points_are_drawn_too():
    for train, val in (([], []), ([], [(1, 2.0)]), ([(1, 2.0)], [])):
        inline_svg(bits_curves(train, val, {}), "bits", "bits", {})
    assert metric_curve([(1, 2e-3)], "learning rate").axes[0].get_ylim()[0] == 0


def test_the_smooth_line_is_a_running_mean():
    steps, means = smooth(np.arange(24.0), np.arange(24.0) % 2)
    assert steps.tolist() == [i + 0.5 for i in range(23)]
    assert set(means.tolist()) == {0.5}
    assert smooth(np.array([3.0]), np.array([5.0]))[1].tolist() == [5.0]


def test_inline_figures_use_the_pages_colours_share_no_ids_and_are_reproducible():
    def render(name):
        return inline_svg(bits_curves(TRAIN, VAL, {}), name, "a < b", {style.VAL: "--model"})

    one, other = render("one"), render("other")
    assert one == render("one")
    assert "var(--model, #c2410c)" in one
    assert 'aria-label="a &lt; b"' in one
    ElementTree.fromstring(one)
    ids = [set(re.findall(r'\bid="([^"]*)"', svg)) for svg in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert not re.search(r"https?:|<style|<metadata|url\((?!#)", one)


def test_a_long_line_is_thinned_and_keeps_its_ends():
    long = [(step, step % 7) for step in range(1, 50_001)]
    lines = [*bits_curves(long, [], {}).axes[0].lines, *metric_curve(long, "speed").axes[0].lines]
    steps = [np.asarray(line.get_xdata()) for line in lines]
    assert [len(line) for line in steps] == [MAX_POINTS] * 3
    assert steps[-1][[0, -1]].tolist() == [1, 50_000]
