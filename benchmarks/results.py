"""Figures of a benchmark, and the JSON file they are saved in together with the machine."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.rounds import quartiles
from indexer.errors import NeurariumError

FOLDER = Path(__file__).parent / "results"
Save = Annotated[Path | None, typer.Option(help="Save the figures as JSON.")]
_PACKAGES = (
    *("fastapi", "numpy", "ray", "sqlalchemy", "torch", "transformer-lens", "transformers"),
    *("uvicorn", "zstandard"),
)


@dataclass(frozen=True)
class Figure:
    """One cell of a table: a value, with its quartiles where it was measured several times."""

    row: str
    column: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, row: str, column: str, values: Sequence[float], unit: str = "") -> Figure:
        """The median and the quartiles of several values."""
        low, median, high = quartiles(values)
        return cls(row, column, median, unit, low, high)


@dataclass(frozen=True)
class Result:
    """One run of a benchmark."""

    benchmark: str
    date: str
    machine: dict[str, Any]
    parameters: dict[str, Any]
    figures: list[Figure]
    note: str = ""
    """What else a reader of the figures has to know."""
    name: str = field(default="", compare=False)
    """The file's name without `.json`; not in the file."""


def load(path: Path) -> Result:
    """Read a saved result."""
    values = json.loads(path.read_text())
    figures = [Figure(**one) for one in values.pop("figures")]
    return Result(**values, figures=figures, name=path.stem)


def save(path: Path, result: Result) -> None:
    """Write a result as JSON, one figure a line."""
    values = asdict(result)
    del values["name"]
    figures = values.pop("figures")
    lines = [
        json.dumps({name: value for name, value in one.items() if value not in (None, "")})
        for one in figures
    ]
    head = json.dumps(values, indent=1, ensure_ascii=False).removesuffix("\n}")
    path.write_text(head + ',\n "figures": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n")


def machine() -> dict[str, Any]:
    """System, processor, cores, load and versions."""
    versions = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "packages": versions,
    }


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor()


def run(main: Callable[..., None]) -> None:
    """Run a benchmark's command line; a NeurariumError becomes one line and exit code 2."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except NeurariumError as error:
        typer.echo(f"Error: {error}", err=True)
        raise SystemExit(2) from None
