"""`megabyte-mm report`: a run as one HTML page."""

from megabyte_mm.cli.report.command import report

__all__ = ["report"]
