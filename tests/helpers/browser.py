"""A headless Chromium that tests look at a page with, spoken to through its DevTools over a pair of pipes."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "chromium-headless-shell")


def find_chromium():
    """$DETECTOR_CHROMIUM, one on PATH, or one that playwright keeps; None without any."""
    named = os.environ.get("DETECTOR_CHROMIUM")
    if named:
        return named
    on_path = next((found for name in _NAMES if (found := shutil.which(name))), None)
    kept = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or "~/.cache/ms-playwright").expanduser()
    playwrights = sorted([*kept.glob("chromium*/*/chrome"), *kept.glob("chromium*/*/*headless*shell")])
    return on_path or (str(playwrights[-1]) if playwrights else None)


class Browser:
    """One page of a browser. said: everything that its console and its log said."""

    def __init__(self, program, profile):
        self.said, self.number, self.rest, self.session = [], 0, b"", None
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        flags = [
            *("--headless", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--disable-gpu", "--no-first-run"),
            *("--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update"),
            *["--no-sandbox"] * (os.geteuid() == 0),  # it refuses to run as root with one
        ]

        def place():  # what it reads of and writes to has the numbers 3 and 4
            high = [os.dup(theirs_in), os.dup(theirs_out)]
            high = [number if number > 4 else os.dup(number) for number in high]
            for number, wanted in zip(high, (3, 4)):
                os.dup2(number, wanted)

        self.process = subprocess.Popen(
            [program, *flags, "about:blank"], preexec_fn=place, close_fds=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self.input, self.output = ours_in, ours_out
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """The result of a command of the DevTools."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.output, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _read(self, seconds=60):
        end = time.monotonic() + seconds
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.input], [], [], max(0, end - time.monotonic()))
            chunk = os.read(self.input, 1 << 20) if ready else b""
            assert chunk, "the browser says nothing"
            self.rest += chunk
        line, _, self.rest = self.rest.partition(b"\0")
        answer = json.loads(line)
        if answer.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.said.append(json.dumps(answer["params"]))
        return answer

    def open(self, path, width=1280, height=900, scheme="light", script=True):
        """Show a file, and wait until it is there."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.said.clear()
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        while self._read().get("method") != "Page.loadEventFired":
            pass

    def ask(self, expression):
        """The value of an expression of JavaScript."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key, code):
        """A key that the focused element gets."""
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def picture(self, whole=False, scale=1):
        """What it shows, or the whole page, as PNG."""
        options = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": scale}
            options = {"captureBeyondViewport": True, "clip": clip}
        return base64.b64decode(self.call("Page.captureScreenshot", **options)["data"])

    def close(self):
        """End the browser and what it started."""
        self.session = None
        try:
            self.call("Browser.close")
        except (AssertionError, OSError):
            self.process.kill()
        os.close(self.input)
        os.close(self.output)
        self.process.wait(30)


def start_browser(profile):
    """A browser, or a skipped test where there is none."""
    program = find_chromium()
    if program is None or sys.platform == "win32":
        pytest.skip("there is no Chromium")
    return Browser(program, profile)
