"""Whole runs of attention heads, taken away and brought back."""

from __future__ import annotations

import csv
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from app.cli.main import app
from indexer.errors import NeurariumError
from tests.conftest import serving

API = "/api/v1/models/demo/heads"


def run(*arguments: object) -> str:
    """What a command that succeeds prints."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


def answers(url: str) -> list[dict[str, Any]]:
    """All heads, one head, and a pattern, as JSON."""
    with serving(url) as client:
        head = client.get(f"{API}/1/2").json()
        context = head["examples"]["moved"][0]["context_id"]
        pattern = client.get(f"{API}/1/2/contexts/{context}").json()
        return [client.get(API).json(), head, pattern]


@pytest.mark.parametrize("way", ["copy", "pack", "lines", "records"])
def test_a_copy_has_every_head(heads_store: tuple[str, Path], tmp_path: Path, way: str) -> None:
    """A copy, a packed file and an import answer as the original: the content hash is checked by
    the commands, the JSON here."""
    file = tmp_path / "copy.db"
    url, from_store = f"sqlite:///{file}", ("--database", heads_store[0])
    if way == "copy":
        run("copy", 1, "--to", url, *from_store)
    elif way == "pack":
        run("pack", 1, "--out", file, *from_store)
    elif way == "records":
        run("export", 1, "--format", "openai", "--out", tmp_path / "run", *from_store)
        run("import", tmp_path / "run", "--format", "openai", "--database", url)
    else:
        assert "10 heads" in run("export", 1, "--out", tmp_path / "run.jsonl", *from_store)
        run("import", tmp_path / "run.jsonl", "--database", url)
    assert answers(url) == answers(heads_store[0])


def test_a_line_that_lacks_its_head_is_refused(
    heads_store: tuple[str, Path], tmp_path: Path
) -> None:
    """A damaged file leaves nothing, not even the store made for it."""
    file = tmp_path / "run.jsonl"
    run("export", 1, "--out", file, "--database", heads_store[0])
    lines = file.read_text().splitlines()
    head = json.loads(lines[1])
    del head["head"]["patterns"]
    file.write_text("\n".join([lines[0], json.dumps(head), *lines[2:]]))
    result = CliRunner().invoke(
        app, ["import", str(file), "--database", f"sqlite:///{tmp_path / 'new.db'}"]
    )
    assert isinstance(result.exception, NeurariumError)
    assert "Line 2" in str(result.exception)
    assert not (tmp_path / "new.db").exists()


def test_tables_have_scores_and_pairs(heads_store: tuple[str, Path], tmp_path: Path) -> None:
    """CSV and Parquet say what the API says."""
    listed, head, _ = answers(heads_store[0])
    database = ("--database", heads_store[0])
    run("export", 1, "--format", "csv", "--out", tmp_path / "run.csv", *database)
    with (tmp_path / "run.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, known in zip(rows, listed["heads"], strict=True):
        assert float(row["induction"]) == known["scores"]["repeated"]["induction"]
        assert float(row["entropy_text"]) == known["scores"]["text"]["entropy"]
        assert float(row["copying"]) == known["scores"]["copying"]
    with serving(heads_store[0]) as client:
        stream = "/api/v1/models/demo/sets/heads/export"
        few = client.get(stream, params={"format": "csv", "fields": "neuron,induction"}).text
        table = client.get(stream, params={"format": "parquet"}).content
        whole = client.get(stream, params={"format": "csv"}).text
    assert whole == (tmp_path / "run.csv").read_text()
    induction = [float(row["induction"]) for row in rows]
    assert [float(row["induction"]) for row in csv.DictReader(few.splitlines())] == induction
    assert pq.read_table(BytesIO(table))["induction"].to_pylist() == induction
    run("export", 1, "--format", "parquet", "--out", tmp_path / "run", *database)
    scores = pq.read_table(tmp_path / "run" / "heads.parquet").to_pylist()
    assert [row["effect"] for row in scores] == [
        known["scores"]["repeated"]["effect"] for known in listed["heads"]
    ]
    pairs = pq.read_table(tmp_path / "run" / "pairs.parquet").to_pylist()
    own = [row for row in pairs if (row["layer"], row["head"]) == (1, 2)]
    for name, examples in head["examples"].items():
        found = [row for row in own if row["ranking"] == name]
        assert [row["rank"] for row in found] == list(range(len(examples)))
        for row, example in zip(found, examples, strict=True):
            assert {key: row[key] for key in ("context_id", "query", "key", "attention")} == {
                key: example[key] for key in ("context_id", "query", "key", "attention")
            }
