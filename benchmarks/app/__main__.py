"""Load the playground: `python -m benchmarks.app runs/image/best.ckpt --clients 20 --minutes 4` (Linux).

Each ten seconds it prints the calls so far and the memory of the server; at the end the answers by kind, all that was
not as expected, and what the server wrote to stderr.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.app.clients import Counts, run_client
from benchmarks.app.requests import requests
from data_adapters import Adapter
from megabyte_mm import load_model

UPLOAD_MEGABYTES = 4


def resident_megabytes(pid: int) -> float:
    """Memory of a process and of its children."""
    total = 0.0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:  # it has ended
            continue
        if pid in (int(lines["Pid"]), int(lines["PPid"])) and "VmRSS" in lines:
            total += int(lines["VmRSS"].split()[0]) / 1024
    return total


def main() -> int:
    """Run the program. Returns 1 where an answer was not as expected."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("checkpoint", help="of a model of pictures, sound or text")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=4.0)
    options = parser.parse_args()
    adapter = load_model(options.checkpoint).adapter
    command = [sys.executable, "-m", "megabyte_mm", "app", options.checkpoint, "--port", "0"]
    with tempfile.TemporaryFile("w+") as errors:
        limit = ["--max_upload", str(UPLOAD_MEGABYTES)]
        server = subprocess.Popen([*command, *limit], stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            counts = _load(address, adapter, server.pid, options.clients, options.minutes)
        finally:
            server.terminate()
            server.wait()
        errors.seek(0)
        written = errors.read()
    _print(counts, written)
    return bool(counts.errors)


def _load(address: str, adapter: Adapter, pid: int, clients: int, minutes: float) -> Counts:
    counts, started = Counts(), time.monotonic()
    until = started + 60 * minutes
    make = partial(requests, adapter, UPLOAD_MEGABYTES)
    threads = [
        threading.Thread(target=run_client, args=(address, make, seed, until, counts)) for seed in range(clients)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        calls, seconds = sum(counts.outcomes.values()), time.monotonic() - started
        print(f"{seconds:5.0f} s  {calls:6} calls  {resident_megabytes(pid):7.0f} MB", flush=True)
        time.sleep(10)
    return counts


def _print(counts: Counts, written: str) -> None:
    for name, count in sorted(counts.outcomes.items()):
        print(f"{count:6}  {name}")
    if counts.seconds:
        middle, slow = np.quantile(counts.seconds, [0.5, 0.95])
        print(f"answers took {middle:.1f} s in the middle, and 95 % of them less than {slow:.1f} s")
    for name, count in counts.errors.most_common():
        print(f"not as expected, {count} times: {name}")
    print(f"the server wrote {len(written.splitlines())} lines to stderr")
    print(written[-3000:], end="")


if __name__ == "__main__":
    sys.exit(main())
