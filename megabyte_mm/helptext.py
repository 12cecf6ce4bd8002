"""The help of a command, with its examples as they are typed."""

from jsonargparse import DefaultHelpFormatter


class ExamplesFormatter(DefaultHelpFormatter):
    """Keeps the line breaks of the closing examples; all else is filled as usual."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)
