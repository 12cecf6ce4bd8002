"""The figures that ByteLM reports, against their definition; on two devices they are those of test_strategies.py."""

import math
from types import SimpleNamespace

import pytest
import torch

from megabyte_mm.alphabet import END, scored
from megabyte_mm.checkpoint import load_model
from megabyte_mm.data.geometry import Geometry
from megabyte_mm.data.module import ByteData
from megabyte_mm.metrics import BitsPerByte, mean_nats
from megabyte_mm.training import ByteLM
from tests.training.test_fit import logged


def bits_per_byte(checkpoint, texts):
    """Over all windows at once: all nats, ENDs' too, over the number of bytes."""
    data = ByteData(str(texts), window=32, val_batch_size=1)
    data.setup()
    model = load_model(checkpoint).model
    ids = torch.cat([batch.ids for batch in data.val_dataloader()])
    with torch.no_grad():
        nats = model.nll(ids)[scored(ids)].double().sum()
    assert int((ids != END).sum()) == 80
    return float(nats) / 80 / math.log(2)


def test_val_bpb_is_all_bits_over_all_bytes_with_a_ragged_last_batch(fit, root, texts):
    assert fit("--data.val_batch_size=2") == 0
    assert logged(root, "val/bpb")[-1] == pytest.approx(bits_per_byte(root / "last.ckpt", texts), rel=1e-6)


@pytest.mark.parametrize("net", [{}, {"cross_patch": 2}])
def test_little_memory_for_activations_changes_nothing_but_rounding(net, fit, root):
    options = [f"--model.net.{name}={value}" for name, value in net.items()]
    assert fit(*options) == 0
    less = root.with_name("less")
    assert fit(*options, "--model.activation_memory=1e-9", f"--trainer.default_root_dir={less}") == 0
    assert logged(less, "val/bpb") == pytest.approx(logged(root, "val/bpb"), rel=1e-5)
    assert fit("--model.activation_memory=0", f"--trainer.default_root_dir={root.with_name('none')}") == 2


def test_products_have_the_precision_that_is_asked_for_until_the_command_ends(fit, monkeypatch):
    before = torch.get_float32_matmul_precision()
    set_to: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", set_to.append)
    assert fit("--model.matmul_precision=high") == 0
    assert set_to == ["high", before]
    assert fit("--model.matmul_precision=low") == 2


def test_the_metric_adds_up_over_batches_and_processes():
    nats = torch.rand(4, 6)
    ids = torch.randint(0, 256, (4, 6))
    ids[1, 3:] = END
    whole, parts = BitsPerByte(), [BitsPerByte(), BitsPerByte()]
    whole.update(nats, ids)
    parts[0].update(nats[:1], ids[:1])
    parts[1].update(nats[1:], ids[1:])
    parts[0].merge_state(parts[1])
    assert float(parts[0].compute()) == pytest.approx(float(whole.compute()))
    counted = nats[scored(ids)].double().sum() / 21 / math.log(2)
    assert float(whole.compute()) == pytest.approx(float(counted))


def test_the_loss_is_the_mean_over_scored_symbols():
    nats, ids = torch.ones(2, 4), torch.tensor([[1, 2, END, END], [1, 2, 3, 4]])
    nats[0, 3] = 100.0
    assert float(mean_nats(nats, ids)) == 1.0


def test_the_sources_of_a_mix_may_have_any_name(monkeypatch):
    names = ("train", "type", "values", "items", "eval", "half", "of")
    sources = [SimpleNamespace(name=name) for name in names]
    parts = {name: (number, slice(0, 32)) for number, name in enumerate(names, start=1)}
    data = SimpleNamespace(
        sources=sources,
        geometry=Geometry(window=32, patch_size=4, conditions=("none", *names)),
        opened=SimpleNamespace(measured_parts=lambda: parts),
        weights_of_parts=lambda: None,
    )
    lm = ByteLM()
    monkeypatch.setattr(lm, "_data", lambda: data)
    monkeypatch.setattr(lm, "_trainer", SimpleNamespace(strategy=None))
    lm.configure_model()
    assert len(lm.bpb_of_part) == len(names)


def test_load_from_checkpoint_names_the_function_that_loads_models():
    with pytest.raises(NotImplementedError, match=r"^use megabyte_mm\.load_model\(path\)"):
        ByteLM.load_from_checkpoint("last.ckpt")
