"""What a database's error means to the user."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from indexer.store.failures import unusable


def test_a_file_that_cannot_be_made_is_no_server(tmp_path: Path) -> None:
    """SQLite's own words do not say what to check."""
    engine = create_engine(f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}")
    with pytest.raises(OperationalError) as error, engine.connect():
        pass
    assert unusable(error.value, "x.db") == (
        "The database x.db cannot be opened: check that its folder is there, and that you may "
        "write to it."
    )
