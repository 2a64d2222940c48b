"""The result of a verification, as data and as text: comparisons, differences and findings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool

MAX_FINDINGS = 50
"""Findings listed individually; the rest are only counted."""
SMALL = 0.01
"""Differences are relative to the largest magnitude in an example's window, or to this if it is
larger: below it, float32 rounding in earlier layers dominates."""
_ROUNDED = 1e-6  # rounding of the scale of 8-bit activations to float32


@dataclass(frozen=True)
class Bounds:
    """The largest allowed differences of recomputed values, relative to the largest magnitude."""

    value: float
    """For peaks, troughs, gates and linear parts; 0: equal bit for bit."""
    why: str
    """The reason, one line for the user."""

    rounding: float = 0.0
    """How far sums that units compare may be off, a share of the largest at their position."""

    @property
    def place(self) -> float:
        """How far below the peak another position may be and still count as its position: both
        values may be off by the bound."""
        return 2 * self.value

    @property
    def activation(self) -> float:
        """For activations stored with 8 bits."""
        return 1 / 254 + max(self.value, _ROUNDED)


@dataclass(frozen=True)
class Finding:
    """A mismatch. Fields that do not apply are None."""

    what: str
    layer: int | None = None
    neuron: int | None = None
    kind: str | None = None
    context_id: int | None = None
    stored: float | None = None
    recomputed: float | None = None


@dataclass
class Tally:
    """The outcome of one kind of check."""

    compared: int = 0
    largest: float = 0.0
    """The largest relative difference; 0 for checks of equality."""
    bound: float | None = None
    """The allowed difference; None for checks of equality."""
    wrong: int = 0


@dataclass
class Findings:
    """All comparisons and findings so far."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    """By name of the check, in order of first use."""
    first: list[Finding] = field(default_factory=list)
    count: int = 0

    def within(self, check: str, bound: float, differences: Any) -> Bool[np.ndarray, "..."]:
        """Count comparisons, and return which differ by more than `bound`. NaN differs."""
        array = np.asarray(differences, np.float64)
        tally = self.tallies.setdefault(check, Tally(bound=bound))
        tally.compared += array.size
        finite = array[np.isfinite(array)]
        tally.largest = max(tally.largest, float(finite.max(initial=0.0)))
        wrong: Bool[np.ndarray, "..."] = ~(array <= bound)
        tally.wrong += int(wrong.sum())
        return wrong

    def is_within(self, check: str, bound: float, difference: float) -> bool:
        """Count one comparison, and return whether it is within the bound. NaN is not."""
        tally = self.tallies.setdefault(check, Tally(bound=bound))
        tally.compared += 1
        if math.isfinite(difference):
            tally.largest = max(tally.largest, difference)
        wrong = not difference <= bound
        tally.wrong += wrong
        return not wrong

    def equal(self, check: str, compared: int, wrong: int) -> None:
        """Count comparisons of equality."""
        tally = self.tallies.setdefault(check, Tally())
        tally.compared += compared
        tally.wrong += wrong

    def add(self, finding: Finding) -> None:
        """Add a finding. Beyond `MAX_FINDINGS` it is only counted."""
        self.count += 1
        if len(self.first) < MAX_FINDINGS:
            self.first.append(finding)

    def add_many(self, count: int, finding_of: Callable[[int], Finding]) -> None:
        """Add `count` findings, of which `finding_of` makes the i-th if it is listed."""
        for index in range(min(count, MAX_FINDINGS - len(self.first))):
            self.first.append(finding_of(index))
        self.count += count


def report_lines(findings: Findings, noun: str, link: Callable[[int, int], str]) -> Iterator[str]:
    """The report as lines of text; `noun` is the units', `link` gives the URL of the page of
    (layer, unit)."""
    rows = [("check", "compared", "largest difference", "allowed", "wrong")]
    for name, tally in findings.tallies.items():
        largest, allowed = "", "equal"
        if tally.bound is not None:
            largest, allowed = (_share(value) for value in (tally.largest, tally.bound))
        rows.append((name, f"{tally.compared:,}", largest, allowed, f"{tally.wrong:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for name, *others in rows:
        columns = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([name.ljust(widths[0]), *columns])
    yield (
        "Differences are relative to the largest magnitude in an example's window "
        f"(at least {SMALL:g})."
    )
    yield f"Mismatches: {findings.count:,}." if findings.count else "No mismatches."
    for finding in findings.first:
        yield finding_line(finding, noun, link)
    if findings.count > len(findings.first):
        yield f"and {findings.count - len(findings.first):,} more"


def _share(value: float) -> str:
    return f"{value:.2e}" if value else "0"


def finding_line(finding: Finding, noun: str, link: Callable[[int, int], str]) -> str:
    """One finding as one line."""
    parts = []
    if finding.layer is not None and finding.neuron is not None:
        parts.append(f"layer {finding.layer}, {noun} {finding.neuron}")
    if finding.kind is not None:
        parts.append(finding.kind)
    if finding.context_id is not None:
        parts.append(f"context {finding.context_id}")
    subject = ", ".join(parts)
    line = f"{subject}: {finding.what}" if subject else finding.what
    if finding.stored is not None and finding.recomputed is not None:
        line += f" (stored {finding.stored:.7g}, recomputed {finding.recomputed:.7g})"
    if finding.layer is not None and finding.neuron is not None:
        line += f"  {link(finding.layer, finding.neuron)}"
    return line
