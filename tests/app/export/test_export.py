"""Exports: every format has what the API has, and what comes back has the same content hash."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from indexer.store import notes
from indexer.store.database import open_store
from indexer.store.runs import list_runs
from tests.app.export.conftest import hashes
from tests.conftest import NewDatabase, serving
from tests.helpers.commands import command
from tests.helpers.neuronpedia_schema import check
from tests.helpers.store_copies import copy_store

RUNS = ("toy", "Zebra_2.0", "pre-only", "wide")


@pytest.mark.parametrize("model", RUNS)
def test_lines_bring_a_run_back(database: str, api: Any, tmp_path: Path, model: str) -> None:
    """JSON lines hold the API's objects, and make a run of the same hash in another store."""
    file, other = tmp_path / "run.jsonl", f"sqlite:///{tmp_path / 'other.db'}"
    command("export", model, "--out", file, "--database", database)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in (line for line in lines if line["type"] == "neuron"):
        own = {name: value for name, value in line.items() if name not in ("type", "stored")}
        assert own == api(f"/models/{model}/layers/{line['layer']}/neurons/{line['neuron']}")
    command("import", file, "--database", other)
    assert hashes(other)[model] <= hashes(database)[model]
    command("import", file, "--database", other, "--name", "another")
    assert hashes(other)["another"] == hashes(other)[model]


def test_a_file_that_was_changed_is_refused(database: str, tmp_path: Path) -> None:
    """A line that was edited or lost gives one message, and no run."""
    file, other = tmp_path / "run.jsonl", f"sqlite:///{tmp_path / 'other.db'}"
    command("export", "toy", "--out", file, "--database", database)
    lines = file.read_bytes().splitlines(keepends=True)
    neurons = sum(json.loads(line)["type"] == "neuron" for line in lines)
    last = json.loads(lines[-1])["context_id"]
    first, second = map(json.loads, lines[1:3])
    first["stored"]["scalars"] = second["stored"]["scalars"]
    edited = json.dumps(first).encode() + b"\n"
    for wrong, message in (
        (lines[1:], "does not begin with a run"),
        ([], "is empty"),
        (lines[:1], "lacks layer 0's neuron 0, and what follows: it is cut off after line 1"),
        (lines[:4], "lacks layer 0's neuron 3"),
        (lines[:neurons], "lacks layer 1's neuron 3"),
        (lines[: neurons + 1], r"lacks context \d+, which examples are from"),
        (lines[:-1], f"lacks context {last}, which examples are from"),
        ([*lines[:3], *lines[4:]], r"Line 4 .* \(the next has to be 0/2\)"),
        ([*lines[:3], lines[3][:200]], "Line 4 .* is not JSON: .* The file is cut off in it"),
        ([*lines[:2], b"{}}\n"], "is not JSON"),
        ([lines[0], b'{"type":"unit"}\n'], "its type has to be neuron, and is 'unit'"),
        ([lines[0], b'{"type":"neuron","layer":0,"neuron":0}\n'], "it lacks 'stored'"),
        ([lines[0].replace(b'"widths"', b'"width"')], "Line 1 .*it lacks 'widths'"),
        ([lines[0].replace(b'"content_hash"', b'"hash"'), *lines[1:]], "has no content_hash"),
        (
            [lines[0].replace(b'"format": 1', b'"format": 91'), *lines[1:]],
            "does not begin with a run",
        ),
        ([lines[0], edited, *lines[2:]], "The copy has the content hash"),
    ):
        file.write_bytes(b"".join(wrong))
        with pytest.raises(Exception, match=message):
            command("import", file, "--database", other)
        engine = open_store(other, create=True)
        assert list_runs(engine) == []
        engine.dispose()


