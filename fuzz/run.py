"""`make fuzz`: fuzz every target for FUZZ_SECONDS seconds, and say how a finding is repeated.

docs/hostile_files.md says what counts as one. Corpora are kept below fuzz/corpus, and a later run goes on from them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

NAMES = ("image", "audio", "text", "file", "scans", "checkpoint", "sharded", "exported", "shards")
HERE = Path(__file__).parent


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 1 where any target has a finding."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"which of {', '.join(NAMES)}; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--corpus", type=Path, default=HERE / "corpus", help="where inputs of interest are kept")
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(NAMES):
        parser.error(f"unknown target {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    lost = [name for name in options.targets or NAMES if not fuzz(name, options.seconds, options.corpus)]
    print(f"findings in {', '.join(lost)}" if lost else "no findings")
    return int(bool(lost))


def fuzz(name: str, seconds: int, corpus: Path) -> bool:
    """Whether the target ran without a finding; one is told with its traceback and how to repeat it."""
    found = corpus / "findings" / name
    found.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    flags = [f"-max_total_time={seconds}", f"-artifact_prefix={found}/", "-print_final_stats=1"]
    command = [sys.executable, "-m", "fuzz.one", name, str(corpus / name), *flags]
    done = subprocess.run(command, cwd=HERE.parent, stderr=subprocess.PIPE, check=False)
    report = done.stderr.decode(errors="replace")
    progress = [line for line in report.splitlines() if line.startswith(("#", "stat::number"))]
    print(f"{name}: {'; '.join(progress[-2:]) or 'did not start'}", flush=True)
    if done.returncode == 0:
        return True
    print(report[-4000:], file=sys.stderr)
    for file in sorted(set(found.iterdir()) - before):
        print(f"repeat it with: python -m fuzz.one {name} {file}", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
