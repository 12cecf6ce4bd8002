import io
import sys

import pytest

from megabyte_mm import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stderr", "delay", "shown"), [(Terminal, 0, True), (Terminal, 60, False), (io.StringIO, 0, False)]
)
def test_a_bar_appears_on_a_terminal_only_and_not_at_once(monkeypatch, stderr, delay, shown):
    screen = stderr()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "DELAY", delay)
    assert list(progress.progress([1, 2, 3], "encoding")) == [1, 2, 3]
    assert ("encoding" in screen.getvalue()) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 bytes"), (1, "1 byte"), (48.4, "48 bytes"), (2_048, "2.0 kB"), (999_960, "1.0 MB"), (2e6, "2.0 MB")],
)
def test_sizes_below_a_kilobyte_are_in_bytes(count, shown):
    assert progress.format_bytes(count) == shown
