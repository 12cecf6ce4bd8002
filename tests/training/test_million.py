"""A picture of 640 x 640 pixels, 1,228,800 bytes, is learned from in one piece and in bounded memory."""

import os
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from megabyte_mm.cli.packaged import config_folder

SIDE = 640
SMALL = [
    "--model.net.global_stack={dim: 192, layers: 1, heads: 2}",
    "--model.net.local_stack={dim: 16, layers: 1, heads: 1}",
    "--trainer.max_steps=1",
    "--trainer.val_check_interval=1",
]
"""The shapes are those of the config; layers and widths are not, so that a step takes seconds."""
RUN = """
import re, resource, sys
from pathlib import Path
from megabyte_mm.cli.main import main
code = main(sys.argv[1:])
if sys.platform == "linux":  # where ru_maxrss begins with that of the process that started this one
    most = 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
else:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(code, most, file=sys.stderr)
"""


@pytest.fixture
def pictures(tmp_path):
    y, x = np.mgrid[:SIDE, :SIDE]
    for number, name in enumerate(("train/a.png", "val/b.png")):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True)
        pixels = np.stack([x * (number + 1) % 256, y * 3 % 256, (x + y) // 5 % 256], axis=-1)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return tmp_path / "pictures"


def test_a_million_bytes_are_learned_from_in_bounded_memory(pictures, tmp_path):
    arguments = ["fit", "--config=million", f"--data.path={pictures}", f"--trainer.default_root_dir={tmp_path / 'run'}"]
    command = [sys.executable, "-c", RUN, *arguments, *SMALL, "--model.activation_memory=0.1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MEGABYTE_MM_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    code, most = done.stderr.split()[-2:]
    assert code == "0", done.stderr
    # All activations of even this model would take 2.5 GiB more than the program and its libraries.
    assert int(most) < 1.6 * 2**30
    assert (tmp_path / "run" / "best.ckpt").is_file()


def test_the_config_reads_whole_pictures_in_patches_of_192_bytes():
    config = yaml.safe_load((config_folder() / "million.yaml").read_text(encoding="utf-8"))
    adapter = config["data"]["adapter"]["init_args"]
    assert adapter["size"] == [SIDE, SIDE]
    assert 3 * adapter["patch"] ** 2 == 192
