"""Temperature and top-p by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def sampling_sliders(draw: Callable[[float, float, int], object], temperature: float = 1.0, top_p: float = 1.0) -> Any:
    """A widget with sliders for temperature, top-p and seed, and a button that shows what `draw` makes of them.

    draw: (temperature, top_p, seed) -> what is shown. It runs when the button is pressed, since drawing takes a while.
    """
    from ipywidgets import FloatSlider, IntSlider, interactive

    return interactive(
        draw,
        {"manual": True, "manual_name": "draw"},
        temperature=FloatSlider(temperature, min=0.0, max=1.5, step=0.05, continuous_update=False),
        top_p=FloatSlider(top_p, min=0.05, max=1.0, step=0.05, continuous_update=False),
        seed=IntSlider(0, min=0, max=20, continuous_update=False),
    )
