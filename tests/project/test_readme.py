"""The README is true: what exists is named in it, and what it names exists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer.main
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

from app.cli import main as cli
from app.main import create_app
from app.settings import Settings
from app.web.health import unknown_router

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FENCED = re.findall(r"^```[^\n]*\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
CODE = [*FENCED, *re.findall(r"`([^`\n]+)`", PROSE)]
"""Every piece of code in the README: fenced blocks and inline spans."""
COMMANDS = {
    line.strip()
    for piece in CODE
    for line in piece.replace("\\\n", " ").splitlines()
    if re.match(r"(\$ |\S*/)?neurarium ", line.strip())
}
"""Every line of them that calls the command."""


def program(group: Any, before: str = "") -> dict[str, Any]:
    """Every command, those of groups by two words."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        found |= program(command, f"{name} ") if inner else {before + name: command}
    return found


PROGRAM = program(typer.main.get_command(cli.app))


def words_of(line: str) -> tuple[str, list[str]]:
    """The command that a line calls, and what follows."""
    first, *rest = line.split("neurarium ", 1)[1].split()
    if rest and f"{first} {rest[0]}" in PROGRAM:
        return f"{first} {rest[0]}", rest[1:]
    return first, rest


def check_none(found: Iterable[str], what: str) -> None:
    """Fail where anything was found, and name all of it."""
    assert not (names := sorted(found)), f"{what}: {', '.join(names)}"


def cli_options() -> set[str]:
    """Every long option of every command."""
    return {
        name
        for command in PROGRAM.values()
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("--") and name != "--help"
    }


def settings() -> set[str]:
    """Every setting, as it is named in the environment."""
    prefix = Settings.model_config["env_prefix"]
    return {f"{prefix}{field}".upper() for field in Settings.model_fields}


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The path of every route that leads to something, but static files."""
    database = tmp_path_factory.mktemp("readme") / "empty.db"
    app = create_app(Settings(database_url=f"sqlite:///{database}"))
    found = paths(app.routes) - paths(unknown_router().routes)
    return {path for path in found if not path.startswith("/static/")}


def paths(routes: Sequence[BaseRoute]) -> set[str]:
    """The path of each route that answers a method, as a reader would write it."""
    return {
        re.sub(r":\w+}", "}", context.path)
        for context in iter_route_contexts(routes)
        if context.path and context.methods
    }


def paths_in_code() -> set[str]:
    """What looks like one of the server's paths, without its query, in a piece of code."""
    words = {word.split("?")[0] for piece in CODE for word in re.split(r"[\s'\"(),]+", piece)}
    words |= {re.sub(r"^https?://[^/]+", "", word) for word in words}
    return {word for word in words if word.startswith("/")}


def test_every_command_is_named() -> None:
    """Each command of the program is called once in the README."""
    missing = set(PROGRAM) - {words_of(line)[0] for line in COMMANDS}
    check_none(missing, "commands the README does not name")


def test_every_option_is_named() -> None:
    """Each option of each command stands in the README as code."""
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", "\n".join(CODE)))
    check_none(cli_options() - named, "options the README does not name")


def test_every_setting_is_named() -> None:
    """Each setting stands in the README by the name of its environment variable."""
    named = set(re.findall(r"\bNEURARIUM_\w+", README))
    check_none(settings() - named, "settings the README does not name")


def test_every_route_is_named(routes: set[str]) -> None:
    """Each route, page or JSON, stands in the README as code, as the server writes it."""
    assert {"/", "/healthz", "/{model}/{layer}/{neuron}"} <= routes
    check_none(routes - paths_in_code(), "routes the README does not name")


def test_every_command_named_exists() -> None:
    """A line that calls the program calls a command it has, with options that command has."""
    wrong = []
    for line in COMMANDS:
        name, words = words_of(line)
        known = {option for p in getattr(PROGRAM.get(name), "params", []) for option in p.opts}
        given = {word.split("=")[0] for word in words if word.startswith("-")}
        if not name.startswith("-") and (name not in PROGRAM or not given <= known | {"--help"}):
            wrong.append(line)
    check_none(wrong, "calls that the program would refuse")


def test_every_setting_named_exists() -> None:
    """No environment variable in the README is one that nothing reads."""
    named = set(re.findall(r"\bNEURARIUM_[A-Z_]*[A-Z]\b", README))
    check_none(named - settings(), "settings that do not exist")


def test_every_route_named_exists(routes: set[str]) -> None:
    """A path in the README that has a placeholder, or lies under /api/, is a route's."""
    api_routes = [re.escape(route) for route in routes if route.startswith("/api/")]
    shapes = [re.compile(re.sub(r"\\{\w+\\}", "[^/]+", route)) for route in api_routes]
    named = paths_in_code()
    wrong = {path for path in named if "{" in path} - routes
    wrong |= {
        path
        for path in named
        if path.startswith("/api/") and not any(shape.fullmatch(path) for shape in shapes)
    }
    check_none(wrong, "paths that no route has")


def test_every_make_target_named_exists() -> None:
    """Whatever the README says to `make`, the Makefile can."""
    named = {
        target
        for piece in CODE
        for target in re.findall(r"(?:^|[\s;&])make ([a-z][a-z-]*)\b(?!=)", piece, re.MULTILINE)
    }
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= targets
    check_none({"demo", "test"} - named, "targets the README does not name")
    check_none(named - targets, "targets the Makefile does not have")


def test_every_local_link_leads_somewhere() -> None:
    """Files and pictures that the README links to are in the repository, sections in the text."""
    targets = {
        *re.findall(r"\]\(\s*<?([^)\s>]+)", PROSE),
        *re.findall(r"^\[[^\]]+\]:\s*(\S+)", PROSE, re.MULTILINE),
        *re.findall(r"(?:src|href|srcset)=\"([^\"]+)\"", PROSE),
    }
    headings = re.findall(r"^#+ (.+)", PROSE, re.MULTILINE)
    sections = {
        "#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
    }
    local = {target for target in targets if not re.match(r"[a-z]+:", target)}
    wrong = {
        target
        for target in local
        if target not in sections and not (ROOT / unquote(target.split("#")[0] or "-")).exists()
    }
    check_none(wrong, "links that lead nowhere")
