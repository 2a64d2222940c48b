"""The differences between two runs of a model, against what the neurons' own pages say."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from indexer.config import IndexConfig
from indexer.run.index import index
from indexer.store import schema
from indexer.store.database import open_store
from indexer.store.packing.codec import unpack_arrays, unpack_token_ids
from tests.conftest import Silent, serving
from tests.helpers.fixture_store import FIRST_TOY, TOY, TOY_PRE
from tests.helpers.html_reader import read

API = "/api/v1/models/toy"
SORTS = ["correlation", "shared", "max", "density", "neuron"]


def neuron(client: TestClient, run: int, row: Any) -> Any:
    """A neuron of one run as its own page has it."""
    path = f"{API}/layers/{row['layer']}/neurons/{row['neuron']}"
    return client.get(path, params={"run": run}).json()


def texts(page: Any) -> set[tuple[int, ...]]:
    """The top examples of a neuron, by their tokens."""
    return {tuple(one["token_ids"]) for one in page["examples"]["top"]}


def test_each_neuron_is_compared_with_itself(any_client: TestClient) -> None:
    """Correlation as the comparison of both has it, shared examples and changes as the pages."""
    found = any_client.get(f"{API}/differences", params={"a": TOY, "b": FIRST_TOY}).json()
    assert (found["a"]["id"], found["b"]["id"]) == (TOY, FIRST_TOY)
    assert found["total"] == len(found["items"]) == 8
    for row in found["items"]:
        a, b = (neuron(any_client, run, row) for run in (TOY, FIRST_TOY))
        place = f"{row['layer']}/{row['neuron']}"
        both = any_client.get(
            "/api/v1/compare", params={"a": f"/toy/{place}?run={TOY}", "b": f"/toy/{place}?run=1"}
        ).json()
        value = both["correlation"] and both["correlation"]["value"]
        assert row["correlation"] == (None if value is None else pytest.approx(value, abs=1e-9))
        top_a, top_b = texts(a), texts(b)
        expected = len(top_a & top_b) / len(top_a) if top_a else None
        assert row["shared"] == expected
        assert (row["max_a"], row["max_b"]) == (a["stats"]["max"], b["stats"]["max"])
        assert (row["density_a"], row["density_b"]) == (
            a["stats"]["density"],
            b["stats"]["density"],
        )


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_every_order_has_all_neurons(client: TestClient, sort: str, order: str) -> None:
    """Page by page, unknown values last; ties by layer and neuron."""
    query = {"a": TOY, "b": FIRST_TOY, "sort": sort, "order": order, "limit": 3}
    items: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        page = client.get(f"{API}/differences", params=query | more).json()
        items += page["items"]
        cursor = page["next"]
    assert len({(row["layer"], row["neuron"]) for row in items}) == 8

    def key(row: Any) -> float:
        if sort == "neuron":
            return float(row["layer"] * 4 + row["neuron"])
        if sort in ("max", "density"):
            return float(np.abs(row[f"{sort}_b"] - row[f"{sort}_a"]))
        return float("nan") if row[sort] is None else float(row[sort])

    sign = 1 if order == "asc" else -1
    keys = [sign * key(row) for row in items]
    ranked = [
        (np.inf if np.isnan(one) else one, row["layer"], row["neuron"])
        for one, row in zip(keys, items, strict=True)
    ]
    assert ranked == sorted(ranked)


def test_a_run_is_equal_to_itself(client: TestClient) -> None:
    """Everything correlates with itself, shares its examples and does not change."""
    rows = client.get(f"{API}/differences", params={"a": TOY, "b": TOY}).json()["items"]
    for row in rows:
        assert row["correlation"] in (None, pytest.approx(1.0))
        assert row["shared"] in (None, 1.0)
        assert row["max_a"] == row["max_b"]


def test_correlations_are_of_the_sample(demo_store: str) -> None:
    """Of a run with itself, really indexed: 1 for every neuron whose peaks vary, and most do."""
    with serving(demo_store) as client:
        query = {"a": 1, "b": 1, "layer": 1, "limit": 1000}
        rows = client.get("/api/v1/models/demo/differences", params=query).json()["items"]
    known = [row["correlation"] for row in rows if row["correlation"] is not None]
    assert len(known) > len(rows) / 2
    assert known == pytest.approx([1.0] * len(known))


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three runs of one model: the second with another seed and dtype and the text in other
    contexts, the third with few common contexts."""
    folder = tmp_path_factory.mktemp("seeds")
    url = f"sqlite:///{folder / 'runs.db'}"
    base: dict[str, Any] = {"model": "demo", "name": "one", "top_k": 3, "bottom_k": 2}
    for other in (
        {"max_tokens": 6_000, "sample": 40},
        {"max_tokens": 5_500, "sample": 44, "seed": 1, "dtype": "bfloat16"},
        {"max_tokens": 3_000, "sample": 10},
    ):
        index(IndexConfig(**base, **other), url, folder / "cache", Silent())
    return url


