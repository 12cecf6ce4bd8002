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
