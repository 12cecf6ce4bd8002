"""Every architecture goes through the same commands: trained, resumed, scored, and sampled from."""

import pytest
import torch
import yaml

from megabyte_mm.checkpoint import SPEC_KEY, load_model
from megabyte_mm.cli.main import main
from tests.training.conftest import SMALL_NET, same, weights

SMALL = yaml.safe_load(SMALL_NET)
STACK = {"dim": 16, "layers": 1, "heads": 2}
LATEST = {"norm": "rms", "activation": "swiglu", "positions": "rotary", "qk_norm": True, "bias": False}
NETS = {
    "transformer": {"class_path": "TransformerConfig", "init_args": {"stack": STACK, "context": 16}},
    "perceiver_ar": {
        "class_path": "megabyte_mm.models.PerceiverARConfig",
        "init_args": {"stack": STACK, "latents": 8, "block": LATEST},
    },
    "extended": {**SMALL, "cross_patch": 3, "conv_encoder": True, "local_start": "byte", "block": LATEST},
    "without_global": {**SMALL, "global_stack": None, "cross_patch": 2},
    "without_local": {**SMALL, "local_stack": None},
}


@pytest.fixture
def fit_net(fit, small):
    """`fit` with another architecture in the small config."""

    def run(name: str, *arguments: str) -> int:
        config = yaml.safe_load(small.read_text())
        config["model"]["net"] = NETS[name]
        small.write_text(yaml.safe_dump(config))
        return fit(*arguments)

    return run


@pytest.mark.parametrize("name", NETS)
def test_it_is_trained_scored_and_sampled_from(name, fit_net, root, texts, tmp_path, capsys):
    assert fit_net(name, "--samples.count=1", "--samples.length=5", "--trainer.max_steps=4") == 0
    checkpoint = str(root / "best.ckpt")
    assert load_model(checkpoint).config.name == (name if name in ("transformer", "perceiver_ar") else "megabyte")
    assert main(["score", checkpoint, str(texts / "val"), "--method", "sliding"]) == 0
    assert main(["generate", checkpoint, "--out", str(tmp_path / "out"), "--length", "50", "--num_samples", "2"]) == 0
    # 50 bytes are more than the window holds: the decoder was filled, and began anew.
    assert {len(file.read_bytes()) for file in (tmp_path / "out").iterdir()} <= set(range(51))


@pytest.mark.parametrize("name", NETS)
def test_a_resumed_run_ends_where_the_whole_one_does(name, fit_net, root, tmp_path):
    assert fit_net(name) == 0
    again = f"--trainer.default_root_dir={tmp_path / 'again'}"
    assert fit_net(name, again, "--trainer.max_steps=4", "--model.optimizer.decay=constant") == 0
    assert fit_net(name, again, "--ckpt_path=last", "--model.optimizer.decay=constant") == 0
    assert fit_net(name, f"--trainer.default_root_dir={tmp_path / 'whole'}", "--model.optimizer.decay=constant") == 0
    assert same(weights(tmp_path / "again/last.ckpt"), weights(tmp_path / "whole/last.ckpt"))


def test_a_checkpoint_from_before_an_option_existed_is_loaded_and_resumed(fit, root):
    assert fit("--trainer.max_steps=4") == 0
    checkpoint = torch.load(root / "last.ckpt", weights_only=True)
    config = checkpoint[SPEC_KEY]["model"]["config"]
    for added in ("conv_encoder", "cross_patch", "local_start", "embedding_scale", "block"):
        del config[added]
    torch.save(checkpoint, root / "last.ckpt")
    assert load_model(root / "last.ckpt").config.cross_patch == 0
    assert fit("--ckpt_path=last") == 0
    assert fit("--ckpt_path=last", "--trainer.max_steps=9", "--model.net.cross_patch=2") == 2


def test_another_architecture_is_chosen_on_the_command_line(fit, root):
    options = ("--model.net=TransformerConfig", "--model.net.stack.dim=16", "--model.net.stack.heads=2")
    assert fit("--trainer.max_steps=2", *options) == 0
    assert load_model(root / "last.ckpt").config.name == "transformer"
