"""The JSON endpoints through gradio_client, and what requests may not do."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from data_adapters import ImageAdapter
from megabyte_mm import continue_file, load_model
from megabyte_mm.app.server import POLICY, running

DEFAULTS = (1, 1.0, 1.0, 0, 1.0)
"""Of /generate, from count on."""


def call(server, endpoint, *data):
    """The last event of a call without gradio_client, which would upload files that a call only names."""
    url = f"{server.address}/gradio_api/call/{endpoint}"
    event = httpx.post(url, json={"data": list(data)}).json()["event_id"]
    lines = httpx.get(f"{url}/{event}", timeout=60).text.strip().splitlines()
    return lines[-2].removeprefix("event: "), json.loads(lines[-1].removeprefix("data: "))


def test_the_endpoints_describe_generate_score_and_refuse(picture_server, picture, tmp_path):
    bundle = load_model(picture_server.checkpoint)
    client = Client(picture_server.address, verbose=False, download_files=tmp_path / "got")
    try:
        model = client.predict(api_name="/model")
        assert (model["parameters"], model["limits"]["count"]) == (bundle.model.num_parameters, 8)
        done = client.predict(file=handle_file(picture), keep=0.5, count=2, seed=4, api_name="/generate")
        expected = continue_file(
            load_model(picture_server.checkpoint), picture, keep=0.5, count=2, seed=4
        ).continuations
        for file, data in zip(done["files"], expected, strict=False):
            assert np.array_equal(ImageAdapter("L", scan="raster").read(file).data, data)
        assert Path(done["files"][2]).name == "contact_sheet.png"
        scored = client.predict(file=handle_file(picture), api_name="/score")
        assert set(scored["codecs"]) == {"PNG", "xz"}
        (tmp_path / "a.png").write_bytes(b"no picture")
        with pytest.raises(AppError, match=r"^a\.png: is not an image in a supported format"):
            client.predict(file=handle_file(tmp_path / "a.png"), api_name="/generate")
        with pytest.raises(AppError, match="count is 99; it must be a number from 1 to 8"):
            client.predict(count=99, api_name="/generate")
    finally:
        client.close()


def test_a_text_comes_back_as_text(text_server, tmp_path):
    event, [done] = call(text_server, "generate", None, "one", "", None, 8, *DEFAULTS)
    assert event == "complete"
    assert done["texts"][0]["text"].startswith("one")


@pytest.mark.parametrize("meta", [{}, {"meta": {"_type": "gradio.FileData"}}], ids=["path", "file"])
def test_no_request_reads_a_file_that_was_not_uploaded(text_server, tmp_path, meta):
    (tmp_path / "secret.txt").write_text("secret")
    file = {"path": str(tmp_path / "secret.txt"), **meta}
    for arguments in (("generate", file, "", "", None, 8, *DEFAULTS), ("score", file, "", "")):
        event, message = call(text_server, *arguments)
        assert event == "error"
        assert "secret" not in json.dumps(message)


def test_no_request_lets_the_server_fetch_an_address(text_server):
    address = "http://192.0.2.1/a.txt"
    file = {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}}
    event, message = call(text_server, "score", file, "", "")
    assert event == "error"
    assert "it reads no paths and fetches no URLs" in message["error"]


@pytest.mark.parametrize("value", [7, "text", {"path": 7}, {"path": ["a"]}, []], ids=str)
def test_a_file_of_another_form_is_an_error_of_one_line(text_server, value):
    event, message = call(text_server, "score", value, "", "")
    assert event == "error"
    assert message["error"].startswith("file: must be a file")


def test_a_large_upload_is_refused(text_server):
    answer = httpx.post(f"{text_server.address}/gradio_api/upload", files={"files": ("a.txt", bytes(1_000_001))})
    assert answer.status_code == 413


def test_the_page_names_no_other_server_and_may_load_from_none(picture_server):
    answer = httpx.get(picture_server.address)
    assert answer.headers["content-security-policy"] == POLICY
    assert "googleapis" not in answer.text
    config = httpx.get(f"{picture_server.address}/config").json()
    assert config["analytics_enabled"] is False
    assert not [sheet for sheet in config.get("stylesheets") or [] if "://" in sheet]
    assert "://fonts." not in httpx.get(f"{picture_server.address}/theme.css").text


def test_a_port_in_use_is_refused(picture_server, pictures):
    port = int(picture_server.address.rpartition(":")[2])
    with pytest.raises(ValueError, match=f"--port {port}: is in use; choose another"), running(pictures, port=port):
        pass
