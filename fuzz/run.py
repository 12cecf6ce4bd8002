"""`make fuzz`: fuzz every target for FUZZ_SECONDS seconds, and print the command that repeats a finding.

docs/hostile_files.md defines findings. Corpora are stored below fuzz/corpus, and later runs continue from them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

NAMES = ("image", "audio", "text", "file", "scans", "checkpoint", "sharded", "exported", "shards", "containers")
HERE = Path(__file__).parent


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 1 if any target has a finding."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"any of {', '.join(NAMES)}; default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--corpus", type=Path, default=HERE / "corpus", help="folder of the inputs to start from")
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(NAMES):
        parser.error(f"unknown target {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    failed = [name for name in options.targets or NAMES if not fuzz(name, options.seconds, options.corpus)]
    print(f"findings in {', '.join(failed)}" if failed else "no findings")
    return int(bool(failed))


def fuzz(name: str, seconds: int, corpus: Path) -> bool:
    """Fuzz one target. Returns False after a finding, and prints its traceback and a command that repeats it."""
    findings = corpus / "findings" / name
    findings.mkdir(parents=True, exist_ok=True)
    before = set(findings.iterdir())
    flags = [f"-max_total_time={seconds}", f"-artifact_prefix={findings}/", "-print_final_stats=1"]
    command = [sys.executable, "-m", "fuzz.one", name, str(corpus / name), *flags]
    process = subprocess.run(command, cwd=HERE.parent, stderr=subprocess.PIPE, check=False)
    report = process.stderr.decode(errors="replace")
    progress = [line for line in report.splitlines() if line.startswith(("#", "stat::number"))]
    print(f"{name}: {'; '.join(progress[-2:]) or 'did not start'}", flush=True)
    if process.returncode == 0:
        return True
    print(report[-4000:], file=sys.stderr)
    for file in sorted(set(findings.iterdir()) - before):
        print(f"repeat it with: python -m fuzz.one {name} {file}", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
