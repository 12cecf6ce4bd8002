"""Only one run at a time trains in a folder."""

import subprocess
import sys

import pytest

from megabyte_mm.errors import FieldError
from megabyte_mm.training.claim import LOCK, claimed

HOLD = """
import sys, time
from pathlib import Path
from megabyte_mm.training.claim import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_until_the_block_ends_and_nothing_stays(tmp_path):
    for _ in range(2):
        with claimed(tmp_path):
            assert (tmp_path / LOCK).exists()
            with pytest.raises(FieldError, match="another run is training in this folder"), claimed(tmp_path):
                pass
        assert not list(tmp_path.iterdir())


def test_a_killed_process_holds_nothing(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE) as process:
        (tmp_path / "run").mkdir()
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        process.kill()
    with claimed(tmp_path / "run"):
        pass


def test_a_second_run_is_refused_by_name(fit, root, capfd):
    root.mkdir(parents=True, exist_ok=True)
    with claimed(root):
        assert fit() == 2
    [line] = capfd.readouterr().err.splitlines()
    assert "trainer.default_root_dir" in line
    assert "another run is training in this folder: choose another one" in line
    assert fit() == 0
