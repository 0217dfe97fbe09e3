"""A report in a real browser: nothing in the console, nothing fetched, nothing that scrolls sideways.

Chromium is spoken to through a pipe (its DevTools protocol, messages that end in a zero byte), so nothing is put into
the page and no port is opened. Run with: pytest -m slow tests/runs/test_runs_browser.py
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
CLASSES = ["<img src=x onerror=alert(1)>", 'a&b "c"', "a_name_that_is_so_long_that_it_has_to_be_broken_somewhere" * 3]


class Browser:
    """One page of a headless Chromium."""

    def __init__(self, folder: Path) -> None:
        to_child, ours = os.pipe()
        self.read, from_child = os.pipe()
        flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
        command = (
            f'exec "$0" {flags} --remote-debugging-pipe --user-data-dir="$1" about:blank 3<&{to_child} 4>&{from_child}'
        )
        self.process = subprocess.Popen(
            ["bash", "-c", command, str(CHROMIUM), str(folder)],
            pass_fds=(to_child, from_child),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_child)
        os.close(from_child)
        self.write, self.number, self.rest, self.session = ours, 0, b"", None
        self.events: list[dict] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Network", "Log", "Runtime", "Page"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **params):
        """The result of a command."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self.number:
                assert "error" not in found, found
                return found["result"]
            self.events.append(found)

    def _next(self) -> dict:
        ends = time.monotonic() + 60
        while b"\0" not in self.rest:
            assert select.select([self.read], [], [], ends - time.monotonic())[0], "Chromium does not answer"
            self.rest += os.read(self.read, 1 << 20)
        text, _, self.rest = self.rest.partition(b"\0")
        return json.loads(text)

    def open(self, path: Path, width: int, scheme: str) -> None:
        """Load a file at a width of so many pixels."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events = []
        self("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def value(self, expression: str):
        """Of an expression in the page."""
        return self("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        os.close(self.write)
        os.close(self.read)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory, tune_in):
    """Pages of a run and of a sweep with a trial that diverged."""
    folder = tmp_path_factory.mktemp("pages")
    draw = np.random.default_rng(0)
    for name in CLASSES:
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = draw.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{name[:40]}{number}.png")
    tune, words = tune_in(folder), ["data.root=photos", "backbone.input_size=32", "epochs=3", "freeze=full"]
    tune("run", *words, "name=one", "augment=flip")
    grid = ["lr=1e-4,1e-3,1e30", "optimizer=sgd,adamw", "batch_size=16,32"]
    tune("run", "-m", *words[:2], "epochs=1", "freeze=full", "name=grid", *grid, code=None)
    found = [next(folder.glob("outputs/one/2*")), next(folder.glob("outputs/grid/sweep-*"))]
    for path in found:
        tune("report", str(path))
    return {"run": found[0] / "report.html", "sweep": found[1] / "report.html"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("what", ["run", "sweep"])
def test_a_page_is_quiet_and_fits(browser, pages, what, width, scheme):
    page = pages[what]
    browser.open(page, width, scheme)
    browser.value("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert browser.value("document.querySelectorAll('svg').length") > 3
    assert (
        browser.value("getComputedStyle(document.querySelector('main')).maxWidth") == "1120px"
    )  # the style is allowed
    dark = browser.value("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    assert browser.value("document.querySelectorAll('script').length") == 0
    asked = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    noisy = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening")
    assert [event for event in browser.events if event.get("method") in noisy] == []


def test_bad_names_are_seen_as_text(browser, pages):
    browser.open(pages["run"], 1280, "light")
    for name in CLASSES:
        assert name in browser.value("document.body.textContent")
    assert browser.value("[...document.images].every(image => image.src.startsWith('data:image/'))")


def test_the_browser_would_tell(browser, tmp_path):
    """The same checks fail on a page that does what a report must not do."""
    page = tmp_path / "bad.html"
    page.write_text('<meta charset="utf-8"><img src="other.png"><p style="width:3000px">a</p><script>x()</script>')
    browser.open(page, 390, "light")
    assert browser.value("document.documentElement.scrollWidth") > 390
    asked = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert (tmp_path / "other.png").as_uri() in asked
    assert {"Runtime.exceptionThrown", "Log.entryAdded"} <= {event.get("method") for event in browser.events}
