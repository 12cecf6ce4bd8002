"""Fuzz one target: `python -m fuzz.one TARGET CORPUS [libFuzzer flags]`; given a file, check only that file."""

from __future__ import annotations

import importlib
import os
import resource
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

INSTRUMENTED = {
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
    "containers": ["megabyte_mm.data", "zipfile", "tarfile", "csv", "numpy.lib.npyio", "json.decoder"],
}
"""Modules whose branches guide the fuzzer. torch is too large for that, and is imported before."""

if sys.argv[1] in ("checkpoint", "sharded", "exported"):
    importlib.import_module("torch")
with atheris.instrument_imports(include=INSTRUMENTED[sys.argv[1]]):
    for module in INSTRUMENTED[sys.argv[1]]:
        importlib.import_module(module)

    from PIL import Image

    Image.init()
    from fuzz.targets import TARGETS, Target


def main(arguments: list[str]) -> None:
    """Run libFuzzer, which ends the process: with code 77 after an exception in Python."""
    name, corpus, *flags = arguments
    target = TARGETS[name]
    if not Path(corpus).is_file():
        _write_seeds(target, Path(corpus))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        workspace = Path(folder)
        target.check(next(iter(target.seeds().values())), workspace)  # so that lazy imports are done
        warnings.simplefilter("ignore")

        def test_one_input(content: bytes) -> None:
            target.check(content, workspace)

        def mutate(content: bytes, limit: int, seed: int) -> bytes:
            assert target.mutate is not None
            return target.mutate(content, seed, lambda data: bytes(atheris.Mutate(data, limit)))[:limit]

        mutator = {} if target.mutate is None else {"custom_mutator": mutate}
        limits = [f"-max_len={target.max_len}", "-timeout=30", f"-rss_limit_mb={target.memory + 1024}"]
        atheris.Setup([sys.argv[0], *limits, *flags, corpus], test_one_input, **mutator)
        _limit_memory(target.memory)
        atheris.Fuzz()


def _write_seeds(target: Target, corpus: Path) -> None:
    corpus.mkdir(parents=True, exist_ok=True)
    for name, content in target.seeds().items():
        (corpus / name.replace("/", "_")).write_bytes(content)


def _limit_memory(mebibytes: int) -> None:
    """Limit further allocations, so that a huge request raises MemoryError, which is a finding."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main(sys.argv[1:])
