"""The `neurarium` command in this process."""

from __future__ import annotations

from typer.testing import CliRunner

from app.cli.main import app


def command(*words: object, code: int = 0) -> str:
    """What the command prints; errors are raised as they are, but for its exit code."""
    result = CliRunner().invoke(app, list(map(str, words)))
    if code == 0 and result.exception is not None:
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output
