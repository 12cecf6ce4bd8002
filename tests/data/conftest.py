"""Small trees of files whose every byte differs from the others'."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

Tree = Callable[[Mapping[str, bytes | int]], Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Writes files under a fresh folder: name -> content, or name -> how many random bytes."""
    rng = np.random.default_rng(0)

    def write(files: Mapping[str, bytes | int]) -> Path:
        root = tmp_path / "data"
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(rng.bytes(content) if isinstance(content, int) else content)
        return root

    return write
