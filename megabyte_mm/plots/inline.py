"""A figure as SVG inside a page: its colours follow the page's, its text is text, and it names nothing outside."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping

import matplotlib as mpl
from matplotlib.figure import Figure


def inline_svg(figure: Figure, name: str, label: str, variables: Mapping[str, str]) -> str:
    """The figure as an <svg> element, the same whenever it is drawn.

    name: tells this figure of a page from the others, a word. label: what it shows, for those who do not see it.
    variables: colour -> the page's CSS variable that stands for it; the colour itself where the page has none.
    """
    drawn = io.StringIO()
    # The salt keeps the ids of one figure apart from those of another on the same page.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    svg = drawn.getvalue()
    # Its stylesheet would be that of the whole page.
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # figure_1, axes_1: the same in every figure
    for color, variable in variables.items():
        svg = svg.replace(color, f"var({variable}, {color})")
    svg = re.sub(r"font-family: [^;]*; ?", "", svg).replace("xlink:href", "href")
    size = re.search(r'viewBox="[^"]*"', svg)
    assert size is not None
    opening = f'<svg class="plot" {size[0]} role="img" aria-label="{html.escape(label)}">'
    return opening + svg[svg.index(">") + 1 :]
