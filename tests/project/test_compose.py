"""The containers, as far as they can be read without an engine: structure, paths, users, health."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.engine import make_url

from app.settings import Settings
from tests.project import hashed_requirements

ROOT = Path(__file__).parents[2]
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
STAGES = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]


def instructions(stage: str, name: str) -> list[str]:
    """The arguments of each instruction of that name in a stage."""
    return re.findall(rf"^{name} (.*)", stage, re.MULTILINE)


def settled(value: str) -> str:
    """A value with every ${NAME:-default} replaced by its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def test_services_are_the_database_the_server_and_the_indexer() -> None:
    """`docker compose up` starts database and server; the indexer only where it is asked for."""
    assert set(SERVICES) == {"db", "app", "indexer"}
    started = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert started == {"db", "app"}
    assert SERVICES["indexer"]["profiles"] == ["index"]


@pytest.mark.parametrize("name", ["db", "app"])
def test_a_service_that_stays_says_how_it_is(name: str) -> None:
    """Whoever stays up has a health check with a command and limits."""
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= set(check)


@pytest.mark.parametrize("name", ["app", "indexer"])
def test_ours_wait_for_a_healthy_database(name: str) -> None:
    """Server and indexer start once PostgreSQL answers."""
    assert SERVICES[name]["depends_on"] == {"db": {"condition": "service_healthy"}}


@pytest.mark.parametrize("name", ["app", "indexer"])
def test_ours_speak_to_the_database_there_is(name: str) -> None:
    """The address in the settings is the database service's, with its user and password."""
    given = SERVICES[name]["environment"]
    assert {key.removeprefix("NEURARIUM_").lower() for key in given} <= set(Settings.model_fields)
    url = make_url(settled(given["NEURARIUM_DATABASE_URL"]))
    theirs = {key: settled(value) for key, value in SERVICES["db"]["environment"].items()}
    assert url.drivername == "postgresql+psycopg"
    assert url.host in SERVICES
    assert url.database == theirs["POSTGRES_DB"]
    assert (url.username, url.password) == (theirs["POSTGRES_USER"], theirs["POSTGRES_PASSWORD"])


def test_no_password_is_fixed() -> None:
    """The database's password comes from the environment, wherever it stands."""
    assert SERVICES["db"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD")
    for name in ("app", "indexer"):
        assert "${POSTGRES_PASSWORD" in SERVICES[name]["environment"]["NEURARIUM_DATABASE_URL"]


def test_server_is_reached_where_the_file_says() -> None:
    """The published port is the one the server listens on, on all of the container's addresses."""
    (port,) = SERVICES["app"]["ports"]
    assert port.endswith(":8000:8000")
    assert SERVICES["app"]["environment"]["NEURARIUM_HOST"] == "0.0.0.0"
    assert Settings.model_fields["port"].default == 8000
    assert SERVICES["app"]["command"] == ["serve"]


def test_every_named_volume_is_declared() -> None:
    """What a service keeps lies in a volume that the file declares, and none is left over."""
    used = {mount.split(":")[0] for service in SERVICES.values() for mount in service["volumes"]}
    assert used == set(COMPOSE["volumes"])


def test_image_copies_what_exists() -> None:
    """Every path the Dockerfile copies from the checkout is there, and let in by .dockerignore."""
    build = STAGES[0]
    copied = {
        path
        for line in instructions(build, "COPY")
        for path in line.split()[:-1]
        if not line.startswith("--from")
    }
    allowed = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert {path for path in copied if not (ROOT / path).exists()} == set()
    assert copied == allowed


def test_image_has_every_package() -> None:
    """All packages of the wheel are copied before it is built."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(packages) <= {line.split()[0] for line in instructions(STAGES[0], "COPY")}


def test_image_installs_files_of_known_hashes() -> None:
    """The file of hashes has the pinned version of all that is needed, no more, and is required."""
    (install,) = [line for line in instructions(STAGES[0], "RUN") if "requirements.txt" in line]
    assert {"--require-hashes", "--no-deps"} <= set(install.split())
    entries = hashed_requirements.FILE.read_text().replace("\\\n", " ").splitlines()
    listed = [entry.split() for entry in entries if not entry.startswith("#")]
    assert [entry[0] for entry in listed] == hashed_requirements.needed(), "run `make hashes`"
    for _, *options in listed:
        assert options
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", option) for option in options)
    (version,) = re.findall(r"ARG PYTHON_IMAGE=python:(\d+\.\d+)\.", DOCKERFILE)
    assert version == hashed_requirements.PYTHON


def test_base_images_are_named_by_digest() -> None:
    """A tag may mean another image tomorrow: each has a version for readers, and a digest."""
    built = {stage.split()[0] for stage in STAGES}
    images = [*re.findall(r"ARG PYTHON_IMAGE=(\S+)", DOCKERFILE)]
    images += [one["image"] for one in SERVICES.values() if "build" not in one]
    assert built == {"${PYTHON_IMAGE}"}
    assert len(images) == 2
    for image in images:
        assert re.fullmatch(r"[a-z]+:\d+\.\d[\w.-]*@sha256:[0-9a-f]{64}", image), image


def test_image_does_not_run_as_root() -> None:
    """The last stage leaves root behind before anything starts, for a user that owns /data."""
    (user,) = instructions(STAGES[-1], "USER")
    assert user not in {"root", "0"}
    assert f"--owner={user}" in STAGES[-1]
    after = STAGES[-1].split(f"\nUSER {user}\n")[1]
    assert instructions(after, "RUN") == []


def test_image_checks_its_health_and_keeps_its_data() -> None:
    """The image asks its own /healthz, and keeps what it writes in a volume."""
    (check,) = instructions(STAGES[-1], "HEALTHCHECK")
    assert "/healthz" in check
    assert instructions(STAGES[-1], "VOLUME") == ["/data"]
    (variables,) = instructions(STAGES[-1], "ENV")
    ours = dict(re.findall(r"NEURARIUM_(\w+)=(\S+)", variables))
    assert {name.lower() for name in ours} <= set(Settings.model_fields)
    assert ours["DATABASE_URL"].startswith("sqlite:////data/")
    assert ours["CACHE_DIR"].startswith("/data/")


def test_image_starts_the_command() -> None:
    """The image is the command: without an argument it serves."""
    assert instructions(STAGES[-1], "ENTRYPOINT") == ['["neurarium"]']
    assert instructions(STAGES[-1], "CMD") == ['["serve"]']
