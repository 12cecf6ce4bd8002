"""The curve of a run that goes on."""

from typing import Any

from megabyte_mm.plots.runs import learning_curve


def test_the_axis_is_as_long_as_the_run_from_the_start():
    figure: Any = learning_curve([(10, 7.5), (20, 4.25)], [(20, 4.5)], steps=100)
    (axes,) = figure.axes
    train, val, _ = axes.lines
    assert (train.get_xdata().tolist(), train.get_ydata().tolist()) == ([10, 20], [7.5, 4.25])
    assert (val.get_xdata().tolist(), val.get_ydata().tolist()) == ([20], [4.5])
    assert axes.get_xlim() == (0, 100)
    assert axes.get_title("left") == "training 4.250, validation 4.500"


def test_before_the_first_figure_there_is_an_empty_curve(tmp_path):
    figure: Any = learning_curve([], [], steps=10)
    assert figure.axes[0].get_title("left") == ""
    figure.savefig(tmp_path / "empty.png")
