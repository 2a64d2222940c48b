"""What leaves this repository: the wheel, its pins, and what the server needs to start."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.web import assets
from indexer.store.database import open_store

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BACKEND = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
MODEL_LIBRARIES = (
    "torch transformers transformer_lens datasets huggingface_hub tokenizers pyarrow".split()
)
PACKAGES = ["app", "indexer", "neurarium"]
READY_SECONDS = 60
"""How long a server may take to answer before a test gives it up."""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a command prints; an AssertionError with all it said where it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def clean_environment() -> dict[str, str]:
    """This environment without what leads Python to this checkout, or Neurarium to a database."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "NEURARIUM_", "COV_"))
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as pip builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    run(
        *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"),
        *("--wheel-dir", folder, ROOT),
        cwd=folder,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """Every file in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a new environment that holds the wheel, and the packages it needs but no
    checkout: a path named in a .pth file has its own .pth files (the editable install) unread."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home.parent)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"),
        wheel,
        cwd=home.parent,
    )
    site = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home.parent
    )
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(site.strip(), "packages-of-the-tests.pth").write_text("\n".join(sorted(ours)) + "\n")
    return scripts


@pytest.fixture(scope="module")
def address(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The installed command, serving an empty database from an empty folder."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    database = tmp_path_factory.mktemp("database") / "neurarium.db"
    open_store(f"sqlite:///{database}", create=True).dispose()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [installed / "neurarium", "serve", "--database", f"sqlite:///{database}"]
    with (
        (database.parent / "log").open("w+") as log,
        subprocess.Popen(
            [*map(str, command), "--host", "127.0.0.1", "--port", str(port)],
            cwd=elsewhere,
            env=clean_environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as server,
    ):
        try:
            here = f"http://127.0.0.1:{port}"
            wait_until_ready(server, here, Path(log.name))
            yield here
        finally:
            server.terminate()
            server.wait()


def wait_until_ready(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Return once the server answers; an AssertionError with its log where it never does."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            httpx.get(f"{address}/healthz")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"The server did not start:\n{log.read_text()}")


class Linked(HTMLParser):
    """The style sheets and scripts that a page asks for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.styles: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """HTMLParser's hook."""
        values = dict(attrs)
        if tag == "link" and values.get("rel") == "stylesheet":
            self.styles.append(values["href"] or "")
        if tag == "script" and values.get("src"):
            self.scripts.append(values["src"] or "")


def test_wheel_holds_what_pages_are_made_of(names: set[str]) -> None:
    """Every template and static file of the checkout is in the wheel, under app/."""
    files = [
        path
        for folder in ("templates", "static")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    ]
    assert files
    assert {f"app/{path.relative_to(ROOT).as_posix()}" for path in files} <= names


def test_wheel_holds_every_module_and_the_demo(names: set[str]) -> None:
    """Every module is in the wheel, and the demo's model, corpus and licences with them."""
    modules = [path for top in PACKAGES for path in (ROOT / top).rglob("*.py")]
    demo = [
        path
        for path in (ROOT / "indexer" / "demo").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert {path.relative_to(ROOT).as_posix() for path in [*modules, *demo]} <= names
    assert "indexer/demo/model/model.safetensors" in names
    assert any(re.fullmatch(r"indexer/demo/corpus\.jsonl(\.\w+)?", name) for name in names)
    assert any(name.startswith("indexer/demo/licenses/") for name in names)


def test_wheel_names_its_licence(wheel: Path, names: set[str]) -> None:
    """The project's licence is in the wheel, and is the one that pyproject.toml names."""
    (licence,) = [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(licence).decode().startswith(f"{PROJECT['license']} License")


def test_wheel_holds_nothing_else(names: set[str]) -> None:
    """Tests, benchmarks, caches and configuration stay out of the wheel."""
    tops = {name.split("/")[0] for name in names}
    assert tops == {*PACKAGES, f"neurarium-{PROJECT['version']}.dist-info"}
    assert not [name for name in names if "__pycache__" in name or "test_" in name]


def test_installed_code_is_the_wheels(installed: Path, tmp_path: Path) -> None:
    """In the new environment all packages, and the folders pages are made of, lie in it."""
    script = (
        "import app.web.assets, indexer.demo, neurarium\n"
        "print(app.__file__, indexer.__file__, indexer.demo.__file__, neurarium.__file__,"
        " app.web.assets.folder('templates'), app.web.assets.folder('static'), sep='\\n')"
    )
    for place in run(installed / "python", "-c", script, cwd=tmp_path).splitlines():
        assert Path(place).is_relative_to(installed.parent)


def test_installed_server_serves_a_page_with_its_style(address: str) -> None:
    """The home page of an empty database comes with every style sheet and script it names."""
    page = httpx.get(f"{address}/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    linked = Linked(page.text)
    (path,) = linked.styles
    style = httpx.get(urljoin(address, path))
    assert (style.status_code, style.headers["content-type"].split(";")[0]) == (200, "text/css")
    parts = [(ROOT / "static" / f"{name}.css").read_text() for name in assets.STYLES]
    assert style.text == "\n".join(parts)
    # The search page of a published folder has a sheet of its own: no page of the server is one.
    assert {*assets.STYLES, "publishing/search"} == {
        path.relative_to(ROOT / "static").with_suffix("").as_posix()
        for path in (ROOT / "static").rglob("*.css")
    }
    for path in linked.scripts:
        script = httpx.get(urljoin(address, path))
        assert script.status_code == 200
        assert "javascript" in script.headers["content-type"]


def test_installed_server_answers_as_json_too(address: str) -> None:
    """The API of an empty database lists no models, and says of a missing one that it is."""
    assert httpx.get(f"{address}/api/v1/models").json() == {"items": [], "next": None}
    missing = httpx.get(f"{address}/api/v1/models/nobody")
    assert missing.status_code == 404
    assert missing.json()["status"] == 404


def test_server_starts_without_a_model_library(tmp_path: Path) -> None:
    """Neither the command nor the server imports torch or anything that brings it."""
    open_store(f"sqlite:///{tmp_path}/empty.db", create=True).dispose()
    script = (
        "import sys, app.cli.main\n"
        "from app.main import create_app\n"
        "from app.settings import Settings\n"
        f"create_app(Settings(database_url={f'sqlite:///{tmp_path}/empty.db'!r}))\n"
        "print(*sys.modules)"
    )
    imported = set(run(sys.executable, "-c", script, cwd=ROOT).split())
    assert "fastapi" in imported
    assert imported.isdisjoint(MODEL_LIBRARIES)


def pins() -> dict[str, str]:
    """constraints.txt: the version of each package, by its canonical name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[^,*+]+", str(pin.specifier)) for pin in found)
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in found}


def test_every_requirement_has_a_pin_within_its_range() -> None:
    """All that the two commands ask for is pinned, at a version pyproject.toml allows."""
    extras = PROJECT["optional-dependencies"]
    asked = [*BACKEND, *PROJECT["dependencies"], *extras["postgres"], *extras["test"]]
    requirements = [Requirement(line) for line in asked]
    pinned = pins()
    wrong = [
        str(requirement)
        for requirement in requirements
        if requirement.name != PROJECT["name"]
        and pinned.get(canonicalize_name(requirement.name), "0") not in requirement.specifier
    ]
    assert wrong == []


def test_constraints_name_no_address() -> None:
    """constraints.txt says which versions, never from where: that is each machine's own choice."""
    text = (ROOT / "constraints.txt").read_text()
    assert "torch==2.13.0\n" in text
    assert not re.search(r"://| @ |^-", text, re.MULTILINE)
