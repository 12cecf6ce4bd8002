"""The demo is a folder of scripts, not a package: its modules are found as `python demo/run.py` finds them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "demo"))
