"""What a verification found: how much was compared, by how much it differed, and what is wrong.

Apart from the checks themselves, so that what they promise stands in one place. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool

KEPT_FINDINGS = 50
"""So many findings are told one by one; the rest are counted."""
SMALL = 0.01
"""Differences are told as parts of the largest magnitude in an example's window, or of this where
that is smaller: float32's own rounding upstream is no longer small beside such activations."""
_ROUNDED = 1e-6  # of 8-bit activations: the scale's own rounding to float32


@dataclass(frozen=True)
class Bounds:
    """How far a recomputed value may be from the stored one, in parts of the largest magnitude."""

    value: float
    """Of peaks, troughs, gates and linear parts; 0: they are equal, bit for bit."""
    why: str
    """One line for the user."""

    @property
    def place(self) -> float:
        """How far below the peak another position's activation may be and still pass for it: both
        may be off by the bound."""
        return 2 * self.value

    @property
    def activation(self) -> float:
        """Of activations stored with 8 bits."""
        return 1 / 254 + max(self.value, _ROUNDED)


@dataclass(frozen=True)
class Finding:
    """One thing that is not as promised. What does not apply is None."""

    what: str
    layer: int | None = None
    neuron: int | None = None
    kind: str | None = None
    context_id: int | None = None
    stored: float | None = None
    recomputed: float | None = None


@dataclass
class Tally:
    """One kind of check: how often it was made, and how it came out."""

    compared: int = 0
    largest: float = 0.0
    """The largest difference, in parts of the largest magnitude; 0 of what is equal or not."""
    bound: float | None = None
    """What was promised of the difference; None of what is equal or not."""
    wrong: int = 0


@dataclass
class Findings:
    """All that was compared and found so far."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    """By the name of the check, in the order in which they were first made."""
    first: list[Finding] = field(default_factory=list)
    count: int = 0

    def within(self, check: str, bound: float, differences: Any) -> Bool[np.ndarray, "..."]:
        """Count comparisons, and tell which differ by more than `bound`. NaN differs."""
        array = np.asarray(differences, np.float64)
        tally = self.tallies.setdefault(check, Tally(bound=bound))
        tally.compared += array.size
        finite = array[np.isfinite(array)]
        tally.largest = max(tally.largest, float(finite.max(initial=0.0)))
        wrong: Bool[np.ndarray, "..."] = ~(array <= bound)
        tally.wrong += int(wrong.sum())
        return wrong

    def one_within(self, check: str, bound: float, difference: float) -> bool:
        """The same for a single comparison: whether it is within the bound. NaN is not."""
        tally = self.tallies.setdefault(check, Tally(bound=bound))
        tally.compared += 1
        if math.isfinite(difference):
            tally.largest = max(tally.largest, difference)
        wrong = not difference <= bound
        tally.wrong += wrong
        return not wrong

    def equal(self, check: str, compared: int, wrong: int) -> None:
        """Count what is equal or not."""
        tally = self.tallies.setdefault(check, Tally())
        tally.compared += compared
        tally.wrong += wrong

    def tell(self, finding: Finding) -> None:
        """Keep a finding, or count it where there are many."""
        self.count += 1
        if len(self.first) < KEPT_FINDINGS:
            self.first.append(finding)

    def tell_many(self, count: int, finding_of: Callable[[int], Finding]) -> None:
        """Keep as many of `count` findings as are told; `finding_of` makes the i-th."""
        for index in range(min(count, KEPT_FINDINGS - len(self.first))):
            self.first.append(finding_of(index))
        self.count += count


def report_lines(findings: Findings, link: Callable[[int, int], str]) -> Iterator[str]:
    """The whole outcome as lines of text; `link` gives the address of a neuron's page."""
    rows = [("check", "compared", "largest difference", "promised", "wrong")]
    for name, tally in findings.tallies.items():
        largest, promised = "", "equal"
        if tally.bound is not None:
            largest, promised = (_share(value) for value in (tally.largest, tally.bound))
        rows.append((name, f"{tally.compared:,}", largest, promised, f"{tally.wrong:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for name, *others in rows:
        columns = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([name.ljust(widths[0]), *columns])
    yield (
        "Differences are parts of the largest magnitude in an example's window "
        f"(of {SMALL:g} where that is smaller)."
    )
    yield f"Not as promised: {findings.count:,}." if findings.count else "All is as promised."
    for finding in findings.first:
        yield finding_line(finding, link)
    if findings.count > len(findings.first):
        yield f"and {findings.count - len(findings.first):,} more"


def _share(value: float) -> str:
    return f"{value:.2e}" if value else "0"


def finding_line(finding: Finding, link: Callable[[int, int], str]) -> str:
    """One finding as one line."""
    parts = []
    if finding.layer is not None and finding.neuron is not None:
        parts.append(f"layer {finding.layer}, neuron {finding.neuron}")
    if finding.kind is not None:
        parts.append(finding.kind)
    if finding.context_id is not None:
        parts.append(f"context {finding.context_id}")
    told = ", ".join(parts)
    line = f"{told}: {finding.what}" if told else finding.what
    if finding.stored is not None and finding.recomputed is not None:
        line += f" (stored {finding.stored:.7g}, recomputed {finding.recomputed:.7g})"
    if finding.layer is not None and finding.neuron is not None:
        line += f"  {link(finding.layer, finding.neuron)}"
    return line
