"""The names that are looked up on the hub, and the errors where that fails; tests/export has a server."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

import huggingface_hub.constants
import pytest

import megabyte_mm
from megabyte_mm import load_model
from megabyte_mm.checkpoint.hub import HubId, hub_id


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ann/model", HubId("ann/model")),
        ("ann/Model-3.1_b@v1", HubId("ann/Model-3.1_b", "v1")),
        ("ann/model@refs/pr/1", HubId("ann/model", "refs/pr/1")),
    ],
)
def test_a_name_of_two_parts_that_is_not_here_is_asked_of_the_hub(text, wanted):
    assert hub_id(text) == wanted
    assert str(wanted) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "runs/image",
            "runs/last.ckpt",
            "ann/last.ckpt",
            "ann/model.safetensors",
            "ann/config.json",
            "model",
            "./a/b",
        ),
        *("../a/b", "/ann/model", "a/b/c", "~/model", "ann/", "/", "", "ann/../b", "ann/a--b", "ann\\model", "ann/b c"),
        *("https://host/ann/model", "ann/model@", Path("ann/model")),
    ],
)
def test_what_looks_like_a_path_never_is(text):
    assert hub_id(text) is None


def test_a_mistyped_path_does_not_even_load_the_hubs_client(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for path in ("runs/typo", "gone/last.ckpt", "a/b/c", "gone"):
        with pytest.raises(FileNotFoundError, match=path):
            load_model(path)


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"needs huggingface_hub: pip install 'megabyte-mm\[hub\]'"):
        load_model("ann/model")
    monkeypatch.delitem(sys.modules, "megabyte_mm.export.hub", raising=False)
    with pytest.raises(ImportError, match=r"HubModel needs huggingface_hub: pip install 'megabyte-mm\[hub\]'"):
        _ = megabyte_mm.HubModel


def test_a_hub_that_cannot_be_reached_is_tried_once(monkeypatch, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"

    def refuse(seconds: float) -> None:
        raise AssertionError(f"waits {seconds} s")

    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(time, "sleep", refuse)
    with pytest.raises(FileNotFoundError, match="does not answer, and its cache on this machine has no such model"):
        load_model("ann/model")
