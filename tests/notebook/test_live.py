"""A run's curve and samples in a notebook while it trains."""

from typing import Any

import IPython.display
import numpy as np
import pytest
from PIL import Image

from megabyte_mm.notebook import LiveRun, sheets_over_time
from megabyte_mm.notebook.live import show_files
from megabyte_mm.training.progress import TrainingProgress


class Handle:
    """Records the objects that a DisplayHandle would show."""

    instances: list["Handle"] = []  # noqa: RUF012 - replaced in each test

    def __init__(self) -> None:
        self.shown: list[Any] = []
        self.instances.append(self)

    def display(self, item: Any) -> None:
        self.shown.append(item)

    update = display


@pytest.fixture
def handles(monkeypatch):
    monkeypatch.setattr(Handle, "instances", [])
    monkeypatch.setattr(IPython.display, "DisplayHandle", Handle)
    return Handle.instances


def test_the_curve_is_updated_each_time_and_samples_when_there_are_new_ones(handles, tmp_path):
    live, progress = LiveRun(), TrainingProgress(100)
    curve, samples = handles
    live(progress)
    progress.train.append((10, 5.0))
    live(progress)
    assert [image.data[:4] for image in curve.shown] == [b"\x89PNG"] * 2
    assert curve.shown[0].data != curve.shown[1].data
    assert len(samples.shown) == 1  # the notice that they will appear
    (tmp_path / "val-00-000.txt").write_text("a < b")
    progress.samples = [tmp_path / "val-00-000.txt"]
    live(progress)
    live(progress)
    assert len(curve.shown) == 4
    assert "a &lt; b" in samples.shown[1].data
    assert len(samples.shown) == 2


def test_pictures_are_shown_as_their_contact_sheet_and_sounds_as_players(tmp_path, sheet):
    sheet(tmp_path / "contact_sheet.png", 3)
    (tmp_path / "val-00-000.png").write_bytes(b"")
    image = show_files(sorted(tmp_path.iterdir()))
    assert image.data == (tmp_path / "contact_sheet.png").read_bytes()
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    assert "<audio" in show_files([tmp_path / "a.wav"]).data


def test_the_sheets_of_the_last_training_are_side_by_side(tmp_path, sheet):
    for version, step, value in ((9, 5, 1), (10, 10, 2), (10, 20, 3)):
        sheet(tmp_path / f"logs/version_{version}/samples/step-{step:07d}/contact_sheet.png", value)
    first, second = sheets_over_time(tmp_path).axes
    assert [axes.get_title() for axes in (first, second)] == ["step 10", "step 20"]
    np.testing.assert_array_equal(second.images[0].get_array(), np.full((2, 2, 3), 3))


@pytest.fixture
def sheet():
    def write(path, value):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 2, 3), value, np.uint8)).save(path)

    return write
