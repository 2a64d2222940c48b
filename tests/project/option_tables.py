"""The tables of command-line options in docs/, made from the command itself.

`python -m tests.project.option_tables` rewrites every table whose header names a command:
"option of every command", "option of `neurarium index`", "option of `neurarium serve` only".
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer.main

from app.cli import main as cli

DOCS = Path(__file__).parents[2] / "docs"
TABLE = re.compile(r"^\| (option of [^|]+) \| default \| meaning \|\n(?:\|.*\n)*", re.MULTILINE)


def commands(group: Any, before: str = "") -> dict[str, Any]:
    """Every command by its name; a command of a group has a name of two words."""
    result: dict[str, Any] = {}
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        result |= commands(command, f"{before}{name} ") if inner else {before + name: command}
    return result


COMMANDS = commands(typer.main.get_command(cli.app))


def options_of(command: str) -> dict[str, Any]:
    """A command's options by their first long name, in the order of its help."""
    return {
        parameter.opts[0]: parameter
        for parameter in COMMANDS[command].params
        if parameter.opts[0].startswith("--") and parameter.opts[0] != "--help"
    }


def having(*names: str) -> set[str]:
    """The names of the options that all these commands have."""
    return set.intersection(*(set(options_of(name)) for name in names))


def headed(header: str) -> list[str]:
    """The commands that a table's header names. Raises KeyError for one that does not exist."""
    if header == "option of every command":
        return list(COMMANDS)
    named = re.findall(r"`neurarium ([^`]+)`", header)
    return [name for name in named if COMMANDS[name]]


def rows(header: str) -> list[str]:
    """The names of the options that a table with this header documents: those its commands
    share, without the ones of every command. With `only` at its end: that no other command has, or
    has with another meaning."""
    named = headed(header)
    shared = [name for name in options_of(named[0]) if name in having(*named)]
    if header == "option of every command":
        return shared
    elsewhere = having(*COMMANDS)
    if header.endswith(" only"):
        mine = options_of(named[0])
        elsewhere |= {
            name
            for other in set(COMMANDS) - set(named)
            for name, option in options_of(other).items()
            if name in mine and option.help == mine[name].help
        }
    return [name for name in shared if name not in elsewhere]


def default_of(parameter: Any) -> str:
    """The default as a reader writes or would call it; "" if there is none."""
    if parameter.is_flag:
        return "on" if parameter.default else "off"
    if parameter.default is not None:
        return f"`{parameter.default}`"
    return (parameter.help or "").partition("Default: ")[2].rstrip(".")


def row(parameter: Any) -> str:
    """One option as a line of its table."""
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    meaning = (parameter.help or "").partition("Default: ")[0].strip()
    cells = (names, default_of(parameter), meaning)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"


def table(header: str) -> str:
    """The whole table under a header."""
    option = {name: p for command in headed(header) for name, p in options_of(command).items()}
    lines = "".join(row(option[name]) for name in rows(header))
    return f"| {header} | default | meaning |\n|---|---|---|\n{lines}"


def corrected(text: str) -> str:
    """A page with each of its option tables as it should be."""
    return TABLE.sub(lambda match: table(match[1]), text)


def main() -> None:
    """Rewrite the tables of all pages."""
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text()
        if (right := corrected(text)) != text:
            page.write_text(right)
            print(f"{page.name}: option tables updated")


if __name__ == "__main__":
    main()
