"""What a visitor's browser sees of a page's arrival: first contentful paint, layout shift."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from indexer.errors import NeurariumError

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
_OBSERVE = """
() => new Promise((resolve) => {
  const found = { paint: null, shift: 0 };
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      if (entry.name === "first-contentful-paint") found.paint = entry.startTime;
    }
  }).observe({ type: "paint", buffered: true });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) found.shift += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
  // Observers are called with what has been before any timer that is set after them.
  setTimeout(() => resolve(found), 300);
})
"""


@dataclass(frozen=True)
class Painted:
    """Loads of a page in one width of window, each in a browser context with nothing cached."""

    name: str
    """What was loaded."""
    width: int
    loads: int
    first_contentful_paint: float
    """Median, in milliseconds from the start of the navigation."""
    lowest: float
    highest: float
    layout_shift: float
    """The largest sum over a load: 0 is none."""


def painted(name: str, address: str, paths: Sequence[str], width: int) -> Painted:
    """Load every path once; `name` says what they are. Raises NeurariumError without a browser."""
    from playwright.sync_api import Error, sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    system = next((path for name in names if (path := shutil.which(name))), None)
    paints: list[float] = []
    shifts: list[float] = []
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=system, args=_ARGUMENTS)
        except Error as error:
            raise NeurariumError(f"Chromium cannot be started: {error.message}") from None
        for number, path in enumerate([paths[0], *paths]):
            context = browser.new_context(viewport={"width": width, "height": 900})
            page = context.new_page()
            page.goto(address + path, wait_until="load")
            found: dict[str, Any] = page.evaluate(_OBSERVE)
            context.close()
            if number:  # the first load is the browser's own warming up
                paints.append(found["paint"])
                shifts.append(found["shift"])
        browser.close()
    return Painted(
        name=name,
        width=width,
        loads=len(paths),
        first_contentful_paint=statistics.median(paints),
        lowest=min(paints),
        highest=max(paints),
        layout_shift=max(shifts),
    )
