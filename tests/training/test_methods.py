"""val/bpb by each method is the total of `megabyte-mm score`, whatever the lengths of the files."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer

from megabyte_mm.alphabet import fill_window, scored
from megabyte_mm.cli.score import score
from megabyte_mm.data.module import ByteData
from megabyte_mm.evaluation.methods import METHODS
from megabyte_mm.evaluation.scoring import score_streams
from megabyte_mm.metrics import BitsPerByte
from megabyte_mm.models import MegabyteConfig, StackConfig
from megabyte_mm.training.module import ByteLM
from megabyte_mm.windows import ScoringWindows
from tests.evaluation.conftest import stream, tiny
from tests.training.conftest import same, weights
from tests.training.test_fit import logged

LENGTHS = [1, 31, 32, 33, 64, 80, 100]


@pytest.fixture
def uneven(texts):
    """Validation files that end before, at and after the edge of a window."""
    for length in LENGTHS:
        (texts / "val" / f"{length}.txt").write_bytes(bytes(97 + i * length % 26 for i in range(length)))
    (texts / "val" / "c.txt").unlink()
    return texts


def measured(checkpoint: Path, data: ByteData, method: str) -> float:
    stacks = StackConfig(dim=16, layers=1, heads=2), StackConfig(dim=8, layers=1, heads=2)
    net = MegabyteConfig(patch_size=4, global_stack=stacks[0], local_stack=stacks[1])
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", devices=1, use_distributed_sampler=False, **quiet)  # type: ignore[arg-type]
    module = ByteLM(net, method=method)  # type: ignore[arg-type]
    [figures] = trainer.validate(module, data, ckpt_path=str(checkpoint), verbose=False)
    return figures["val/bpb"]


def test_validate_and_score_agree_by_every_method(fit, root, uneven, tmp_path, capsys):
    assert fit("--trainer.max_steps=2") == 0
    out, checkpoint = tmp_path / "scores.json", root / "last.ckpt"
    score(str(checkpoint), [str(uneven / "val")], method=["all"], json=str(out), batch_size=3)
    total = json.loads(out.read_text())["total"]
    assert total["bytes"] == sum(LENGTHS)
    for method in METHODS:
        data = ByteData(str(uneven), window=32, val_batch_size=4)
        assert measured(checkpoint, data, method) == pytest.approx(total["bits_per_byte"][method], rel=1e-5)
    assert len(set(total["bits_per_byte"].values())) == len(METHODS)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.sampled_from([1, 2, 4]), st.booleans())
@settings(max_examples=15)
def test_the_metric_and_the_scores_count_the_same_symbols(lengths, unit, sliding):
    model, window, metric = tiny(4), 12, BitsPerByte()
    nats = 0.0
    with torch.no_grad():
        for number in lengths:
            data = stream(number * unit)
            nats += next(
                score_streams(model, [(data, 0)], window, unit, method="sliding" if sliding else "plain")
            ).total_nats
            metric.update(*batch_of(model, data, ScoringWindows(window, unit, sliding)))
    assert float(metric.nats) == pytest.approx(nats, rel=1e-4)
    assert int(metric.bytes) == sum(lengths) * unit


def batch_of(model, data, views):
    """All windows of a stream as a loader gives them: (nats, ids, scored)."""
    size = np.array([len(data)])
    numbers = np.arange(int(views.num_windows(size)[0]))
    starts, seen = views.locate(np.repeat(size, len(numbers)), numbers)
    rows = [fill_window(data[start : start + views.window], views.window) for start in starts.tolist()]
    ids = torch.from_numpy(np.stack(rows))
    is_context = torch.arange(views.window) < torch.from_numpy(seen)[:, None]
    return model.nll(ids), ids, scored(ids) & ~is_context


def test_fit_validates_by_the_method_and_trains_the_same(fit, root, uneven, tmp_path):
    other = tmp_path / "sliding"
    assert fit() == 0
    assert fit("--model.method=sliding+strided", f"--trainer.default_root_dir={other}") == 0
    assert same(weights(root / "last.ckpt"), weights(other / "last.ckpt"))
    plain, sliding = logged(root, "val/bpb")[-1], logged(other, "val/bpb")[-1]
    assert plain != sliding
    data = ByteData(str(uneven), window=32)
    assert measured(other / "last.ckpt", data, "sliding+strided") == pytest.approx(sliding, rel=1e-5)


def test_a_run_may_be_resumed_by_another_method(fit, root, texts, tmp_path):
    plain = tmp_path / "plain"
    for folder, first, second in ((plain, "plain", "plain"), (root, "sliding", "strided")):
        where = f"--trainer.default_root_dir={folder}"
        assert fit(where, "--trainer.max_steps=4", f"--model.method={first}") == 0
        assert fit(where, "--ckpt_path=last", f"--model.method={second}") == 0
    assert same(weights(root / "last.ckpt"), weights(plain / "last.ckpt"))


def test_strides_without_patches_are_refused_before_work_begins(fit, root, texts, caplog, capsys):
    with caplog.at_level(logging.INFO):
        assert fit("--model.method=strided", "--model.net.patch_size=1", "--model.net.global_stack.dim=16") == 2
    assert "model.method strided: strided needs a model with patches of at least 2 bytes" in capsys.readouterr().err
    assert not list(root.glob("*.ckpt"))


def test_an_unknown_method_is_named(fit, texts, capsys):
    assert fit("--model.method=clever") == 2
    assert "model.method clever: expected Literal['plain', 'sliding'" in capsys.readouterr().err
