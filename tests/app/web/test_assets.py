"""The version of the site changes with everything that shapes a page."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import indexer.store
from app.web import assets

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "changed",
    [
        "app/search/tokens.py",
        "app/live/neuron/view.py",
        "app/main.py",
        "store/packing/codec.py",
        "templates/neurons/neuron.html",
        "templates/base.html",
        "static/examples/tokens.js",
    ],
)
def test_a_change_anywhere_changes_the_version(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also deep in a folder: an old version would leave visitors with old pages, by their ETags."""
    for name in ("app", "templates", "static"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copytree(Path(indexer.store.__file__).parent, tmp_path / "store")
    monkeypatch.setattr(assets, "_APP", tmp_path / "app")
    monkeypatch.setattr(assets, "_STORE", tmp_path / "store")
    before = assets.site_version()
    assert before == assets.site_version()
    with (tmp_path / changed).open("a") as file:
        file.write("\n")
    assert assets.site_version() != before


def test_where_the_site_is_makes_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers of one version agree on their ETags, wherever they are installed."""
    before = assets.site_version()
    for name in ("app", "templates", "static"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.setattr(assets, "_APP", tmp_path / "app")
    assert assets.site_version() == before
