"""A map of files by their features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from megabyte_mm.plots.style import Floats


def feature_map(coordinates_F2: Floats, classes: Sequence[str]) -> Figure:
    """Draw files as points, (F, 2), with a colour for each class."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    of_class = np.array(classes)
    for number, name in enumerate(sorted(set(classes))):
        points = coordinates_F2[of_class == name]
        # Ten colours, then other marks.
        axes.scatter(points[:, 0], points[:, 1], s=12, alpha=0.7, marker="osD^v"[number // 10 % 5], label=name)
    axes.set_xlabel("first principal component")
    axes.set_ylabel("second principal component")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    return figure
