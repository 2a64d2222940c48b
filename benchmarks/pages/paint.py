"""What a visitor's browser sees of a page's arrival: first contentful paint, layout shift."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.pages.browser import Browser, Tab

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
    """Loads of a page in one width of window."""

    name: str
    """What was loaded, and into what."""
    width: int
    loads: int
    first_contentful_paint: float
    """Median, in milliseconds from the start of the navigation."""
    lowest: float
    highest: float
    layout_shift: float
    """The largest sum over a load: 0 is none."""


def painted(
    browser: Browser, address: str, paths: Sequence[str], width: int, names: tuple[str, str]
) -> tuple[Painted, Painted]:
    """Load every path in a tab of its own, and then the one before it in the same tab.

    `names` say what each of the two is. The first tab is not counted: it is the browser's own
    warming up.
    """
    first: list[dict[str, Any]] = []
    second: list[dict[str, Any]] = []
    every = [paths[0], *paths]
    for number, path in enumerate(every):
        tab = Tab(browser, width)
        for into, one in ((first, path), (second, every[number - 1])):
            tab.open(address + one)
            into.append(tab.ask(_OBSERVE))
        tab.close()
    return _painted(names[0], width, first[1:]), _painted(names[1], width, second[1:])


def _painted(name: str, width: int, loads: Sequence[dict[str, Any]]) -> Painted:
    paints = [load["paint"] for load in loads]
    return Painted(
        name=name,
        width=width,
        loads=len(loads),
        first_contentful_paint=statistics.median(paints),
        lowest=min(paints),
        highest=max(paints),
        layout_shift=max(load["shift"] for load in loads),
    )
