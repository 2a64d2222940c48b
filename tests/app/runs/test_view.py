"""A run's provenance as tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.runs import queries
from app.runs.view import flatten, tables
from indexer.store.database import open_store
from indexer.store.writing.run import write_run
from tests.conftest import serving
from tests.helpers.fixture_neurons import TOY_NEURONS
from tests.helpers.fixture_store import RunOf
from tests.helpers.sample_pages import run_page


def test_flatten() -> None:
    """Mappings become dotted paths, and plain lists one value."""
    value = {"a": {"b": 1, "c": None}, "d": [1, 2], "e": [{"f": True}, {"f": False}], "g": {}}
    assert flatten(value) == [
        ("a.b", "1"),
        ("a.c", "—"),
        ("d", "1, 2"),
        ("e.1.f", "yes"),
        ("e.2.f", "no"),
        ("g", "—"),
    ]


def test_a_seed_has_no_separators() -> None:
    """It can be copied to a command line."""
    assert flatten({"seed": 12345, "size": 12345}, "sample") == [
        ("sample.seed", "12345"),
        ("sample.size", "12,345"),
    ]


def test_run_shows_all_of_its_provenance() -> None:
    """Every leaf of the provenance is in a table."""
    shown = tables(run_page(), 2)
    assert [table.title for table in shown] == [
        "What was indexed", "Provenance", "Model", "Corpus", "Versions", "Times",
    ]  # fmt: skip
    values = {value for table in shown for _, value in table.rows}
    assert {"0", "cpu", "4a" * 32, "gelu", "1,070", "2.13.0", "84.2"} <= values
    assert ("architecture.act fn", "gelu") in shown[2].rows


def test_visitors_see_no_folders_of_the_machine(tmp_path: Path) -> None:
    """On the page and in its JSON; the store keeps whole paths."""
    settings = {
        "model": "/home/operator/models/toy",
        "corpus": "C:\\operator\\corpus.jsonl",
        "dictionary": "~/operator/a.safetensors,owner/name:operator/b",
    }
    url = f"sqlite:///{tmp_path / 'store.db'}"
    run = RunOf("toy", TOY_NEURONS)
    record = run.record()
    record = replace(record, provenance={**record.provenance, "settings": settings})
    engine = open_store(url, create=True)
    write_run(engine, record, run.blocks(), run.context_records())
    engine.dispose()
    with serving(url) as client:
        assert client.get("/api/v1/runs/1").json()["provenance"]["settings"] == {
            "model": "…/toy",
            "corpus": "…/corpus.jsonl",
            "dictionary": "…/a.safetensors,owner/name:operator/b",
        }
        page = client.get("/runs/1").text
        assert "…/corpus.jsonl" in page
        assert "home" not in page.split("<main")[1]
        store = client.app.state.site.store  # type: ignore[attr-defined]
        assert queries.run(store, 1).provenance["settings"] == settings
