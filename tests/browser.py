"""A headless Chromium, spoken to over its debugging pipe with the standard library alone; used by the report's tests.

    .venv/bin/python tests/browser.py report.html 390 screenshot.png

takes a screenshot of the whole page at a width. A width below 500 is a phone's: touch, device pixel ratio 2.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-default-apps --disable-extensions --hide-scrollbars "
    "--host-resolver-rules='MAP * ~NOTFOUND' --remote-debugging-pipe"
)


def find() -> str | None:
    """Path of a Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page; `console` collects what the page logged as errors, and every request that failed."""

    def __init__(self, executable: str):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.received, self.to_browser = os.pipe()
        self.from_browser, self.sent = os.pipe()
        command = f"exec {executable} {FLAGS} --user-data-dir={self.profile.name} 3<&{self.received} 4>&{self.sent}"
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", command], pass_fds=(self.received, self.sent), stderr=subprocess.DEVNULL
        )
        os.close(self.received)
        os.close(self.sent)
        self.number, self.buffer, self.console, self.requests, self.loaded = 0, b"", [], [], False
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)
        os.close(self.to_browser)
        os.close(self.from_browser)
        self.profile.cleanup()

    def call(self, method: str, **parameters) -> dict:
        """Send one command and wait for its answer."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def receive(self, timeout: float = 60) -> dict:
        """The next message; events are noted on the way."""
        end = time.monotonic() + timeout
        while b"\0" not in self.buffer:
            if not select.select([self.from_browser], [], [], max(end - time.monotonic(), 0))[0]:
                raise TimeoutError("the browser does not answer")
            self.buffer += os.read(self.from_browser, 1 << 20)
        raw, _, self.buffer = self.buffer.partition(b"\0")
        message = json.loads(raw)
        self.note(message.get("method", ""), message.get("params", {}))
        return message

    def note(self, method: str, event: dict):
        """Keep what a test wants to know of an event."""
        if method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Network.loadingFailed":
            self.console.append(f"failed: {event['errorText']}")
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.console.append(event["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.console.append(str(event["exceptionDetails"].get("text")))
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning"):
            self.console.append(str(event["args"]))

    def open(self, path, width: int, height: int = 900):
        """Load a file at a viewport's width."""
        phone = width < 500
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        self.loaded = False
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        while not self.loaded:
            self.receive()

    def evaluate(self, expression: str):
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")

    def screenshot(self, path, top: int = 0, height: int | None = None):
        """A PNG of the page from `top` on, `height` pixels of it or all."""
        size = self.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": top, "width": size[0], "height": height or size[1] - top, "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        Path(path).write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    page, wide, out = sys.argv[1:4]
    with Browser(find()) as browser:
        browser.open(page, int(wide))
        browser.screenshot(out, *map(int, sys.argv[4:]))