def test_two_samples_are_compared_over_their_common_contexts(seeds: str) -> None:
    """Each neuron's correlation again, from the store: contexts are paired by their tokens."""
    sides = []
    engine = open_store(seeds, create=False)
    with engine.connect() as connection:
        for run in (1, 2):
            table = schema.contexts
            rows = connection.execute(select(table).where(table.c.run_id == run)).all()
            tokens = {row.context_id: tuple(unpack_token_ids(row.token_ids)) for row in rows}
            provenance = connection.scalar(
                select(schema.runs.c.provenance).where(schema.runs.c.id == run)
            )
            ids = provenance["sample"]["compared_contexts"]
            low, high = schema.key_range(run)
            table = schema.neuron_arrays
            query = select(table).where(table.c.neuron_id.between(low, high))
            peaks = [
                unpack_arrays(row.packed)["sample_peaks"].astype(float)
                for row in connection.execute(query.order_by(table.c.neuron_id))
            ]
            sides.append(([tokens.get(one) for one in ids], peaks))
    engine.dispose()
    (of_a, peaks_a), (of_b, peaks_b) = sides
    pairs = [
        (i, j) for i, one in enumerate(of_a) for j, other in enumerate(of_b) if one and one == other
    ]
    assert 30 <= len(pairs) < min(len(of_a), len(of_b)), "some of both"
    assert [i for i, _ in pairs] != [j for _, j in pairs]
    with serving(seeds) as client:
        query = {"a": 1, "b": 2, "sort": "neuron", "limit": 1000}
        found = client.get("/api/v1/models/one/differences", params=query).json()
        page = read(client, "/one/differences?a=1&b=2")
        assert f"over the {len(pairs)} contexts that both samples have" in page.text
        (head,) = [th for th in page.all("th") if "aria-sort" in th.attributes]
        assert head.text.strip().startswith("Correlation")
    assert found["contexts"] == len(pairs)
    at_a, at_b = map(list, zip(*pairs, strict=True))
    known = 0
    for row, one, other in zip(found["items"], peaks_a, peaks_b, strict=False):
        if np.ptp(one[at_a]) and np.ptp(other[at_b]):
            expected = np.corrcoef(one[at_a], other[at_b])[0, 1]
            assert row["correlation"] == pytest.approx(expected, abs=1e-9)
            known += expected < 1
        else:
            assert row["correlation"] is None
    assert known > len(found["items"]) / 2


def test_too_few_common_contexts_have_no_correlation(seeds: str) -> None:
    """The page says how many there are, and sorts by shared examples."""
    with serving(seeds) as client:
        found = client.get("/api/v1/models/one/differences", params={"a": 1, "b": 3}).json()
        page = read(client, "/one/differences?a=1&b=3")
    assert found["contexts"] < found["fewest"] == 30
    assert {row["correlation"] for row in found["items"]} == {None}
    assert f"have {found['contexts'] or 'no'} context" in page.text
    assert "and 30 are needed" in page.text
    (head,) = [th for th in page.all("th") if "aria-sort" in th.attributes]
    assert head.text.strip().startswith("Shared")
    assert found["sort"] == "shared"


def test_runs_over_different_text_are_sorted_by_the_change_of_max(tmp_path: Path) -> None:
    """In JSON, in CSV and on the page, the largest change first."""
    url, text = f"sqlite:///{tmp_path / 'runs.db'}", tmp_path / "other.jsonl"
    text.write_text("".join(json.dumps({"text": f"Number {i}. " * 40}) + "\n" for i in range(9)))
    base: dict[str, Any] = {"model": "demo", "name": "one", "top_k": 3, "bottom_k": 2, "sample": 4}
    for other in ({"max_tokens": 1_000}, {"corpus": str(text), "ctx_len": 128}):
        index(IndexConfig(**base | other), url, tmp_path / "cache", Silent())
    with serving(url) as client:
        path = "/api/v1/models/one/differences"
        found = client.get(path).json()
        lines = client.get(path, headers={"Accept": "text/csv"}).text
        page = read(client, "/one/differences")
    assert (found["sort"], found["order"], found["contexts"]) == ("max", "desc", 0)
    changes = [abs(row["max_b"] - row["max_a"]) for row in found["items"]]
    assert changes == sorted(changes, reverse=True)
    names = [f"{row['layer']}/{row['neuron']}" for row in found["items"]]
    rows = csv.DictReader(io.StringIO(lines))
    assert [f"{row['layer']}/{row['neuron']}" for row in rows] == names
    assert [link.text for link in page.all("a", "name")] == names


def test_the_page_shows_its_json(client: TestClient) -> None:
    """By default the default run and the newest other one at its hook point."""
    page = read(client, "/toy/differences")
    found = client.get(f"{API}/differences").json()
    assert (found["a"]["id"], found["b"]["id"]) == (TOY, FIRST_TOY)
    names = [link.text for link in page.all("a", "name")]
    assert names == [f"{row['layer']}/{row['neuron']}" for row in found["items"]]
    (heading,) = [th for th in page.all("th") if "aria-sort" in th.attributes]
    assert heading.text.split() == ["Correlation", "↑"]
    links = [a.attributes["href"] for a in read(client, "/toy").all("a")]
    assert f"/toy/differences?a={TOY}&b={FIRST_TOY}" in links


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("toy/differences?a=3&b=4", 422, "different neurons"),
        ("wide/differences", 404, "has only one run"),
        ("toy/differences?layer=2", 404, "no layer 2"),
        ("toy/differences?b=99", 404, "no run 99"),
        ("wide/differences?b=1", 404, "Run 1 is of model 'toy', not of 'wide'"),
        ("none/differences", 404, "no model"),
        ("toy/differences?cursor=x", 422, "cursor"),
    ],
)
def test_what_cannot_be_compared_is_said(
    client: TestClient, path: str, status: int, said: str
) -> None:
    """In one line, as a page and as JSON."""
    assert TOY_PRE == 4
    answer = client.get(f"/api/v1/models/{path}")
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert read(client, f"/{path}", status)
