"""The README and docs/ are true: what exists is documented once, and what they name exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tarfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from app.settings import Settings
from tests.project import option_tables
from tests.project.option_tables import COMMANDS, headed, options_of, rows
from tests.project.pages import (
    CODE,
    DOCS,
    FENCE,
    LINKING,
    PAGES,
    ROOT,
    check_none,
    check_once,
    code,
    prose,
    spans,
    table_rows,
)

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README_BYTES = 9_000
"""The README is read in five minutes: it stays below this many bytes."""


# --- The command --------------------------------------------------------------------------------


def lines_of_shell() -> Iterator[str]:
    """Every line of the blocks marked sh, and every one after a prompt in those marked console."""
    for text in PAGES.values():
        for language, block in FENCE.findall(text):
            lines = block.replace("\\\n", " ").splitlines()
            if language == "sh":
                yield from lines
            if language == "console":
                yield from (line[2:] for line in lines if line.startswith("$ "))


def called(words: Sequence[str]) -> tuple[str, list[str]]:
    """The command that the words after `neurarium` call, and its arguments."""
    for length in (2, 1):
        if " ".join(words[:length]) in COMMANDS:
            return " ".join(words[:length]), list(words[length:])
    return words[0], list(words[1:])


def calls_in_shell() -> list[tuple[str, list[str]]]:
    """Every call of `neurarium` in a block of shell, also one that follows other words."""
    calls = []
    for line in lines_of_shell():
        words = shlex.split(line, comments=True)
        if words and words[0] == "docker" and "indexer" in words:
            calls.append(called(words[words.index("indexer") + 1 :]))
        if words and words[0].rpartition("/")[2] == "neurarium":
            calls.append(called(words[1:]))
    return calls


def test_every_command_is_documented_once() -> None:
    """The table of commands has each command once, and the docs call no other."""
    named = {called(line.split()[1:])[0] for piece in CODE for line in inline_calls(piece)}
    check_none(named - set(COMMANDS), "commands that do not exist")
    in_table = Counter(
        called(span.split()[1:])[0]
        for row in table_rows(PAGES[DOCS / "serving.md"])
        if not row[0].startswith("option of")
        for span in spans(row[0])
        if span.startswith("neurarium ")
    )
    check_once(in_table, set(COMMANDS), "commands")


def inline_calls(piece: str) -> list[str]:
    """The call that an inline span or a line of a block makes."""
    lines = (line.strip().removeprefix("$ ") for line in piece.splitlines())
    return [line for line in lines if re.match(r"(\S*/)?neurarium [a-z]", line)]


@pytest.mark.parametrize(("command", "arguments"), calls_in_shell())
def test_every_call_parses(command: str, arguments: list[str]) -> None:
    """The command takes the arguments, as it would from a shell."""
    assert command in COMMANDS
    COMMANDS[command].make_context(command, arguments).close()


def test_inline_calls_name_options_that_exist() -> None:
    """A call inside a sentence, which may leave arguments out, has only options of its command."""
    wrong = []
    for line in (line for piece in CODE for line in inline_calls(piece)):
        command, words = called(line.split()[1:])
        known = {name for p in COMMANDS[command].params for name in (*p.opts, *p.secondary_opts)}
        given = {word.split("=")[0] for word in words if word.startswith("-")}
        if not given <= known | {"--help"}:
            wrong.append(line)
    check_none(wrong, "calls that the program would refuse")


def test_every_option_is_documented_once() -> None:
    """Each option of each command is in exactly one table of options that is the command's."""
    documented: Counter[str] = Counter()
    for text in PAGES.values():
        for header in option_tables.TABLE.findall(text):
            documented.update(f"{name} {o}" for name in headed(header) for o in rows(header))
    existing = {f"{name} {option}" for name in COMMANDS for option in options_of(name)}
    check_once(documented, existing, "options")


def test_tables_of_options_are_the_commands_own() -> None:
    """Names, defaults and meanings in the tables are what the command's help says."""
    for path, text in PAGES.items():
        advice = "run python -m tests.project.option_tables"
        assert text == option_tables.corrected(text), f"{path.name}: {advice}"


def test_the_table_of_index_has_its_options() -> None:
    """`neurarium index`: a line for every option, with its names, default and a meaning."""
    page = {row[0]: row for row in table_rows(PAGES[DOCS / "indexing.md"])}
    for name, parameter in options_of("index").items():
        if name == "--database":
            continue
        (cells,) = [row for names, row in page.items() if name in spans(names)]
        assert spans(cells[0]) == [*parameter.opts, *parameter.secondary_opts]
        if parameter.default is not None and not parameter.is_flag:
            assert cells[1] == f"`{parameter.default}`"
        assert cells[2]


