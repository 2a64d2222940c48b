"""First contentful paint and layout shift of pages, in a Chromium driven over its DevTools pipe
(https://chromedevtools.github.io/devtools-protocol/).

Playwright listens to every request and frame, which took 50 of the 200 ms before a first paint on
two cores. Here no command is sent while a page loads.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from indexer.errors import NeurariumError

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    *("--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_EXEC = """
import os, sys
for descriptor, name in enumerate(sys.argv[1:3], 3):
    os.dup2(int(name), descriptor)
os.execv(sys.argv[3], sys.argv[3:])
"""
_SETTLE_SECONDS, _LOAD_SECONDS, _PATIENCE = 0.3, 0.8, 20
"""A page is left alone for a load, and asked so often at most whether it was painted."""
_ANSWER_SECONDS = 30
"""Chromium has hung if a command has no answer after this."""
_OBSERVE = """
window.seen = { paint: null, shift: 0 };
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (entry.name === "first-contentful-paint") window.seen.paint = entry.startTime;
  }
}).observe({ type: "paint", buffered: true });
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.seen.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


class Browser:
    """A running Chromium. One command at a time; each waits for its answer."""

    def __init__(self, commands: int, answers: int) -> None:
        """`commands` and `answers` are the file descriptors of its pipe."""
        self._commands, self._answers = commands, answers
        self._numbers = count(1)
        self._unread = b""

    def load(self, address: str, width: int) -> tuple[float, float]:
        """Load a page in a new, empty profile; milliseconds from navigation to first contentful
        paint, and the sum of layout shifts. Raises NeurariumError if it cannot be loaded."""
        context = self._call("Target.createBrowserContext")["browserContextId"]
        target = self._call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        session = attached["sessionId"]
        window = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", session, **window)
        time.sleep(_SETTLE_SECONDS)
        if error := self._call("Page.navigate", session, url=address).get("errorText"):
            raise NeurariumError(f"Chromium cannot open {address}: {error}")
        for _ in range(_PATIENCE):
            time.sleep(_LOAD_SECONDS)
            # A promise was never answered after some twenty pages, so none is awaited.
            self._call("Runtime.evaluate", session, expression=_OBSERVE)
            time.sleep(_SETTLE_SECONDS)
            asked = {"expression": "window.seen", "returnByValue": True}
            seen = self._call("Runtime.evaluate", session, **asked)["result"]["value"]
            if seen["paint"] is not None:
                break
        self._call("Target.disposeBrowserContext", browserContextId=context)
        if seen["paint"] is None:
            raise NeurariumError(
                f"{address} was not painted within {_PATIENCE * _LOAD_SECONDS:.0f} s."
            )
        return float(seen["paint"]), float(seen["shift"])

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        command: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            command["sessionId"] = session
        try:
            os.write(self._commands, json.dumps(command).encode() + b"\0")
        except BrokenPipeError:  # the command line would end at it without a word
            raise NeurariumError("Chromium ended before it was asked.") from None
        while (message := self._message()).get("id") != number:
            pass
        if "error" in message:
            raise NeurariumError(f"Chromium refuses {method}: {message['error']}")
        result: dict[str, Any] = message["result"]
        return result

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            if not select.select([self._answers], [], [], _ANSWER_SECONDS)[0]:
                raise NeurariumError(f"Chromium did not answer within {_ANSWER_SECONDS} s.")
            data = os.read(self._answers, 1 << 16)
            if not data:
                raise NeurariumError("Chromium ended before it answered.")
            self._unread += data
        text, self._unread = self._unread.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        return message


@contextmanager
def chromium() -> Iterator[Browser]:
    """A Chromium with a profile of its own. Raises NeurariumError if none is installed."""
    program = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if program is None:
        raise NeurariumError(f"Install Chromium, or pass --loads 0: no {' or '.join(_NAMES)}.")
    # Chromium reads commands from descriptor 3 and writes answers to 4. A shell cannot put them
    # there: dash knows descriptors of one digit only.
    read_commands, commands = os.pipe()
    answers, write_answers = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [sys.executable, "-c", _EXEC, str(read_commands), str(write_answers), program,
             f"--user-data-dir={profile}", *_ARGUMENTS, "about:blank"],
            pass_fds=(read_commands, write_answers),
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read_commands)
        os.close(write_answers)
        try:
            yield Browser(commands, answers)
        finally:
            os.close(commands)  # it ends when its pipe is closed
            os.close(answers)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
