"""What every test runs under: few threads, repeatable examples, a cache folder of its own."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Read by torch when it is first imported, here and in the processes that tests start. A worker of pytest-xdist keeps
# to one thread, whatever it inherits, because its siblings keep the other cores busy.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
else:
    os.environ.setdefault("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or fills the user's own cache, or another test's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MEGABYTE_MM_CACHE", str(folder))
    return folder
