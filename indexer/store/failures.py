"""What the errors of databases mean, as one line for the user."""

from __future__ import annotations

from sqlalchemy.exc import SQLAlchemyError

from indexer.store.files import FileMoved

_DAMAGE = (
    *("malformed", "unsupported file format"),  # SQLite
    *("invalid page", "data corrupted", "index corrupted", "unexpected zero page"),  # PostgreSQL
)
_READ_ONLY = ("readonly database", "read-only transaction", "permission denied")


def unusable(error: SQLAlchemyError, where: str) -> str:
    """A database error as one line for the user; `where` is the database address."""
    if isinstance(error, FileMoved):
        return f"{error} Nothing was stored: put it back, or run the command again."
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()
    first = reason[0] if reason else type(error).__name__
    lowered = " ".join(reason).lower()
    if "disk is full" in lowered or "no space left" in lowered:
        return f"The disk is full: nothing was written to {where}. Free some space and run again."
    if "database is locked" in lowered:
        return f"The database {where} is being written by another process: wait and run again."
    if is_damage(error):
        return f"The database {where} is damaged ({first}): restore it from a copy."
    if is_refusal(error):
        return (
            f"The database {where} cannot be written here ({first}): nothing was changed. Use a "
            "copy of it, or an account that may write to it."
        )
    if "file is not a database" in lowered:
        return f"{where} is not an SQLite database: name another file with --database."
    if "unable to open database file" in lowered:
        return (
            f"The database {where} cannot be opened: check that its folder is there, and that you "
            "may write to it."
        )
    return (
        f"The database {where} cannot be used: {first}. Check its address and that it is running."
    )


def is_refusal(error: SQLAlchemyError) -> bool:
    """Whether a database error says that writing is not allowed."""
    reason = str(getattr(error, "orig", None) or error).lower()
    return any(words in reason for words in _READ_ONLY)


def is_damage(error: Exception) -> bool:
    """Whether a database error says that the database's own structures are damaged."""
    reason = str(getattr(error, "orig", None) or error).lower()
    return any(words in reason for words in _DAMAGE)
