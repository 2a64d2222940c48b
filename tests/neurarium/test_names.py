"""A project with folders `app` and `indexer` of its own: the command and the package work there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose folders have Neurarium's names, and do not bear being imported as it."""
    for name in ("app", "indexer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("OWN = True\n")
    return tmp_path


def python(project: Path, program: str) -> subprocess.CompletedProcess[str]:
    """A program run in the project, with it first on the path."""
    path = os.pathsep.join([str(project), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=project,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_works_there(project: Path) -> None:
    """The command finds its own packages."""
    program = (
        "import sys; sys.argv = ['neurarium', 'runs', '--database', 'sqlite:///none.db']\n"
        "from neurarium.command import main; main()"
    )
    done = python(project, program)
    assert done.returncode == 2, done.stderr
    assert "There is no database at" in done.stderr
    assert "Traceback" not in done.stderr


def test_workers_are_refused_there_in_one_line(project: Path) -> None:
    """Their processes would import the project's packages, and die."""
    program = (
        "import sys; sys.argv = 'neurarium index demo --workers 2 --database sqlite:///x.db'.split()"
        "\nfrom neurarium.command import main; main()"
    )
    done = python(project, program)
    assert done.returncode == 2, done.stderr
    assert (
        f"would take {project / 'app' / '__init__.py'} for Neurarium's package 'app'" in done.stderr
    )
    assert done.stderr.count("\n") == 1


def test_the_package_works_there(project: Path) -> None:
    """`import neurarium` reads a store there."""
    program = (
        "import neurarium\n"
        "try: neurarium.open('none.db')\n"
        "except neurarium.NeurariumError as error: print(error)"
    )
    done = python(project, program)
    assert "There is no database at" in done.stdout, done.stderr


def test_a_clash_is_named_in_one_line(project: Path) -> None:
    """If the project's own package came first, one line says so."""
    done = python(project, "import app\nassert app.OWN\nimport neurarium")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: Neurarium has a package 'app'")
    assert last.endswith("import neurarium first, or rename yours.")
