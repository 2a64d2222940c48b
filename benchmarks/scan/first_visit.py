"""How long a first visit takes: `neurarium demo` in an empty home, from the command to pages of a
neuron and of a latent. What the installation did is not in it.

    python -m benchmarks.scan.first_visit --save benchmarks/results/first-visit.json

`benchmarks/README.md` defines every figure.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.pages.servers import running
from benchmarks.results import Figure, Save, run
from benchmarks.tables import report

PAGES = ("/", "/demo", "/demo/0/0", "/demo/residual-sae/0/0", "/demo/mlp-transcoder/1/0")
"""What a first visitor may look at."""


def visit(home: Path) -> list[Figure]:
    """Run the command in an empty home, ask for every page once, and end it."""
    settings = {name: value for name, value in os.environ.items() if _is_of_others(name)}
    begun = time.perf_counter()
    command = ["from app.cli.main import main; main()", "demo", "--port", "0"]
    # It also prints the pages of each run, before it serves them.
    with running(command, {**settings, "HOME": str(home)}, begins="Neurarium is at") as server:
        served = time.perf_counter() - begun
        for page in PAGES:
            with urllib.request.urlopen(f"{server.address}{page}", timeout=30) as answer:
                answer.read()
        seen = time.perf_counter() - begun
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


def main(
    save: Save = None,
) -> None:
    """Measure a first visit on this machine."""
    with tempfile.TemporaryDirectory() as home:
        figures = visit(Path(home))
    report("scan.first_visit", {}, figures, save)


if __name__ == "__main__":
    run(main)
