"""A real browser, driven over its debugging pipe (Chrome DevTools protocol) with the standard library alone."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
PATIENCE = 60.0
"""Seconds after which a silent browser is an error; no test measures time."""


def find() -> str | None:
    """The browser's program, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


_numbers = itertools.count(1)


class Tab:
    """One page."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._buffer, self._session = write, read, b"", ""
        self.requests: list[str] = []
        self.faults: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its result."""
        number = next(_numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            found = self._message()
            if found.get("id") == number:
                assert "error" not in found, (method, found["error"])
                return found["result"]

    def open(self, path: Path) -> None:
        """Load a file and wait until it stands."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.run(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.02)

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Until something outside the page is true; what the browser reports meanwhile is heard."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end
            self.run("0")
            time.sleep(0.02)

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key of the keyboard, down and up."""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code, "nativeVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def view(self, width: int, height: int, *, scale: float = 1.0, is_dark: bool = False) -> None:
        """The size of the screen, in CSS pixels, and its colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        """What is to be seen, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], PATIENCE)
            assert ready, "the browser does not answer"
            part = os.read(self._read, 1 << 16)
            assert part, "the browser has ended"
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\0", 1)
        found: dict[str, Any] = json.loads(line)
        if found.get("sessionId") == self._session:
            self._notice(found.get("method", ""), found.get("params", {}))
        return found

    def _notice(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        if method == "Runtime.exceptionThrown":
            self.faults.append(json.dumps(parameters["exceptionDetails"])[:500])
        if method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.faults.append(parameters["entry"]["text"])


@contextlib.contextmanager
def opened(program: str, home: Path) -> Iterator[Callable[[], Tab]]:
    """A headless browser with a profile of its own in `home`, closed at the end; called, it opens a fresh tab."""
    to_browser, write = os.pipe()
    read, from_browser = os.pipe()
    wiring = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
    command = ["/bin/bash", "-c", wiring, "browser", program, *OPTIONS, f"--user-data-dir={home}"]
    process = subprocess.Popen(
        command, pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(to_browser), os.close(from_browser)
    try:
        yield lambda: Tab(write, read)
    finally:
        os.close(write)  # the browser ends when nobody can talk to it
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
        os.close(read)


CONTRAST = """(() => {
  const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = colour.match(/[0-9.]+/g).map(Number).map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (e) => {
    const found = getComputedStyle(e).backgroundColor;
    return found.endsWith(", 0)") ? ground(e.parentElement) : found;
  };
  const all = [...document.querySelectorAll("h1, p, li, button, span, th, summary")];
  const written = all.filter((e) => e.textContent.trim());
  return written.map((e) => {
    const [a, b] = [getComputedStyle(e).color, ground(e)].map(light);
    return [e.textContent.trim().slice(0, 30), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  });
})()"""
