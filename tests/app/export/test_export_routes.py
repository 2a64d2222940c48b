"""The API's streams, fields and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from app.export import routes

TOY = "/api/v1/models/toy"


def test_streams_equal_the_json(client: TestClient) -> None:
    """Lines are the API's objects, tables the rows of the search by statistics."""
    lines = client.get(f"{TOY}/export", params={"layers": "0"}).text.splitlines()
    for line in map(json.loads, lines):
        assert line == client.get(f"{TOY}/layers/0/neurons/{line['neuron']}").json()
    rows = client.get(f"{TOY}/neurons", params={"q": "sort:neuron"}).json()["items"]
    table = client.get(f"{TOY}/export?format=parquet")
    flat = [
        {name: value for name, value in row.items() if name not in ("computed", "partner")}
        for row in rows
    ]
    assert pq.read_table(io.BytesIO(table.content)).to_pylist() == flat
    text = client.get(f"{TOY}/export?format=csv&fields=layer,neuron,max").text
    assert [float(row["max"]) for row in csv.DictReader(io.StringIO(text))] == [
        row["max"] for row in rows
    ]
    assert 'filename="toy-run-' in table.headers["content-disposition"]


def test_a_stream_is_bounded(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many neurons are refused with the way to get them."""
    monkeypatch.setitem(routes.MOST, "jsonl", 1)
    answer = client.get(f"{TOY}/export")
    assert answer.status_code == 422
    assert "one answer has at most 1 as jsonl" in answer.json()["detail"]
    assert client.get(f"{TOY}/export", params={"n": "0/0"}).status_code == 200


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
def test_a_stream_comes_in_parts_and_holds_no_connection(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    """The parts make the same file, whatever their size; between two of them the database is
    free."""
    params = {"format": format, "fields": "layer,neuron,max,peak_token"}
    if format == "jsonl":
        params["fields"] = "layer,neuron,stats.max"
    whole = client.get(f"{TOY}/export", params=params).content
    monkeypatch.setitem(routes._AT_ONCE, format, 3)
    store, most = client.app.state.site.store, []  # type: ignore[attr-defined]
    reading = store.reading

    @contextmanager
    def counted(*asked: Any) -> Iterator[Any]:
        most.append(1)
        with reading(*asked) as opened:
            yield opened
        most.append(-1)

    monkeypatch.setattr(store, "reading", counted)
    parts = client.get(f"{TOY}/export", params=params).content
    assert max(accumulate(most)) == 1
    assert len(most) >= 2 * 4, "one to choose, and one for each part"
    if format == "parquet":
        one, other = (pq.read_table(io.BytesIO(each)) for each in (whole, parts))
        assert other.equals(one)
        assert pq.ParquetFile(io.BytesIO(parts)).num_row_groups >= 3
    else:
        assert parts == whole


def test_a_stream_nobody_reads_is_not_made(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEAD has the headers of GET, and costs nothing."""
    got = client.get(f"{TOY}/export", params={"n": "0/0"})
    made: list[object] = []
    monkeypatch.setattr(routes, "_Parts", lambda *one: made.append(one))
    head = client.head(f"{TOY}/export")
    assert (head.status_code, head.content, made) == (200, b"", [])
    assert head.headers.items() >= got.headers.items()


def test_fields_are_picked(client: TestClient) -> None:
    """`fields` leaves only what it names, also inside objects and lists."""
    whole = client.get(f"{TOY}/layers/0/neurons/0").json()
    few = client.get(
        f"{TOY}/layers/0/neurons/0", params={"fields": "layer,stats.max,examples.top.peak"}
    ).json()
    assert few == {
        "layer": 0,
        "stats": {"max": whole["stats"]["max"]},
        "examples": {"top": [{"peak": e["peak"]} for e in whole["examples"]["top"]]},
    }
    listed = client.get(f"{TOY}/layers/0/neurons", params={"fields": "neuron"}).json()
    assert set(listed) == {"items", "next"}
    assert all(set(item) == {"neuron"} for item in listed["items"])
    found = client.get(f"{TOY}/neurons", params={"fields": "max"}).json()
    assert found["total"] == len(found["items"])
    assert all(set(item) == {"max"} for item in found["items"])


@pytest.mark.parametrize("fields", ["loud", "stats.loud", "layer.max", ","])
def test_fields_that_do_not_exist(client: TestClient, fields: str) -> None:
    """They are named."""
    answer = client.get(f"{TOY}/layers/0/neurons/0", params={"fields": fields})
    assert answer.status_code == 422
    assert "field" in answer.json()["detail"]


@pytest.mark.parametrize("path", [f"{TOY}/layers/0/neurons", f"{TOY}/neurons"])
def test_listings_as_csv(client: TestClient, path: str) -> None:
    """A request that accepts CSV first gets the same rows, under another ETag."""
    plain = client.get(path)
    table = client.get(path, headers={"accept": "text/csv"})
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert table.headers["etag"] != plain.headers["etag"]
    rows = list(csv.DictReader(io.StringIO(table.text)))
    items = plain.json()["items"]
    assert [float(row["max"]) for row in rows] == [item["max"] for item in items]
    assert [row["peak_token"] for row in rows] == [item["peak_token"] for item in items]
    both = client.get(path, headers={"accept": "application/json, text/csv"})
    assert both.json() == plain.json()