def test_copies_have_the_same_hash(
    database: str, new_postgres: NewDatabase, tmp_path: Path
) -> None:
    """A run goes to PostgreSQL and back, and into a file of its own that has no journal."""
    postgres, back = new_postgres(), f"sqlite:///{tmp_path / 'back.db'}"
    for model in RUNS:
        command("copy", model, "--to", postgres, "--database", database)
        command("copy", model, "--to", back, "--database", postgres)
    for model, found in hashes(back).items():
        assert found == hashes(postgres)[model]
        assert found <= hashes(database)[model]
    with pytest.raises(Exception, match="has this run already"):
        command("copy", "toy", "--to", back, "--database", database)
    file = tmp_path / "packed" / "run.db"
    file.parent.mkdir()
    command("pack", "toy", "--out", file, "--database", database)
    assert [path.name for path in file.parent.iterdir()] == ["run.db"]
    assert file.read_bytes()[18:20] == b"\x01\x01"  # no write-ahead log
    sent = file.read_bytes()
    with serving(f"sqlite:///file:{file}?mode=ro&uri=true") as client:  # as the command prints
        assert client.get("/toy/0/0").status_code == 200
    assert file.read_bytes() == sent
    assert [path.name for path in file.parent.iterdir()] == ["run.db"]
    assert hashes(f"sqlite:///{file}")["toy"] <= hashes(database)["toy"]
    with pytest.raises(Exception, match="exists already"):
        command("pack", "toy", "--out", file, "--database", database)


@pytest.mark.parametrize("model", RUNS)
def test_parquet_has_what_pages_have(database: str, api: Any, tmp_path: Path, model: str) -> None:
    """Statistics, examples, tokens and related neurons equal the JSON; contexts have all tokens."""
    command(
        *("export", model, "--format", "parquet", "--out", tmp_path / "run"),
        *("--database", database),
    )
    tables = {path.stem: pq.read_table(path).to_pylist() for path in (tmp_path / "run").iterdir()}
    contexts = {row["context_id"]: row for row in tables["contexts"]}
    assert tables["neurons"]
    for row in tables["neurons"]:
        place = {"layer": row["layer"], "neuron": row["neuron"]}
        page = api(f"/models/{model}/layers/{row['layer']}/neurons/{row['neuron']}")
        mine = {name: _of(rows, place) for name, rows in tables.items() if name != "contexts"}
        for name, value in page["stats"].items():
            if name != "peak_quantiles":
                assert row[name] == value, name
        assert row["effect_kurtosis"] == page["weights"]["logit_effects"]["kurtosis"]
        for kind in ("top", "bottom", "random"):
            stored = [example for example in mine["examples"] if example["kind"] == kind]
            wanted = page["examples"][kind]
            assert [one["rank"] for one in stored] == [one["rank"] for one in wanted]
            for example, other in zip(stored, wanted, strict=True):
                for name in ("peak", "peak_position", "trough", "context_id", "start", "gate"):
                    assert example[name] == other[name]
                assert example["activations"] == [
                    None if value is None else float(np.float32(value))
                    for value in other["activations"]
                ]
                context = contexts[example["context_id"]]
                end = example["start"] + len(other["token_ids"])
                assert context["token_ids"][example["start"] : end] == other["token_ids"]
                assert context["source"] == other["source"]
        effects = [t for t in mine["tokens"] if t["list"] == "logit"]
        for side in ("top", "bottom"):
            wanted = page["weights"]["logit_effects"][side]
            found = [t for t in effects if t["side"] == side]
            assert [(t["token"], t["token_id"], t["value"]) for t in found] == [
                (t["token"], t["token_id"], t["value"]) for t in wanted
            ]
        for name, wanted in (("together", page["together"]), ("alike", page["weights"]["alike"])):
            assert [
                (t["to_layer"], t["to_neuron"], t["value"])
                for t in mine["links"]
                if t["list"] == name
            ] == [(t["layer"], t["neuron"], t["value"]) for t in wanted]


def _of(rows: list[dict[str, Any]], place: dict[str, int]) -> list[dict[str, Any]]:
    return [row for row in rows if all(row[name] == value for name, value in place.items())]


def test_tensors_have_peaks_and_effects(database: str, api: Any, tmp_path: Path) -> None:
    """An array a layer and name, in the order of neurons."""
    file = tmp_path / "run.safetensors"
    command(*("export", "toy", "--format", "safetensors", "--out", file, "--database", database))
    arrays = load_file(file)
    for layer in (0, 1):
        for at, neuron in enumerate(arrays[f"{layer}.neurons"].tolist()):
            page = api(f"/models/toy/layers/{layer}/neurons/{neuron}")
            peaks = arrays[f"{layer}.top_peaks"][at]
            assert peaks[~np.isnan(peaks)].tolist() == [e["peak"] for e in page["examples"]["top"]]
            effects = page["weights"]["logit_effects"]
            ids = arrays[f"{layer}.logit_token_ids"][at]
            assert ids[ids >= 0].tolist() == [
                token["token_id"] for token in (*effects["top"], *effects["bottom"])
            ]
            assert arrays[f"{layer}.max"][at] == page["stats"]["max"]


