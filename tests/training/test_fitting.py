"""Training from Python, watched."""

import signal
from typing import Any

import pytest
import torch

from megabyte_mm import MegabyteConfig, StackConfig, load_model
from megabyte_mm.data.module import ByteData
from megabyte_mm.training import ByteLM, OptimizerConfig
from megabyte_mm.training.fitting import fit
from megabyte_mm.training.progress import ProgressCallback
from megabyte_mm.training.samples import SampleWriter
from megabyte_mm.training.trainer import best_precision


@pytest.fixture
def program(request):
    """The fixture `fit`, by a name that the function does not have."""
    return request.getfixturevalue("fit")


@pytest.fixture
def train(texts):
    """`fit` with a model and data as the config `small` has them: folder, steps, ... -> the checkpoint's path."""

    def train(folder, data=texts, **settings):
        stacks = {name: StackConfig(dim=dim, layers=1, heads=2) for name, dim in (("global", 16), ("local", 8))}
        net = MegabyteConfig(patch_size=4, global_stack=stacks["global"], local_stack=stacks["local"])
        model = ByteLM(net, OptimizerConfig(lr=0.01, warmup_steps=2))
        return fit(model, ByteData(str(data), window=32, batch_size=4, val_batch_size=2), folder, **settings)

    return train


def test_the_run_is_that_of_the_program(train, program, root, tmp_path):
    best = train(tmp_path / "python", steps=8, val_every=4)
    assert best == tmp_path / "python" / "best.ckpt"
    assert program(f"--trainer.precision={best_precision('auto')}") == 0
    ours, theirs = load_model(best).model.state_dict(), load_model(root / "best.ckpt").model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (tmp_path / "python/logs/version_0/metrics.csv").is_file()
    assert (tmp_path / "python/last.ckpt").is_file()


def test_a_run_that_cannot_begin_leaves_the_earlier_ones_checkpoints(train, tmp_path):
    best = train(tmp_path / "run", steps=1)
    before = best.read_bytes()
    with pytest.raises(FileNotFoundError, match="gone"):
        train(tmp_path / "run", data=tmp_path / "gone", steps=1)
    assert best.read_bytes() == before
    assert train(tmp_path / "run", steps=2).read_bytes() != before


def test_a_watcher_hears_of_steps_and_validations_and_where_the_samples_lie(train, tmp_path):
    heard: list[Any] = []

    def show(progress):
        heard.append((progress.steps, len(progress.train), len(progress.val), len(progress.samples)))

    watch = ProgressCallback(show, every=3)
    train(tmp_path / "run", steps=8, val_every=4, callbacks=[SampleWriter(count=1, length=4), watch])
    assert heard == [(8, 1, 0, 0), (8, 1, 1, 1), (8, 2, 1, 1), (8, 2, 2, 1)]
    assert [step for step, _ in watch.progress.train] == [3, 6]
    assert [step for step, _ in watch.progress.val] == [4, 8]
    assert all(0 < value < 20 for _, value in watch.progress.train + watch.progress.val)
    (sample,) = watch.progress.samples
    assert sample.parent.name == "step-0000008"
    with pytest.raises(ValueError, match="every is 0; it must be at least 1"):
        ProgressCallback(show, every=0)


def test_an_interrupt_ends_the_run_after_the_step_and_leaves_what_was_learned(train, tmp_path):
    folder = tmp_path / "run"
    train(folder, steps=1)
    stop = ProgressCallback(lambda progress: signal.raise_signal(signal.SIGINT), every=2)
    last = train(folder, steps=100, callbacks=[stop])
    assert last == folder / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 2
    assert not (folder / "best.ckpt").exists()  # that of the run before is no part of this one


def test_a_folder_that_cannot_be_made_is_reported_before_any_work(train, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written to"):
        train(tmp_path / "file" / "run", steps=1)
