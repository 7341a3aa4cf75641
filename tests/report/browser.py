"""A headless Chromium, driven through its driver's WebDriver protocol: JSON over HTTP.

Source: https://www.w3.org/TR/webdriver2.
"""

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

FOUND = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
CHROMIUM = next(filter(None, FOUND), None)
DRIVER = shutil.which("chromedriver")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name of a reference
DIRECT = build_opener(ProxyHandler({}))  # the driver is on this machine


class Browser:
    """One window. Its log and the addresses it asked for are kept from the start."""

    def __init__(self, address: str) -> None:
        self._address = address
        options = {
            "binary": CHROMIUM,
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        session = self._post("/session", capabilities={"alwaysMatch": wanted})
        self._address += f"/session/{session['sessionId']}"

    def _post(self, path: str, **body: Any) -> Any:
        request = Request(
            self._address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with DIRECT.open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from error

    def close(self) -> None:
        """End the browser."""
        DIRECT.open(Request(self._address, method="DELETE"), timeout=60).close()

    def open(self, page: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Show a file at a width, in points of the page."""
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        wishes = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce",  # a page that glides is clicked beside the mark
        }
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.tell("Emulation.setEmulatedMedia", features=features)
        self._post("/url", url=page.absolute().as_uri())
        # The driver waits for this, but not where a new device made it a new process.
        until = time.monotonic() + 30
        while self.run("return document.readyState") != "complete":
            assert time.monotonic() < until, f"{page} does not load"
            time.sleep(0.02)

    def tell(self, command: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self._post("/goog/cdp/execute", cmd=command, params=parameters)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a piece of JavaScript returns."""
        return self._post("/execute/sync", script=script, args=list(arguments))

    def run_later(self, script: str, *arguments: Any) -> Any:
        """What a piece of JavaScript hands to its last argument."""
        return self._post("/execute/async", script=script, args=list(arguments))

    def click(self, selector: str) -> None:
        """Click on what a CSS selector finds, as a mouse does."""
        self._post(f"/element/{self._find(selector)}/click")

    def press(self, selector: str, keys: str) -> None:
        """Type into what a CSS selector finds."""
        self._post(f"/element/{self._find(selector)}/value", text=keys)

    def _find(self, selector: str) -> str:
        found = self._post("/element", using="css selector", value=selector)
        return str(found[ELEMENT])

    def errors(self) -> list[str]:
        """What the console was told since the last call."""
        return [entry["message"] for entry in self._post("/se/log", type="browser")]

    def requests(self) -> list[str]:
        """Addresses asked for since the last call, but for pictures within the page."""
        found = []
        for entry in self._post("/se/log", type="performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return [url for url in found if not url.startswith("data:")]

    def screenshot(self, out: Path) -> Path:
        """The whole page as a PNG."""
        shot = self.tell("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        out.write_bytes(base64.b64decode(shot["data"]))
        return out

    def pdf(self, out: Path) -> Path:
        """The page as it is printed."""
        out.write_bytes(base64.b64decode(self._post("/print")))
        return out


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser, and its driver on a free port, that end with the block."""
    assert DRIVER is not None
    driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout is not None
        started = (re.search(r"on port (\d+)\.", line) for line in driver.stdout)
        port = next(match[1] for match in started if match)
        opened = Browser(f"http://127.0.0.1:{port}")
        try:
            yield opened
        finally:
            opened.close()
    finally:
        driver.terminate()
        driver.wait(timeout=30)
