"""Every list of the API as CSV and with chosen fields, compared with its JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.conftest import fill
from tests.helpers.note_servers import keeping, write

NOTES = "/api/v1/models/toy/layers/0/neurons/0/notes"
CSV = {"Accept": "text/csv"}
LISTS = ("items", "heads", "dots", "splits")
"""The field with the list: one of these in every answer that is around a list."""
PLACE = {"model": "toy", "layer": 0, "neuron": 0, "context": 2}
HEAD = {"model": "demo", "layer": 0, "head": 1, "neuron": 1, "set": "heads"}
ASKED: dict[str, dict[str, Any]] = {
    "/api/v1/compare": {"a": "toy/0/0", "b": "1/1"},
    "/api/v1/list": {"n": "toy/0/0,9/9"},
    "search/text": {"q": "the"},
    "search/token": {"token_id": 5},
    "search/split": {"text": "thecat"},
    "tokens": {"prefix": "t"},
}
"""What an address needs, by its end."""
OWN_FORM = ("/export",)
"""Addresses that ask for their form with a parameter."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server over the hand-written store, with two notes on a neuron, the newest in two lines."""
    with (
        fill(f"sqlite:///{tmp_path_factory.mktemp('listings') / 'store.db'}") as url,
        keeping(url) as client,
    ):
        write(client, "older", path=NOTES)
        write(client, "capitals,\n“quoted”", path=NOTES)
        yield client


@pytest.fixture(scope="module")
def demo(heads_store: tuple[str, Path]) -> Iterator[TestClient]:
    """A server over a run of attention heads."""
    with keeping(heads_store[0]) as client:
        yield client


def addresses(client: TestClient, place: dict[str, Any]) -> list[tuple[str, dict[str, Any], bool]]:
    """The addresses under /api of what `place` has, with what they need, and whether they are
    documented to answer CSV too."""
    found = []
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        if "get" not in operations or not path.startswith("/api/") or path.endswith(OWN_FORM):
            continue
        content = operations["get"]["responses"]["200"]["content"]
        asked = next((query for end, query in ASKED.items() if path.endswith(end)), {})
        try:
            found.append((path.format(**place, run=1), asked, "text/csv" in content))
        except KeyError:
            continue
    return found


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """An object with a value for each path of fields."""
    if not isinstance(value, dict):
        return {name: value}
    return {
        path: leaf
        for key, inner in value.items()
        for path, leaf in flat(inner, f"{name}.{key}" if name else key).items()
    }


def is_cell(cell: str, value: Any) -> bool:
    """Whether a cell says a value of the JSON."""
    if value is None:
        return cell == ""
    if isinstance(value, bool):
        return cell == str(value)
    if isinstance(value, (int, float)):
        return float(cell) == value
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in value]
        joined = all(isinstance(part, str) for part in parts) and "found" in (value or [{}])[0]
        return cell == "".join(map(str, parts)) if joined else json.loads(cell) == value
    return bool(cell == value)


def check(client: TestClient, path: str, query: dict[str, Any], listed: bool) -> int:
    """Compare an answer as CSV with the same as JSON. Returns the number of rows."""
    plain = client.get(path, params=query)
    assert plain.status_code == 200, (path, plain.text)
    page = plain.json()
    (of,) = [name for name in LISTS if name in page] or [None]
    assert listed == (of is not None), path
    table = client.get(path, params=query, headers=CSV)
    if of is None:
        assert table.status_code == 406, path
        assert table.json()["error"] == "not_acceptable"
        assert client.get(path, params=query, headers={"Accept": "text/csv, */*"}).json() == page
        return 0
    assert table.headers["content-type"] == "text/csv; charset=utf-8", path
    assert table.headers["etag"] != plain.headers["etag"]
    rows = list(csv.DictReader(io.StringIO(table.text, newline="")))
    assert len(rows) == len(page[of]), path
    for row, item in zip(rows, page[of], strict=True):
        leaves = flat(item)
        # An object that is null is a column for each of its fields.
        inside = {name.rsplit(".", depth)[0] for name in row for depth in range(1, 4)}
        missing = {name for name, value in leaves.items() if name not in row and value is not None}
        assert missing == set(), (path, missing)
        for name, cell in row.items():
            assert is_cell(cell, leaves.get(name)), (path, name, cell, leaves.get(name))
        assert all(name in row or name in inside or leaves[name] is None for name in leaves)
    wrong = client.get(path, params=query | {"fields": "loud"})
    assert wrong.status_code == 422, path
    assert "loud" in wrong.json()["detail"]
    if rows:
        names = list(page[of][0])[:2]
        asked = query | {"fields": ",".join(names)}
        few = client.get(path, params=asked).json()
        assert [set(item) for item in few[of]] == [
            {name for name in names if name in item} for item in page[of]
        ]
        assert {name: few[name] for name in few if name != of} == {
            name: page[name] for name in page if name != of
        }
        head = client.get(path, params=asked, headers=CSV).text.splitlines()[0].split(",")
        assert {name.split(".")[0] for name in head} <= set(names)
    return len(rows)