def test_every_option_named_exists() -> None:
    """Whatever looks like an option of ours in a sentence is one of some command."""
    named = {span for text in PAGES.values() for span in re.findall(r"`(--[a-z-]+)`", prose(text))}
    known = {
        name
        for command in COMMANDS.values()
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    check_none(named - known, "options that do not exist")


# --- Settings -----------------------------------------------------------------------------------


def settings() -> dict[str, Any]:
    """Every setting by its name in the environment, with its default (None: not a plain value)."""
    prefix = Settings.model_config["env_prefix"]
    return {
        f"{prefix}{name}".upper(): None if field.default_factory else field.default
        for name, field in Settings.model_fields.items()
    }


def test_every_setting_is_documented_once() -> None:
    """Each setting is one line of the table of settings, with its default."""
    lines = [
        row
        for text in PAGES.values()
        for row in table_rows(text)
        if spans(row[0])[:1] and spans(row[0])[0].startswith("NEURARIUM_")
    ]
    check_once(Counter(spans(row[0])[0] for row in lines), set(settings()), "settings")
    for row in lines:
        assert row in list(table_rows(PAGES[DOCS / "serving.md"]))
        default = settings()[spans(row[0])[0]]
        if isinstance(default, bool):
            assert row[1] == ("on" if default else "off"), row
        elif default not in (None, ""):
            assert row[1] == f"`{default}`", row


def test_every_setting_named_exists() -> None:
    """No environment variable of ours in the docs is one that nothing reads."""
    named = {
        name for text in PAGES.values() for name in re.findall(r"\bNEURARIUM_[A-Z_]*[A-Z]\b", text)
    }
    check_none(named - set(settings()), "settings that do not exist")


# --- Files --------------------------------------------------------------------------------------


def test_every_make_target_named_exists() -> None:
    """The Makefile has every target that the docs give to `make`."""
    named = {
        target
        for piece in CODE
        for target in re.findall(r"(?:^|[\s;&])make ([a-z][a-z-]*)\b(?!=)", piece, re.MULTILINE)
    }
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= targets
    check_none({"demo", "test"} - named, "targets the docs do not name")
    check_none(named - targets, "targets the Makefile does not have")


def links(text: str) -> set[str]:
    """What a page links to, pictures too."""
    return {
        *re.findall(r"\]\(\s*<?([^)\s>]+)", prose(text)),
        *re.findall(r"^\[[^\]]+\]:\s*(\S+)", prose(text), re.MULTILINE),
        *re.findall(r"(?:src|href|srcset)=\"([^\"]+)\"", prose(text)),
    }


def sections(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKING, ids=lambda path: path.name)
def test_every_local_link_leads_somewhere(page: Path) -> None:
    """A link leads to a file or folder of the repository and, with an anchor, to a heading."""
    wrong = set()
    for target in links(LINKING[page]):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = unquote(target).partition("#")
        path = page.parent / file if file else page
        if not path.exists() or (anchor and anchor not in sections(path.read_text())):
            wrong.add(target)
    check_none(wrong, f"links of {page.name} that lead nowhere")


def test_every_page_is_linked_from_the_readme() -> None:
    """A reader of the README finds every page of docs/, and the changelog."""
    linked = {target.partition("#")[0] for target in links(PAGES[ROOT / "README.md"])}
    pages = {path.relative_to(ROOT).as_posix() for path in LINKING} - {"README.md"}
    check_none(pages - linked, "pages the README does not link to")


def test_the_readme_is_short() -> None:
    """A newcomer reads the README in five minutes; the picture is where it says."""
    text = PAGES[ROOT / "README.md"]
    assert len(text.encode()) < README_BYTES
    assert len(text.splitlines()) < 150


@pytest.mark.parametrize("name", ["architecture.md", "contributing.md"])
def test_every_path_named_exists(name: str) -> None:
    """Each file and folder that these pages name is in the repository."""
    named = {
        word
        for piece in code(PAGES[DOCS / name])
        for word in piece.split()
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)*(/|\.(py|toml|yml|css|md))", word)
    }
    assert named
    check_none((path for path in named if not (ROOT / path).exists()), "paths that do not exist")


def test_the_architecture_has_every_folder() -> None:
    """The table of folders has every package of app/ and indexer/, and no other."""
    packages = {
        folder.parent.relative_to(ROOT).as_posix() + "/"
        for top in ("app", "indexer")
        for folder in (ROOT / top).glob("*/**/__init__.py")
    }
    rows = table_rows(PAGES[DOCS / "architecture.md"])
    documented = {span for row in rows for cell in row for span in spans(cell)}
    check_none(packages - documented, "folders the architecture does not name")


def test_the_architecture_has_every_contract() -> None:
    """The table of contracts has those of import-linter, each once."""
    contracts = {contract["id"] for contract in PYPROJECT["tool"]["importlinter"]["contracts"]}
    text = PAGES[DOCS / "architecture.md"].partition("## What may import what")[2]
    lines = table_rows(text.partition("\n## ")[0])
    documented = Counter(name for row in lines for name in spans(row[0]))
    check_once(documented, contracts, "contracts")


def test_the_changelog_begins_with_what_is_unreleased() -> None:
    """The changelog begins with what is not released yet."""
    headings = re.findall(r"^## (.+)", LINKING[ROOT / "CHANGELOG.md"], re.MULTILINE)
    assert headings[0] == "[Unreleased]"


def test_the_source_distribution_has_the_docs(tmp_path: Path) -> None:
    """Whoever unpacks it can read the README, the changelog and every page."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    assert {path.relative_to(ROOT).as_posix() for path in LINKING} <= names
