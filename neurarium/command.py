"""The entry point of the `neurarium` command: importing this package has claimed the names that a
user's project may have too."""

from __future__ import annotations


def main() -> None:
    """Run the command."""
    from app.cli.main import main as command

    command()
