"""Writes docker-requirements.txt: what the Docker image installs beside torch, with the hashes of
the files, from the versions in constraints.txt. `make hashes` runs it; pip asks the package index.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-requirements.txt"
PYTHON = "3.13"
"""The Dockerfile's."""
MACHINES = ("x86_64", "aarch64")
_GLIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
_ALSO = ("hatchling", "setuptools")  # build the package, and what comes as source only
_AS_SOURCE = "transformers-stream-generator"
_HEAD = """\
# What the Docker image installs beside torch, for Python {python} on {machines}:
# versions of constraints.txt with the hashes of their files. Made by `make hashes`.
"""


def needed() -> list[str]:
    """What the image needs beside torch and torch's own CUDA packages, as lines `name==version`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["postgres"], *_ALSO]
    todo, seen = list(map(Requirement, asked)), set[tuple[str, tuple[str, ...]]]()
    while todo:
        requirement = todo.pop()
        key = (normal(requirement.name), tuple(sorted(requirement.extras)))
        if key in seen or key[0] == "torch":
            continue
        seen.add(key)
        for line in distribution(requirement.name).requires or []:
            further = Requirement(line)
            if further.marker is None or any(
                further.marker.evaluate(
                    {
                        "extra": extra,
                        "python_version": PYTHON,
                        "python_full_version": f"{PYTHON}.0",
                        "sys_platform": "linux",
                    }
                )
                for extra in (*requirement.extras, "")
            ):
                todo.append(further)
    pinned = pins()
    return [pinned[name] for name in sorted({name for name, _ in seen})]


def pins() -> dict[str, str]:
    """The lines of constraints.txt by their packages' normal names."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [line.strip() for line in lines if "==" in line and not line.startswith("#")]
    return {normal(line.partition("==")[0]): line for line in found}


def normal(name: str) -> str:
    """A package's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def hashes(lines: list[str], machine: str) -> dict[str, str]:
    """The SHA-256 of the file that pip chooses for each line on a machine."""
    with tempfile.TemporaryDirectory() as name:
        report, wanted = Path(name) / "report.json", Path(name) / "wanted.txt"
        wanted.write_text("\n".join(lines))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps"]
        command += ["--ignore-installed", "--report", str(report), "--target", name]
        command += ["--implementation", "cp", "--python-version", PYTHON]
        command += ["--only-binary", ":all:", "--no-binary", _AS_SOURCE]
        for system in _GLIBC:
            command += ["--platform", f"{system}_{machine}"]
        subprocess.run([*command, "-r", str(wanted)], check=True)
        chosen: list[dict[str, Any]] = json.loads(report.read_text())["install"]
    return {
        normal(item["metadata"]["name"]): item["download_info"]["archive_info"]["hashes"]["sha256"]
        for item in chosen
    }


def main() -> None:
    """Write the file."""
    lines = needed()
    found = [hashes(lines, machine) for machine in MACHINES]
    text = _HEAD.format(python=PYTHON, machines=" and ".join(MACHINES))
    for line in lines:
        name = normal(line.partition("==")[0])
        options = sorted({f"--hash=sha256:{machine[name]}" for machine in found})
        text += " \\\n    ".join([line, *options]) + "\n"
    FILE.write_text(text)


if __name__ == "__main__":
    main()
