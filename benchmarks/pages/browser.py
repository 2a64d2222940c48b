"""A Chromium that is told to open pages and is otherwise left alone.

A test's driver listens to every request and frame of a page: on two cores that took 50 of the
200 ms to a first paint. So its own few commands, over the pipe that Chromium offers for them
(https://chromedevtools.github.io/devtools-protocol/), and none while a page loads.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from indexer.errors import NeurariumError

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = [
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
_QUIET_SECONDS, _LOAD_SECONDS = 0.3, 0.8
"""What a tab is given to settle before it goes anywhere, and a page before it is asked anything."""


class Tab:
    """One tab in a browser context of its own: nothing cached, and a new process."""

    def __init__(self, browser: Browser, width: int) -> None:
        self._browser = browser
        self._context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call(
            "Target.createTarget", url="about:blank", browserContextId=self._context
        )
        session = browser.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = session["sessionId"]
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        time.sleep(_QUIET_SECONDS)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def open(self, address: str) -> None:
        """Go there and leave it alone for a while. Raises NeurariumError if nothing comes."""
        failed = self._call("Page.navigate", url=address).get("errorText")
        if failed:
            raise NeurariumError(f"Chromium cannot open {address}: {failed}")
        time.sleep(_LOAD_SECONDS)

    def ask(self, function: str) -> Any:
        """What a JavaScript function, or its promise, gives in the page."""
        answer = self._call(
            "Runtime.evaluate", expression=f"({function})()", awaitPromise=True, returnByValue=True
        )
        return answer["result"]["value"]

    def close(self) -> None:
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)


class Browser:
    """The process, and the commands to it: one at a time, each waits for its answer."""

    def __init__(self, process: subprocess.Popen[bytes], commands: int, answers: int) -> None:
        self._process = process
        self._commands, self._answers = commands, answers
        self._numbers = count(1)
        self._unread = b""

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol. Raises NeurariumError where Chromium refuses, or is gone."""
        number = next(self._numbers)
        command: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            command["sessionId"] = session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            message = self._message()
            if message.get("id") == number:
                if "error" in message:
                    raise NeurariumError(f"Chromium refuses {method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            more = os.read(self._answers, 1 << 16)
            if not more:
                raise NeurariumError("Chromium ended before it answered.")
            self._unread += more
        text, self._unread = self._unread.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        return message


@contextmanager
def chromium() -> Iterator[Browser]:
    """A Chromium with a profile of its own. Raises NeurariumError where there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        raise NeurariumError(f"No Chromium is installed: none of {', '.join(_NAMES)} is found.")
    # It reads its commands from descriptor 3 and answers on 4.
    theirs, commands = os.pipe()
    answers, their_answers = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            ["sh", "-c", f'exec "$@" 3<&{theirs} 4>&{their_answers}', "sh", found,
             f"--user-data-dir={profile}", *_ARGUMENTS, "about:blank"],
            pass_fds=(theirs, their_answers),
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs)
        os.close(their_answers)
        try:
            yield Browser(process, commands, answers)
        finally:
            os.close(commands)  # it ends when nothing can command it any more
            os.close(answers)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
