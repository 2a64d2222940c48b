"""Asking a server as fast as it answers, one request at a time: wrk, and what it measured."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from indexer.errors import NeurariumError

_SCRIPT = Path(__file__).parent / "wrk.lua"


@dataclass(frozen=True)
class Case:
    """What is asked for."""

    name: str
    address: str
    """Of the server: http://host:port."""
    paths: Sequence[str]
    """Asked for in this order, and again from the first when all have been."""
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Round:
    """What one round of wrk saw, on one connection; times in milliseconds."""

    p50: float
    p95: float
    requests: int
    bytes: int
    failed: int


@dataclass(frozen=True)
class Measured:
    """All rounds of a case put together; times in milliseconds."""

    name: str
    p50: float
    """Median over the rounds of their medians; so of p95."""
    p95: float
    lowest: float
    """The lowest median of a round, and the highest."""
    highest: float
    bytes: int
    """An answer, with its headers, on average."""
    requests: int
    rounds: int
    repeated: bool
    """Whether a round came to the end of its addresses and began again."""


def find_wrk() -> str:
    """The program. Raises NeurariumError where it is missing."""
    found = shutil.which("wrk")
    if found is None:
        raise NeurariumError(
            "wrk is not installed, and nothing is measured without it: apt install wrk, "
            "brew install wrk, or https://github.com/wg/wrk."
        )
    return found


def interleaved(cases: Sequence[Case], rounds: int, seconds: int) -> list[Measured]:
    """Measure all cases in turn, `rounds` times over: what disturbs the machine disturbs them all.

    Raises NeurariumError where an answer was not one of success.
    """
    found: list[list[Round]] = [[] for _ in cases]
    for _ in range(rounds):
        for case, some in zip(cases, found, strict=True):
            some.append(_round(case, seconds))
    return [_together(case, some) for case, some in zip(cases, found, strict=True)]


def _round(case: Case, seconds: int) -> Round:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as paths:
        paths.write("\n".join(case.paths))
        paths.flush()
        headers = [part for header in case.headers.items() for part in header]
        command = [find_wrk(), "-t1", "-c1", f"-d{seconds}s", "-s", str(_SCRIPT), case.address]
        done = subprocess.run(
            [*command, "--", paths.name, *headers], capture_output=True, text=True, check=False
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise NeurariumError(f"wrk failed at {case.name}: {done.stderr.strip() or done.stdout}")
    measured = Round(**json.loads(lines[0]))
    if measured.failed or not measured.requests:
        raise NeurariumError(
            f"{case.name}: {measured.failed} of {measured.requests} requests failed."
        )
    return measured


def _together(case: Case, rounds: Sequence[Round]) -> Measured:
    medians = [one.p50 for one in rounds]
    requests = sum(one.requests for one in rounds)
    return Measured(
        name=case.name,
        p50=statistics.median(medians),
        p95=statistics.median(one.p95 for one in rounds),
        lowest=min(medians),
        highest=max(medians),
        bytes=sum(one.bytes for one in rounds) // requests,
        requests=requests,
        rounds=len(rounds),
        repeated=len(case.paths) > 1 and max(one.requests for one in rounds) > len(case.paths),
    )