def test_notes_are_exported_with_their_neuron(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All notes on a neuron of the set, newest first, as the API has them; none of another set."""
    url = copy_store(database, tmp_path / "noted.db")
    engine = open_store(url, create=False)
    notes.prepare(engine)
    for day, model in enumerate(("toy", "toy", "toy/heads"), 1):
        time = datetime(2026, 1, day, tzinfo=UTC)
        notes.add(engine, notes.Note(model, 0, 1, time, "Ada", f"note {day}"))
    engine.dispose()
    lines = command("export", "toy", "--fields", "notes", "--database", url).splitlines()
    written = [line["notes"] for line in map(json.loads, lines)]
    assert [[note["text"] for note in of] for of in written[:3]] == [[], ["note 2", "note 1"], []]
    folder = tmp_path / "folder"
    command("export", "toy", "--format", "neuronpedia", "--out", folder, "--database", url)
    (file,) = folder.rglob("explanations/*.gz")
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    assert [row["description"] for row in rows] == ["note 2", "note 1"]
    for row in rows:
        check("Explanation", row)
    tables = tmp_path / "tables"
    command("export", "toy", "--format", "parquet", "--out", tables, "--database", url)
    assert [
        (row["layer"], row["neuron"], row["time"].day, row["author"], row["text"])
        for row in pq.read_table(tables / "notes.parquet").to_pylist()
    ] == [(0, 1, 2, "Ada", "note 2"), (0, 1, 1, "Ada", "note 1")]
    rows = list(
        csv.DictReader(command("export", "toy", "--format", "csv", "--database", url).splitlines())
    )
    assert [row["note"] for row in rows[:3]] == ["", "note 2", ""]
    monkeypatch.setenv("NEURARIUM_NOTES_TOKEN", "a-token-of-readers-1")
    monkeypatch.setenv("NEURARIUM_NOTES", "true")
    with serving(url) as client:
        stream = client.get("/api/v1/models/toy/export?n=0/1").json()
        assert stream["notes"] == written[1]
        assert stream == client.get("/api/v1/models/toy/layers/0/neurons/1").json()


def test_a_choice_of_neurons_and_fields(database: str) -> None:
    """Layers, a query, a list and fields choose; without a query, neurons come in order."""
    place = ("--fields", "layer,neuron", "--database", database)

    def places(*choice: str) -> list[tuple[int, int]]:
        lines = command("export", "toy", *choice, *place).splitlines()
        return [tuple(json.loads(line).values()) for line in lines]

    everything = places()
    assert everything == sorted(everything)
    assert places("--layers", "1") == [place for place in everything if place[0] == 1]
    assert places("--list", "1/1,0/0") == [(1, 1), (0, 0)]
    found = places("--query", "max>2 sort:-max")
    assert found
    assert set(found) < set(everything)
    table = command("export", "toy", "--format", "csv", *place).splitlines()
    assert table == ["layer,neuron", *(f"{layer},{neuron}" for layer, neuron in everything)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--format", "xml"), "There is no format 'xml'"),
        (("--format", "parquet"), "parquet is a folder of files"),
        (("--format", "openai", "--out", "x", "--fields", "layer"), "--fields is for"),
        (("--fields", "loud"), "There is no field “loud”"),
        (("--layers", "9"), "there is no layer 9"),
        (("--list", "0/99"), "there is no neuron 99"),
        (("--list", "0/0", "--layers", "0"), "leave out layers and query"),
        (("--query", "max>1000"), "there is nothing to export"),
    ],
)
def test_mistakes_are_one_line(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: Any, message: str
) -> None:
    """A mistake is told before anything is written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=message):
        command("export", "toy", *words, "--database", database)
    assert list(tmp_path.iterdir()) == []
