"""The real client of the Hugging Face hub, in fresh processes, against a hub of our own."""

from __future__ import annotations

import pytest

from data_adapters import ImageAdapter
from megabyte_mm.cli.main import main
from tests.export.conftest import NO_NETWORK
from tests.export.stand_in import Repo

DRAW = ["--num_samples=2", "--backend=eager", "--device=cpu", "--out"]


@pytest.fixture
def checkpoint(save_checkpoint) -> str:
    return str(save_checkpoint(ImageAdapter("L", (8, 8), patch=2), window=64))


@pytest.fixture
def generated(checkpoint, tmp_path) -> bytes:
    """The first picture that `generate` draws from the checkpoint."""
    assert main(["generate", checkpoint, *DRAW, str(tmp_path / "own")]) == 0
    return (tmp_path / "own" / "sample-000.png").read_bytes()


MIXIN = """
from megabyte_mm import HubModel, load_model
import torch

torch.manual_seed(0)

ids = torch.randint(256, (2, 40))
mine = HubModel(load_model(CHECKPOINT))
assert "bob/mixed" in mine.push_to_hub("bob/mixed", private=True)
again = HubModel.from_pretrained("bob/mixed")
mine.save_pretrained("saved")
for other in (again, HubModel.from_pretrained("saved"), load_model("saved"), load_model("bob/mixed")):
    assert torch.equal(mine(ids), getattr(other, "model", other)(ids))
assert not again.training
assert again.bundle.adapter.settings() == mine.bundle.adapter.settings()
"""


def test_what_one_process_pushes_another_one_generates_with_and_a_third_without_a_network(
    checkpoint, generated, program, online, hub, tmp_path
):
    push_and_compare(checkpoint, program, online, hub, tmp_path)
    generate_and_be_refused(checkpoint, generated, program, online, hub, tmp_path)
    generate_offline(generated, program, tmp_path)


def push_and_compare(checkpoint, program, online, hub, tmp_path):
    pushed, also, exported = program(
        [
            ["push", checkpoint, "ann/tiny"],
            ["push", checkpoint, "ann/other@old", "--private"],
            ["export", checkpoint, "exported", "--samples=0"],
        ],
        before=MIXIN.replace("CHECKPOINT", repr(checkpoint)),
        **online,
    )
    for done in (pushed, also, exported):
        assert done.code == 0, done.err
    mixed = hub.repos["bob/mixed"].commits[hub.repos["bob/mixed"].branches["main"]]
    assert set(mixed) == {"README.md", "config.json", "model.safetensors"}
    assert b"# bob/mixed\n" in mixed["README.md"]
    for name in ("config.json", "model.safetensors"):  # one format, whoever writes it
        assert mixed[name] == (tmp_path / "saved" / name).read_bytes() == (tmp_path / "exported" / name).read_bytes()
    assert pushed.out == f"{hub.url}/ann/tiny/commit/{hub.repos['ann/tiny'].branches['main']}\n"
    files = hub.repos["ann/tiny"].commits[hub.repos["ann/tiny"].branches["main"]]
    assert {"README.md", "config.json", "model.safetensors", "samples/contact_sheet.png"} <= set(files)
    assert b"# ann/tiny\n" in files["README.md"]
    assert hub.repos["ann/other"].private


def generate_and_be_refused(checkpoint, generated, program, online, hub, tmp_path):
    hub.repos |= {"ann/bare": Repo(), "ann/secret": Repo(private=True)}
    hub.repos["ann/bare"].commit("main", {"notes.txt": b""})
    del hub.asked[:]
    first, second, info, score, *wrong = program(
        [
            ["generate", "ann/tiny", *DRAW, "a"],
            ["generate", "ann/other@old", *DRAW, "b"],
            ["info", "ann/tiny"],
            ["score", "ann/tiny", "a/sample-000.png"],
            ["generate", "ann/missing", *DRAW, "c"],
            ["generate", "ann/tiny@v9", *DRAW, "c"],
            ["generate", "ann/bare", *DRAW, "c"],
            ["generate", "broken/model", *DRAW, "c"],
            ["push", checkpoint, "ann/tiny", "--private", "--samples=0"],
            ["HF_TOKEN=hf_wrong", "info", "ann/secret"],
            ["push", checkpoint, "ann/new", "--samples=0"],
            ["HF_TOKEN=", "info", "ann/secret"],
            ["push", checkpoint, "ann/new"],
        ],
        **online,
    )
    for done in (first, second, info, score):
        assert done.code == 0, done.err
    assert (tmp_path / "a" / "sample-000.png").read_bytes() == generated
    assert (tmp_path / "b" / "sample-000.png").read_bytes() == generated
    assert [line for line in hub.asked if "README" in line or "samples" in line] == []  # what is not needed
    messages = [line(done) for done in wrong]
    assert "ann/missing: no such file or folder, nor such a model on the Hugging Face hub" in messages[0]
    assert f"ann/tiny@v9: this model on the Hugging Face hub ({hub.url}) has no such revision" in messages[1]
    assert "no model of megabyte-mm: config.json or model.safetensors is missing" in messages[2]
    assert f"broken/model: the Hugging Face hub ({hub.url}) answers 418" in messages[3]
    assert "ann/tiny: is already a public model on" in messages[4]
    assert f"ann/secret: the Hugging Face hub ({hub.url}) answers 401 Unauthorized; run `hf auth login`" in messages[5]
    assert f"ann/new: the Hugging Face hub ({hub.url}) answers 401 Unauthorized; run `hf auth login`" in messages[6]
    assert "if it is private, run `hf auth login`" in messages[7]
    assert "uploads need a token: run `hf auth login`" in messages[8]
    assert "ann/new" not in hub.repos


def generate_offline(generated, program, tmp_path):
    cached, unknown, folder = program(
        [
            ["generate", "ann/tiny", *DRAW, "d"],
            ["generate", "ann/new", *DRAW, "e"],
            ["HF_HUB_OFFLINE=", "generate", "exported", *DRAW, "f"],
        ],
        before=NO_NETWORK,
        HF_HUB_OFFLINE="1",
    )
    for done, place in ((cached, "d"), (folder, "f")):
        assert done.code == 0, done.err
        assert (tmp_path / place / "sample-000.png").read_bytes() == generated
    assert "is disabled by HF_HUB_OFFLINE, and its cache on this machine has no such model" in line(unknown)


def line(done) -> str:
    """The one line of a user's mistake."""
    assert done.code == 2
    assert done.err.startswith("megabyte-mm "), done.err
    assert done.err.count("\n") == 1, done.err
    return done.err
