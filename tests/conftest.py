"""Settings of every test: one thread, repeatable examples, a cache folder of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from data_adapters import Adapter

# One thread for torch, here and in every process that a test starts: the models are tiny, so that more
# threads would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or fills the user's own cache, or another test's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MEGABYTE_MM_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """No test inherits the ranks and seeds that Lightning wrote into the environment in another."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before) - {"PYTEST_CURRENT_TEST"}:
        del os.environ[name]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property: hypothesis accepts no fixture that is new for each example."""
    return tmp_path_factory.mktemp("media")


@pytest.fixture
def save_checkpoint(tmp_path: Path, save_checkpoint_in: Callable[..., Path]) -> Callable[..., Path]:
    """Saves an untrained model as a training run would: adapter, window, ... -> the checkpoint's path."""
    return partial(save_checkpoint_in, tmp_path)


@pytest.fixture(scope="session")
def save_checkpoint_in() -> Callable[..., Path]:
    """`save_checkpoint` into any folder, for fixtures that several tests share."""
    import torch

    from data_adapters import spec
    from megabyte_mm.checkpoint import SPEC_KEY, make_spec
    from megabyte_mm.models import BlockConfig, Megabyte, MegabyteConfig, StackConfig

    def save(
        folder: Path,
        adapter: Adapter,
        window: int,
        patch_size: int = 4,
        classes: Sequence[str] = (),
        name: str = "tiny.ckpt",
        positions: str = "learned",
    ) -> Path:
        config = MegabyteConfig(
            patch_size=patch_size,
            max_len=window,
            global_stack=StackConfig(dim=4 * patch_size, layers=1, heads=1),
            local_stack=StackConfig(dim=8, layers=1, heads=1),
            block=BlockConfig(positions=positions),  # type: ignore[arg-type] # checked there
            conditions=len(classes) + 1,
            init_std=0.5,
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Megabyte(config)
        data: dict[str, Any] = {
            "adapter": spec(adapter),
            "window": window,
            "conditions": ["none", *classes],
            "fixed_length": adapter.length is not None,
        }
        weights = {f"model.{name}": weight for name, weight in model.state_dict().items()}
        torch.save({SPEC_KEY: make_spec(model, data), "state_dict": weights, "epoch": 0}, folder / name)
        return folder / name

    return save
