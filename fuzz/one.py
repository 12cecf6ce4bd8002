"""Fuzz one target: `python -m fuzz.one TARGET CORPUS [libFuzzer flags]`; with a file for the corpus, check it alone."""

from __future__ import annotations

import importlib
import os
import resource
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

WATCHED = {
    "image": ["data_adapters", "PIL"],
    "audio": ["data_adapters", "soundfile"],
    "text": ["data_adapters"],
    "file": ["data_adapters"],
    "scans": ["data_adapters"],
    "checkpoint": ["megabyte_mm.checkpoint", "megabyte_mm.models"],
    "sharded": ["megabyte_mm.checkpoint.safety", "megabyte_mm.checkpoint", "megabyte_mm.checkpoint.dcp", "pickletools"],
    "exported": [
        "megabyte_mm.checkpoint",
        "megabyte_mm.checkpoint.exported",
        "megabyte_mm.checkpoint.provenance",
        "json.decoder",
    ],
    "shards": ["megabyte_mm.data.storage.shards", "json.decoder"],
}
"""The modules whose branches guide the fuzzer; torch is too large for that, and comes first."""

if sys.argv[1] in ("checkpoint", "sharded", "exported"):
    importlib.import_module("torch")
with atheris.instrument_imports(include=WATCHED[sys.argv[1]]):
    for module in WATCHED[sys.argv[1]]:
        importlib.import_module(module)

    from PIL import Image

    Image.init()
    from fuzz.targets import TARGETS, Target


def main(arguments: list[str]) -> None:
    """Never returns: libFuzzer ends the process, with code 77 after a finding that Python raised."""
    name, place, *flags = arguments
    target = TARGETS[name]
    if not Path(place).is_file():
        _plant(target, Path(place))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        workplace = Path(folder)
        target.check(next(iter(target.seeds().values())), workplace)  # whatever is imported on first use
        warnings.simplefilter("ignore")

        def test_one_input(content: bytes) -> None:
            target.check(content, workplace)

        def mutate(content: bytes, limit: int, seed: int) -> bytes:
            assert target.mutate is not None
            return target.mutate(content, seed, lambda piece: bytes(atheris.Mutate(piece, limit)))[:limit]

        own = {} if target.mutate is None else {"custom_mutator": mutate}
        limits = [f"-max_len={target.max_len}", "-timeout=30", f"-rss_limit_mb={target.memory + 1024}"]
        atheris.Setup([sys.argv[0], *limits, *flags, place], test_one_input, **own)
        _limit_memory(target.memory)
        atheris.Fuzz()


def _plant(target: Target, corpus: Path) -> None:
    corpus.mkdir(parents=True, exist_ok=True)
    for name, content in target.seeds().items():
        (corpus / name.replace("/", "_")).write_bytes(content)


def _limit_memory(mebibytes: int) -> None:
    """Let no more be allocated than so much beyond what is there now: one huge request is a MemoryError, a finding."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main(sys.argv[1:])
