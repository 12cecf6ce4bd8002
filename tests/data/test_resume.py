"""Batch by batch: an uninterrupted run against runs that stop, and go on from a checkpoint in a new Trainer."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from megabyte_mm.data.module import ByteData

EPOCHS = 3
BATCHES = 5


class Recorder(LightningModule):
    """Keeps (epoch, index, ids) of every training batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple] = []

    def training_step(self, batch, index):
        self.seen.append((self.current_epoch, index, batch.ids.tolist()))
        return self.weight * 1.0

    def validation_step(self, batch, index):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class SaveAt(Callback):
    """Saves a checkpoint in one hook after `step` batches, and stops the run as a kill would."""

    def __init__(self, hook: str, step: int, path: str) -> None:
        self.step, self.path = step, path
        setattr(self, hook, self.save)

    def save(self, trainer, *_):
        if trainer.global_step == self.step and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)
            raise KilledError


class KilledError(Exception):
    pass


def write(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, size in {"train/a.txt": BATCHES * 4 * 16 + 3, "train/b.txt": 20, "val/c.txt": 100}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(rng.bytes(size))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data"))


def run(root, tmp_path, callbacks=(), checkpoint=None, workers=0, **settings):
    data = ByteData(str(root), window=16, batch_size=4, num_workers=workers, cache_dir=str(tmp_path / "cache"))
    module = Recorder()
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    settings = {"max_epochs": EPOCHS, "num_sanity_val_steps": 1, **quiet, **settings}
    trainer = Trainer(accelerator="cpu", devices=1, default_root_dir=tmp_path, callbacks=list(callbacks), **settings)
    with contextlib.suppress(KilledError):
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    return module.seen


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    seen = run(root, tmp_path_factory.mktemp("whole"))
    assert len(seen) == EPOCHS * BATCHES
    assert [seen[i][2] for i in range(BATCHES)] != [seen[BATCHES + i][2] for i in range(BATCHES)]
    return seen


def contents(seen):
    return [(epoch, ids) for epoch, _, ids in seen]


STOPS = [
    ("on_train_batch_end", BATCHES),
    ("on_train_batch_end", BATCHES + 3),
    ("on_train_batch_end", EPOCHS * BATCHES - 1),
    ("on_validation_end", BATCHES),
    ("on_train_epoch_end", BATCHES),
    ("on_train_batch_end", 1),
]


@pytest.mark.parametrize(("hook", "step"), STOPS)
def test_a_resumed_run_sees_what_the_uninterrupted_one_saw(root, tmp_path, whole, hook, step):
    path = str(tmp_path / "stop.ckpt")
    before = run(root, tmp_path, [SaveAt(hook, step, path)])
    after = run(root, tmp_path, checkpoint=path)
    assert len(before) == step
    assert contents(before + after) == contents(whole)


def test_workers_resume_alike(root, tmp_path, whole):
    path = str(tmp_path / "stop.ckpt")
    before = run(root, tmp_path, [SaveAt("on_train_batch_end", 3, path)], workers=2)
    after = run(root, tmp_path, checkpoint=path, workers=2)
    assert contents(before + after) == contents(whole)


def test_a_chain_of_stops_resumes_alike(root, tmp_path, whole):
    seen, path = [], None
    for stop in (2, 4, BATCHES, BATCHES + 1, 2 * BATCHES + 2):
        following = str(tmp_path / f"{stop}.ckpt")
        seen += run(root, tmp_path, [SaveAt("on_train_batch_end", stop, following)], path)
        path = following
    assert contents(seen + run(root, tmp_path, checkpoint=path)) == contents(whole)


def test_a_chain_of_stops_under_max_steps_resumes_alike(root, tmp_path, whole):
    seen, path, limit = [], None, {"max_epochs": -1, "max_steps": EPOCHS * BATCHES}
    for stop in (BATCHES, BATCHES + 2, 2 * BATCHES):
        following = str(tmp_path / f"{stop}.ckpt")
        seen += run(root, tmp_path, [SaveAt("on_train_batch_end", stop, following)], path, **limit)
        path = following
    assert contents(seen + run(root, tmp_path, checkpoint=path, **limit)) == contents(whole)


def test_validation_inside_the_epoch_does_not_disturb_resuming(root, tmp_path, whole):
    path = str(tmp_path / "stop.ckpt")
    before = run(root, tmp_path, [SaveAt("on_validation_end", 4, path)], val_check_interval=2)
    after = run(root, tmp_path, checkpoint=path, val_check_interval=2)
    assert contents(before + after) == contents(whole)


def test_an_epoch_cut_short_by_limit_train_batches_resumes(root, tmp_path):
    path = str(tmp_path / "stop.ckpt")
    expected = run(root, tmp_path, limit_train_batches=3)
    before = run(root, tmp_path, [SaveAt("on_train_batch_end", 4, path)], limit_train_batches=3)
    after = run(root, tmp_path, checkpoint=path, limit_train_batches=3)
    assert contents(before + after) == contents(expected)


def test_resuming_on_changed_data_is_refused(tmp_path):
    root = write(tmp_path / "data")
    path = str(tmp_path / "stop.ckpt")
    run(root, tmp_path, [SaveAt("on_train_batch_end", 2, path)])
    (root / "train/b.txt").write_bytes(b"something else here.")
    with pytest.raises(ValueError, match=r"cannot resume .* data fingerprint was"):
        run(root, tmp_path, checkpoint=path)
