"""What a user hears of files that were converted, or could not be used."""

from __future__ import annotations

import warnings
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from data_adapters import printable
from megabyte_mm.data.encode import first_reasons
from megabyte_mm.data.records import Skipped
from megabyte_mm.data.sources import OpenSource


def tell_conversions(source: OpenSource) -> None:
    """Say what was left unused, converted and clipped of a source."""
    about = source.reader.about
    if unused := about.get("unused", 0):
        rank_zero_info(f"{unused} files of {source.path} lie beside train, val and test and are not used")
    for note, count in about["notes"].items():
        rank_zero_info(f"{count} files of {source.path}: {note}")
    if clipped := about["clipped"]:
        entries = [{"path": entry["path"], "reason": entry["note"]} for entry in clipped]
        rank_zero_info(f"{len(clipped)} files of {source.path} lost range: {first_reasons(entries)}")


def tell_skipped(paths: str, skipped: Skipped, log_dir: str | None) -> None:
    """Warn of files that are left out, and list all in skipped_files.txt of the log folder, if there is one."""
    if log_dir:
        Path(log_dir).mkdir(parents=True, exist_ok=True)
        lines = [f"{printable(entry['path'])}\t{printable(entry['reason'])}\n" for entry in skipped]
        Path(log_dir, "skipped_files.txt").write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    where = f" (all in {log_dir}/skipped_files.txt)" if log_dir else ""
    warnings.warn(f"skipped {len(skipped)} files of {paths}: {first_reasons(skipped)}{where}", stacklevel=2)
