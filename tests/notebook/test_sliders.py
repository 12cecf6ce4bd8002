"""Sliders that draw when the button is pressed."""

from typing import Any

from megabyte_mm.notebook.show import sampling_sliders


def test_nothing_is_drawn_before_the_button_and_then_with_the_sliders_values():
    calls = []
    widget: Any = sampling_sliders(lambda temperature, top_p, seed: calls.append((temperature, top_p, seed)), 0.7, 0.9)
    temperature, top_p, seed, button, _ = widget.children
    temperature.value, seed.value = 1.2, 4
    assert not calls
    button.click()
    assert calls == [(1.2, 0.9, 4)]
    assert (temperature.min, top_p.max) == (0.0, 1.0)
