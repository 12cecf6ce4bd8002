"""Options that several commands share, and how help is laid out."""

from __future__ import annotations

from jsonargparse import DefaultHelpFormatter

from megabyte_mm.errors import check_positive


class ExamplesFormatter(DefaultHelpFormatter):
    """Keeps the line breaks of the closing examples; all else is filled as usual."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)


__all__ = ["check_positive", "pick_device"]


def pick_device(name: str) -> str:
    """`auto` is the first accelerator there is. Raises ValueError for one that this machine or torch lacks."""
    import torch

    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if found is None else found.type
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: not available here ({str(error).splitlines()[0]})") from error
    return name
