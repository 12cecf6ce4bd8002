"""Text while it is generated, byte by byte."""

import io

import numpy as np
import pytest

from megabyte_mm.cli.live_text import LiveText


def shown_after_each(data: bytes, size: int = 1) -> list[str]:
    out = io.StringIO()
    live, outputs = LiveText(out), []
    for start in range(0, len(data), size):
        live.write(np.frombuffer(data[start : start + size], np.uint8))
        outputs.append(out.getvalue())
    live.close()
    return [*outputs, out.getvalue()]


def test_characters_come_when_they_are_whole():
    assert shown_after_each("aä€😀".encode()) == [
        *("a", "a", "aä", "aä", "aä", "aä€", "aä€", "aä€", "aä€", "aä€😀"),
        "aä€😀\n",
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_line_breaks_are_normalized_and_other_controls_replaced(size):
    *_, shown = shown_after_each(b"a\r\nb\rc\t\x1b[2J\xff.", size)
    assert shown == "a\nb\ufffdc\t\ufffd[2J\ufffd.\n"


def test_a_character_that_is_never_finished_is_shown_at_the_end():
    assert shown_after_each("a€".encode()[:-1])[-1] == "a\ufffd\n"
    assert shown_after_each(b"a\r")[-1] == "a\n\n"


def test_nothing_shows_nothing():
    assert shown_after_each(b"") == [""]


def test_spaces_and_joiners_of_any_script_are_shown_and_direction_marks_are_not():
    text = "\u3000你好\u00a0x \N{MAN}\u200d\N{WOMAN}"
    assert shown_after_each(text.encode())[-1] == text + "\n"
    assert shown_after_each("a\u202eb\ue000".encode())[-1] == "a\ufffdb\ufffd\n"


def test_a_closed_output_does_not_stop_generation():
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    live = LiveText(Gone())
    for _ in range(2):
        live.write(np.frombuffer(b"ab", np.uint8))
    live.close()
