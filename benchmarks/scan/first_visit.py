"""How long a first visit takes: `neurarium demo` in an empty home, from the command to pages of a
neuron and of a latent. What the installation did is not in it.

    python -m benchmarks.scan.first_visit --save benchmarks/results/first-visit.json

`benchmarks/README.md` defines every figure.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.results import Figure, run
from benchmarks.tables import report
from indexer.errors import NeurariumError

PAGES = ("/", "/demo", "/demo/0/0", "/demo/residual-sae/0/0", "/demo/mlp-transcoder/1/0")
"""What a first visitor may look at."""
_ADDRESS = re.compile(r"http://[\w.]+:\d+")


def visit(home: Path) -> list[Figure]:
    """Run the command in an empty home, ask for every page once, and end it."""
    settings = {name: value for name, value in os.environ.items() if _is_of_others(name)}
    begun = time.perf_counter()
    command = [sys.executable, "-u", "-c", "from app.cli.main import main; main()", "demo"]
    server = subprocess.Popen(
        [*command, "--port", "0"],
        env={**settings, "HOME": str(home)},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        address = address_of(server)
        served = time.perf_counter() - begun
        for page in PAGES:
            with urllib.request.urlopen(f"{address}{page}", timeout=30) as answer:
                answer.read()
        seen = time.perf_counter() - begun
    finally:
        server.terminate()
        server.communicate()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    stored = sum(file.stat().st_size for file in home.rglob("*") if file.is_file())
    column = "neurarium demo"
    return [
        Figure("until it is served", column, served, "s"),
        Figure("until five pages are seen", column, seen, "s"),
        Figure("processor time", column, used.ru_utime + used.ru_stime, "s"),
        Figure("memory at most", column, used.ru_maxrss * 1024 / 1e6, "MB"),
        Figure("files written", column, stored / 1e6, "MB"),
    ]


def _is_of_others(name: str) -> bool:
    """Whether a variable of the environment has nothing to do with where files are."""
    return not name.startswith(("NEURARIUM_", "XDG_", "HF_"))


def address_of(server: subprocess.Popen[str]) -> str:
    """The address that the command prints once it serves. Raises `NeurariumError` if it ends
    before."""
    assert server.stdout is not None  # a pipe
    printed = []
    for line in server.stdout:
        printed.append(line)
        if "Neurarium is at" in line and (address := _ADDRESS.search(line)):
            return address[0]
    raise NeurariumError(f"The demo did not start: {''.join(printed[-3:]).strip()}")


def main(
    save: Annotated[Path | None, typer.Option(help="Save the figures as JSON.")] = None,
) -> None:
    """Measure a first visit on this machine."""
    with tempfile.TemporaryDirectory() as home:
        figures = visit(Path(home))
    report("scan.first_visit", {}, figures, save)


if __name__ == "__main__":
    run(main)
