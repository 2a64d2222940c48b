"""Attention heads where other units are: in searches, lists, comparisons, copies of a store."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

import neurarium
from indexer.errors import NeurariumError
from indexer.run.index import index
from indexer.store import schema
from indexer.store.database import open_store
from indexer.store.runs import delete_run
from tests.app.heads.conftest import API
from tests.conftest import Silent, serving
from tests.helpers.html_reader import elements
from tests.helpers.tiny_heads import SMALL_RUN


def test_heads_are_found_by_the_tokens_of_their_pairs(
    client: TestClient, pages: dict[tuple[int, int], dict[str, Any]]
) -> None:
    """As query and as key: every head that lists the token, the most pairs first."""
    search = "/api/v1/models/demo/sets/heads/search/token"
    for role, side in (("query", "queries"), ("key", "keys")):
        token_id = pages[1, 2]["tokens"][side][0]["token_id"]
        expected = sorted(
            (-entry["count"], *place)
            for place, page in pages.items()
            for entry in page["tokens"][side]
            if entry["token_id"] == token_id
        )
        found = client.get(search, params={"token_id": token_id, "as": role}).json()
        assert [(-e["value"], e["layer"], e["neuron"]) for e in found["items"]] == expected
        assert {"role": role, "neurons": len(expected)} in found["roles"]
        parts = client.get(search, params={"token_id": token_id, "as": role, "limit": 1}).json()
        more = {"token_id": token_id, "as": role, "limit": 100, "cursor": parts["next"]}
        if len(expected) > 1:
            rest = client.get(search, params=more).json()["items"]
            assert parts["items"] + rest == found["items"]
    text = client.get("/demo/heads/1/2").text
    assert f"token_id={token_id}&amp;as=key" in text
    assert (
        "Heads that attend to it"
        in client.get(f"/demo/heads/search?token_id={token_id}&as=key").text
    )


def test_heads_are_found_by_the_text_of_their_pairs(
    client: TestClient, pages: dict[tuple[int, int], dict[str, Any]]
) -> None:
    """As query and as key: contexts with the text, each with the heads whose largest pair there
    begins or ends on it."""
    search = "/api/v1/models/demo/sets/heads/search/text"
    moved = [(p, e) for p, page in pages.items() for e in page["examples"]["moved"]]
    for role in ("query", "key"):
        words = [(e["tokens"][e[role] - e["start"]].strip(), p, e) for p, e in moved]
        word, place, example = next(w for w in words if re.fullmatch("[A-Za-z]{3,}", w[0]))
        found = client.get(search, params={"q": word, "as": role, "limit": 100}).json()
        assert found["role"] == role
        (item,) = (i for i in found["items"] if i["context_id"] == example["context_id"])
        here = [(p, e) for p, e in moved if e["context_id"] == example["context_id"]]
        assert (item["top"], item["bottom"], item["others"]) == (len(here), 0, 0)
        assert item["on_match"] >= 1
        listed = {(n["layer"], n["neuron"]): n["position"] for n in item["neurons"]}
        assert listed.items() <= {(p, e[role]) for p, e in here}
        assert listed[place] == example[role]
        assert place in {(n["layer"], n["neuron"]) for n in found["neurons"]}
        first = client.get(search, params={"q": word, "as": role, "limit": 1}).json()
        if first["next"]:
            other = {"q": word, "limit": 1, "cursor": first["next"]}
            assert client.get(search, params=other).status_code == 422
        text = client.get(f"/demo/heads/search?text={word}&as={role}").text
        assert f"as={role}&amp;sort=top&amp;text={word}" in text
    assert "role" not in client.get(search, params={"q": word}).json()
    assert client.get(f"/demo/heads/search?text={word}&as=peak").status_code == 422


def test_heads_are_known_wherever_units_are(
    client: TestClient,
    pages: dict[tuple[int, int], dict[str, Any]],
    heads_store: tuple[str, Path],
) -> None:
    """Statistics, comparison, list, card, go-to box, and the Python package."""
    numbers = client.get("/demo/heads/neurons?q=induction>0").text
    assert "attention to tokens right after an earlier copy" in numbers
    assert "<code>in_out_cosine</code>" not in numbers
    assert "<code>induction&gt;0.5</code>" in numbers
    found = client.get("/api/v1/models/demo/sets/heads/neurons?q=max>0").json()["items"]
    for row in found:
        own = pages[row["layer"], row["neuron"]]["scores"]
        assert row["computed"]["induction"] == own["repeated"]["induction"]
        assert row["computed"]["copying"] == own["copying"]
    both = client.get("/api/v1/compare?a=demo/heads/1/2&b=demo/heads/0/3").json()["scores"]
    a, b = pages[1, 2]["scores"], pages[0, 3]["scores"]
    assert both["effect"] == [a["repeated"]["effect"], b["repeated"]["effect"]]
    assert both["entropy_text"] == [a["text"]["entropy"], b["text"]["entropy"]]
    text = client.get("/compare?a=demo/heads/1/2&b=demo/heads/0/3").text
    assert ">Head A</label>" in text
    assert "previous token, on the sample" in text
    assert "<h1>A list of heads</h1>" in client.get("/list?n=demo/heads/1/2").text
    with serving(heads_store[0], embed="https://slides.example") as embedded:
        card = embedded.get("/demo/heads/1/2?embed=card").text
    assert card.count('<li class="pair"') == len(pages[1, 2]["examples"]["moved"])
    assert "<form" not in card
    for typed in ("demo L1H2", "demo/heads/1/2", "L1H2"):
        there = client.get("/go", params={"to": typed}, follow_redirects=False)
        assert there.headers["location"] == "/demo/heads/1/2"
    with neurarium.open(heads_store[0]) as store:
        model = store.model("demo", units="heads")
        assert [row["copying"] for row in model.heads.to_dicts()] == [
            page["scores"]["copying"] for page in pages.values()
        ]
        head = model.head(1, 2)
        # The store may have a table of notes by now, from another test; the server shows none.
        assert head.to_dict() | {"notes": None} == pages[1, 2]
        shown = head._repr_html_()
        assert shown.startswith('<iframe sandbox="" srcdoc="')
        assert shown.count("<") == 2  # the frame's own tags: all else is in its attribute
        document = unescape(shown.partition('srcdoc="')[2].partition('" title=')[0])
        assert not re.search(r'<script|href="|src=|url\(http', document)
        assert len(elements(document).all("li", "pair")) == card.count('<li class="pair"')
        example = head.examples.moved[0]
        pattern = head.pattern(example.context_id)
        assert pattern[example.query, example.key] == pytest.approx(example.attention, abs=1e-4)
        with pytest.raises(NeurariumError, match="9"):
            model.head(1, 9)


def test_a_run_of_heads_is_the_same_everywhere_and_can_be_deleted(
    heads_store: tuple[str, Path], postgres_url: str
) -> None:
    """PostgreSQL has the same content; deleting a run leaves nothing of its heads."""
    index(SMALL_RUN, postgres_url, heads_store[1], Silent())
    hashes = []
    for url in (heads_store[0], postgres_url):
        engine = open_store(url, create=False)
        with engine.connect() as connection:
            hashes.append(connection.execute(select(schema.runs.c.content_hash)).scalar_one())
        engine.dispose()
    assert hashes[0] == hashes[1]
    engine = open_store(postgres_url, create=False)
    assert delete_run(engine, 1)
    with engine.connect() as connection:
        for table in (schema.heads, schema.head_patterns, schema.neuron_columns):
            assert connection.scalar(select(func.count()).select_from(table)) == 0
    engine.dispose()


def test_heads_are_found_by_their_scores(client: TestClient) -> None:
    """The search by statistics compares and sorts by them, and says them."""
    listed = client.get(API).json()["heads"]
    cut = sorted(row["scores"]["repeated"]["previous_token"] for row in listed)[6]
    found = client.get(
        "/api/v1/models/demo/sets/heads/neurons", params={"q": f"previous_token>={cut!r}"}
    ).json()
    expected = sorted(
        (row for row in listed if row["scores"]["repeated"]["previous_token"] >= cut),
        key=lambda row: -row["scores"]["repeated"]["previous_token"],
    )
    assert [(row["layer"], row["neuron"]) for row in found["items"]] == [
        (row["layer"], row["head"]) for row in expected
    ]
    assert [row["computed"]["previous_token"] for row in found["items"]] == [
        row["scores"]["repeated"]["previous_token"] for row in expected
    ]
    page = client.get("/demo/heads/neurons", params={"q": "sort:-copying"})
    assert page.status_code == 200
    assert "Copying" in page.text
