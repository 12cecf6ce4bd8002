"""The page in a headless Chromium: upload, generate, cancel, hostile files, two users at once, narrow and dark."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 60

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


class Browser:
    """One user."""

    def __init__(self, address: str, width: int = 1280, query: str = "") -> None:
        options = ChromeOptions()
        assert CHROMIUM is not None
        options.binary_location = CHROMIUM
        for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
            options.add_argument(f"--{argument}")
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        if width < 500:  # a window has a least width
            metrics = {"width": width, "height": 844, "pixelRatio": 1.0}
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
        else:
            options.add_argument(f"--window-size={width},1000")
        # Named, since selenium would download one otherwise.
        driver = shutil.which("chromedriver")
        assert driver is not None, "Chromium needs chromedriver: install the package chromium-driver"
        self.driver = Chrome(options=options, service=ChromeService(driver))
        self.address = address
        self.driver.get(address + query)
        self.wait("#generate")

    def find(self, selector: str):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, selector: str):
        return WebDriverWait(self.driver, SECONDS, 0.05).until(lambda _: self.find(selector))

    def run(self, script: str):
        return self.driver.execute_script(script)

    def upload(self, path: str) -> None:
        self.wait("#upload input[type=file]")[0].send_keys(path)

    def click(self, selector: str) -> None:
        self.driver.execute_script("arguments[0].click()", self.wait(selector)[0])

    def text(self, selector: str) -> str:
        return self.wait(selector)[0].text

    def foreign_requests(self) -> list[str]:
        """The addresses on other servers that the page asked for."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith((self.address, "data:", "blob:"))]


@pytest.fixture
def browse() -> Iterator:
    opened = []

    def browse(*arguments, **options) -> Browser:
        opened.append(Browser(*arguments, **options))
        return opened[-1]

    yield browse
    for browser in opened:
        browser.driver.quit()


@pytest.mark.parametrize(("width", "query"), [(1280, ""), (390, "/?__theme=dark")], ids=["desktop", "mobile-dark"])
def test_a_picture_is_uploaded_continued_measured_and_offered(browse, picture_server, picture, width, query):
    user = browse(picture_server.address, width, query)
    user.upload(picture)
    user.wait("#given .mm-picture")
    assert "16 of 32 bytes are kept" in user.text("#given")
    user.click("#generate")
    user.wait("[data-state=complete]")
    assert len(user.find("#samples .mm-picture")) == 4
    user.wait("#files")
    assert "grey-003" in user.text("#files")
    user.click("#measure")
    user.wait(".mm-heat img")
    assert "PNG" in user.text("#bits")
    assert user.run("return document.documentElement.scrollWidth") <= width
    assert user.foreign_requests() == []


def test_pictures_fill_in_and_stop_when_cancelled(browse, picture_server, tmp_path):
    Image.new("L", (200, 200)).save(tmp_path / "large.png")
    user = browse(picture_server.address)
    user.upload(str(tmp_path / "large.png"))
    user.wait("#given .mm-picture")
    user.click("#generate")
    values: list[float] = []
    while len(values) < 3:
        value = user.run("return document.querySelector('[data-state=running] progress')?.value")
        assert not user.find("[data-state=complete]")
        values += [value] if value is not None and value not in values else []
    assert all(one < other for one, other in pairwise(values))
    user.click("#stop")
    user.wait("[data-state=stopped]")
    # The next request does not wait for the one that was stopped.
    user.click("#generate")
    user.wait("[data-state=running] progress")


def test_a_hostile_file_and_name_are_refused_in_a_line(browse, picture_server, tmp_path):
    file = tmp_path / "<img src=x onerror=document.title=1>.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n<script>document.title=1</script>")
    user = browse(picture_server.address)
    title = user.driver.title
    user.upload(str(file))
    assert "is not an image in a supported format" in user.text("#given .mm-message")
    user.click("#generate")
    assert "is not an image in a supported format" in user.text("#status .mm-message")
    assert not user.find("#given img, #status img")
    assert user.driver.title == title
    assert "Traceback" not in user.driver.page_source


def test_a_text_of_markup_is_shown_as_text(browse, text_server):
    user = browse(text_server.address)
    user.wait("#text textarea")[0].send_keys("<b>bold</b>")
    WebDriverWait(user.driver, SECONDS).until(lambda _: "<b>bold</b>" in user.text("#given"))
    user.click("#generate")
    user.wait("[data-state=complete]")
    assert "<b>bold</b>" in user.text("#samples")
    assert not user.find("#samples b, #given b")


def test_two_users_get_their_own_continuations(browse, picture_server, tmp_path):
    files = []
    for name, level in (("dark", 0), ("light", 255)):
        Image.fromarray(np.full((4, 8), level, np.uint8)).save(tmp_path / f"{name}.png")
        files.append(str(tmp_path / f"{name}.png"))
    users = [browse(picture_server.address) for _ in files]
    for user, file in zip(users, files, strict=True):
        user.upload(file)
        user.wait("#given .mm-picture")
    for user in users:
        user.click("#generate")
    for user, name in zip(users, ("dark", "light"), strict=True):
        user.wait("[data-state=complete]")
        user.wait("#files")
        assert f"{name}-000" in user.text("#files")