def test_every_list_of_neurons(toy: TestClient) -> None:
    """Of all addresses without a set of units: the same rows, or 406."""
    found = [one for one in addresses(toy, PLACE) if not one[0].endswith("/heads")]
    rows = {path: check(toy, path, query, listed) for path, query, listed in found}
    assert sum(count > 0 for count in rows.values()) >= 12, rows


def test_every_list_of_heads(demo: TestClient) -> None:
    """Of the addresses of heads, and of a set of units."""
    found = [
        (path, query | ({"token": " the"} if "search/token" in path else {}), listed)
        for path, query, listed in addresses(demo, HEAD)
        if ("/sets/" in path or "/heads" in path) and "picture" not in path
    ]
    asked = [
        (path, {key: value for key, value in query.items() if key != "token_id"}, listed)
        for path, query, listed in found
        if not path.endswith("differences")
    ]
    rows = {path: check(demo, path, query, listed) for path, query, listed in asked}
    assert sum(count > 0 for count in rows.values()) >= 5, rows


def test_units_in_lists_have_their_newest_note(toy: TestClient) -> None:
    """The text of the newest note on a unit, and nothing for units without; a new note changes the
    ETags of lists."""
    newest = "capitals,\n“quoted”"
    lists = [
        ("/api/v1/models/toy/layers/0/neurons", {}),
        ("/api/v1/models/toy/neurons", {"q": "sort:-max"}),
        ("/api/v1/models/toy/gallery", {}),
        ("/api/v1/models/toy/search/token", {"token_id": 5}),
        ("/api/v1/models/toy/contexts/2", {}),
        ("/api/v1/models/toy/differences", {}),
        ("/api/v1/list", {"n": "toy/0/0,toy/1/1,9/9"}),
    ]
    answers = [toy.get(path, params=query) for path, query in lists]
    seen = 0
    for answer in answers:
        for item in answer.json()["items"]:
            unit = item["neuron"] if isinstance(item.get("neuron"), dict) else item
            if (unit.get("layer"), unit.get("neuron")) == (0, 0):
                assert unit["note"] == newest, answer.url
                seen += 1
            else:
                assert "note" not in (unit or {}), answer.url
    assert seen >= 6
    table = toy.get(lists[0][0], headers=CSV).text
    assert [row["note"] for row in csv.DictReader(io.StringIO(table, newline=""))] == [
        newest,
        *[""] * (table.count("\n") - 3),
    ]
    assert table.splitlines()[0].endswith(",note")
    exported = toy.get("/api/v1/models/toy/export", params={"format": "csv", "n": "0/0,0/1"}).text
    rows = list(csv.DictReader(io.StringIO(exported, newline="")))
    assert [row["note"] for row in rows] == [newest, ""]
    write(toy, "elsewhere", path="/api/v1/models/toy/layers/1/neurons/0/notes")
    for (path, query), before in zip(lists, answers, strict=True):
        assert toy.get(path, params=query).headers["etag"] != before.headers["etag"], path


def test_a_field_inside_an_object_is_found_by_its_name(demo: TestClient) -> None:
    """The error of a bare name says its paths; other names get the fields there are."""
    path = "/api/v1/models/demo/heads"
    said = demo.get(path, params={"fields": "layer,head,induction"}).json()["detail"]
    assert "write `scores.repeated.induction` or `scores.text.induction`" in said
    said = demo.get(path, params={"fields": "loud"}).json()["detail"]
    assert "choose from layer, head" in said
    answer = demo.get(path, params={"fields": "scores.repeated.induction"})
    assert answer.status_code == 200
