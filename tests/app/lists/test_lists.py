"""Lists of neurons: an address is all there is of one, and few SELECTs read it."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import Engine, event
from starlette.testclient import TestClient

from app.errors import Invalid
from app.lists import queries
from app.lists.entries import LIMIT, entries, spelled, without_each
from app.reading.store import Store
from indexer.store.database import open_store
from tests.conftest import serving
from tests.helpers.fixture_store import FIRST_TOY, SCRIPT, TOY, TOY_PRE, ZEBRA, RunOf, wide_layer
from tests.helpers.html_reader import read


def listed(client: TestClient, n: str, **query: str) -> Any:
    """The JSON of a list."""
    response = client.get("/api/v1/list", params={"n": n, **query})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    ("n", "short"),
    [
        ("demo/1/10,demo/1/11,demo/0/3", "demo/1/10,1/11,0/3"),
        ("demo/1/10,1/11,other/1/2,1/3,demo/0/0", "demo/1/10,1/11,other/1/2,1/3,demo/0/0"),
        ("demo/1/10, L1N11 ,,demo/1/10", "demo/1/10,1/11"),
        ("/demo/1/10?run=3,0/3,demo/1/10,0/3", "/demo/1/10?run=3,0/3,demo/1/10,0/3"),
        ("demo/1/10,what?,1/11", "demo/1/10,what?,1/11"),
        ("http://x.example/demo/1/10?run=3&view=context", "/demo/1/10?run=3"),
        ("m blocks.0.no.hook 1,0/2,m/0/2", "m blocks.0.no.hook 1,m blocks.0.no.hook 2,m/0/2"),
        ("1/2", "1/2"),
        ("", ""),
    ],
)
def test_a_list_is_read_and_written(n: str, short: str) -> None:
    """In short form a model is named once; what was written is read as the same."""
    found = [entry.text for entry in entries(n)]
    assert spelled(found) == short
    assert [entry.text for entry in entries(short)] == found


def test_each_is_left_out_in_turn() -> None:
    """The list without one still says of which model the others are."""
    texts = [entry.text for entry in entries("demo/1/10,1/11,other/0/3")]
    assert without_each(texts) == [
        "demo/1/11,other/0/3",
        "demo/1/10,other/0/3",
        "demo/1/10,1/11",
    ]


def test_there_is_a_limit(any_client: TestClient) -> None:
    """150 neurons are a list, and the 151st is an error that says how many there can be."""
    many = "wide/0/0," + ",".join(f"0/{i}" for i in range(1, LIMIT))
    assert len(listed(any_client, many)["items"]) == LIMIT
    assert len(listed(any_client, f"{many},0/0")["items"]) == LIMIT, "one that is there twice"
    with pytest.raises(Invalid, match="150 neurons at most, and this one has 151"):
        entries(f"{many},1/0")
    for path in ("/list", "/api/v1/list"):
        response = any_client.get(path, params={"n": f"{many},1/0"})
        assert response.status_code == 422
        assert "150 neurons at most" in response.text
    assert any_client.get("/list", params={"n": many, "add": "1/0"}).status_code == 422


def test_rows_are_as_on_other_pages(any_client: TestClient) -> None:
    """A row says what the layer's list and the neuron's page say, of any model and run."""
    n = f"toy/0/0,1/1,Zebra_2.0/0/1,/toy/0/1?run={TOY_PRE}"
    page = listed(any_client, n)
    assert page["n"] == n
    for row, model, layer, index, run in zip(
        page["items"],
        ("toy", "toy", "Zebra_2.0", "toy"),
        (0, 1, 0, 0),
        (0, 1, 1, 1),
        (None, None, None, TOY_PRE),
        strict=True,
    ):
        base = f"/api/v1/models/{model}/layers/{layer}/neurons"
        query = {} if run is None else {"run": run}
        own = any_client.get(f"{base}/{index}", params=query).json()
        rows = any_client.get(base, params=query).json()["items"]
        assert row["neuron"] == rows[index]
        assert (row["model"], row["run"], row["scale"]) == (model, own["run"], own["scale"])
        top = own["examples"]["top"]
        assert row["example"] == (top[0] if top else None)
        assert row["missing"] is None


def test_what_is_not_there_is_a_row(any_client: TestClient) -> None:
    """A model, layer, neuron or run that does not exist, or is no address, says so in its place."""
    n = "toy/0/0,0/99,9/9,nobody/0/0,/toy/0/0?run=2,what is,toy blocks.0.mlp.ln.hook_in 1,toy/1/1"
    rows = listed(any_client, n)["items"]
    told = [row["missing"] for row in rows]
    assert [told[0], told[-1]] == [None, None]
    for said, part in zip(
        told[1:-1],
        (
            "no neuron 99",
            "no layer 9",
            "no model 'nobody'",
            "no run 2",
            "is not a neuron",
            "ln.hook_in",
        ),
        strict=True,
    ):
        assert part in said
    html = read(any_client, "/list?n=toy/0/0,0/99,what+is")
    assert [cell.text for cell in html.all("td", "missing")] == [
        "Layer 0 of toy has neurons 0 to 3: there is no neuron 99.",
        "“what is” is not a neuron. Try MODEL/3/45, or the address of a page.",
    ]
    assert "put a model's name first" in listed(any_client, "0/0")["items"][0]["missing"]


def test_one_neuron_is_one_row(any_client: TestClient) -> None:
    """However it is written, by default run, by number or by hook point."""
    page = listed(any_client, "toy/0/1,/toy/0/1?run=3,toy blocks.0.mlp.hook_post 1")
    assert [row["address"] for row in page["items"]] == ["toy/0/1"]
    pre = listed(any_client, "toy blocks.0.mlp.hook_pre 1")["items"]
    assert [row["address"] for row in pre] == [f"/toy/0/1?run={TOY_PRE}"]


def test_a_list_is_read_in_few_selects(any_filled: Engine) -> None:
    """As many for 41 neurons of five runs as for five: runs, neurons, examples, contexts."""
    store = Store(any_filled)
    some = "toy/0/0,Zebra_2.0/0/1,/toy/0/1?run=4,pre-only/0/0,wide/0/0"
    many = f"{some}," + ",".join(f"0/{i}" for i in range(1, 37))
    queries.rows(store, entries(many))  # vocabularies are read once a process
    asked: list[str] = []

    def hear(*args: Any) -> None:
        asked.extend(said for said in args[2:3] if said.startswith("SELECT"))

    event.listen(any_filled, "before_cursor_execute", hear)
    try:
        assert len(queries.rows(store, entries(some))) == 5
        few = len(asked)
        assert len(queries.rows(store, entries(many))) == 41
    finally:
        event.remove(any_filled, "before_cursor_execute", hear)
    assert few == len(asked) - few == 4, asked


def test_removing_and_adding(any_client: TestClient) -> None:
    """Every row has a link to the list without it; the form leads to the list with one more."""
    html = read(any_client, "/list?n=toy/0/0,0/1,Zebra_2.0/0/0&title=Mine")
    links = [cell.all("a")[0].attributes["href"] for cell in html.all("td", "remove")]
    assert links == [
        "/list?n=toy/0/1,Zebra_2.0/0/0&title=Mine",
        "/list?n=toy/0/0,Zebra_2.0/0/0&title=Mine",
        "/list?n=toy/0/0,0/1&title=Mine",
    ]
    asked = {"n": "toy/0/0", "title": "Mine", "add": "L0N1"}
    response = any_client.get("/list", params=asked)
    assert response.status_code == 307
    assert response.headers["location"] == "/list?n=toy/0/0,0/1&title=Mine"
    wrong = read(any_client, "/list?n=toy/0/0&add=%3Cb%3E", 422)
    assert "“<b>” is not a neuron" in wrong.by_id("add-wrong").text
    assert wrong.by_id("add").attributes["value"] == "<b>"
    assert len(wrong.all("td", "remove")) == 1
    (link,) = read(any_client, "/toy/0/0").all("a", "add")
    assert link.attributes["href"] == "/list?n=toy/0/0"


def test_a_title_is_text(any_client: TestClient) -> None:
    """It is escaped wherever it stands, and at most 100 characters long."""
    title = "<script>alert(1)</script>\"'&"
    response = any_client.get("/list", params={"n": "toy/1/1", "title": title})
    assert "<script>alert" not in response.text
    html = read(any_client, str(response.request.url.raw_path, "ascii"))
    assert html.all("h1")[0].text == title
    assert listed(any_client, "toy/1/1", title=title)["title"] == title
    long = any_client.get("/api/v1/list", params={"title": "x" * 101})
    assert long.status_code == 422
    assert "the maximum is 100 characters" in long.json()["detail"]
    assert any_client.get("/list", params={"title": "x" * 100}).status_code == 200


def test_hostile_tokens_stay_text(any_client: TestClient) -> None:
    """Tokens that are markup are shown as they are."""
    html = read(any_client, "/list?n=toy/1/0,1/1,1/2,1/3")
    assert SCRIPT in html.text
    assert all(script.attributes.get("src") for script in html.all("script"))


def test_an_empty_list_says_how_to_begin(any_client: TestClient) -> None:
    """There is a page without any neuron, with the box to add one."""
    html = read(any_client, "/list")
    assert not html.all("table")
    assert "The list is empty." in html.text
    assert listed(any_client, "") == {"title": None, "n": "", "items": []}


@pytest.mark.parametrize(
    ("before", "then", "run"),
    [
        ("toy/0/0", "0/1", TOY),
        ("toy blocks.0.mlp.hook_pre 1", "0/0", TOY_PRE),
        ("toy blocks.0.mlp.hook_pre 1", "toy/0/0", TOY),
        (f"/toy/0/0?run={FIRST_TOY}", "0/1", FIRST_TOY),
        (f"/toy/0/0?run={FIRST_TOY}", "toy/0/1", TOY),
        (f"/toy/0/0?run={FIRST_TOY}", "blocks.0.mlp.hook_post 1", FIRST_TOY),
        (f"/toy/0/0?run={FIRST_TOY}", "blocks.0.mlp.hook_pre 1", TOY_PRE),
        (f"/toy/0/0?run={TOY_PRE}", "blocks.0.mlp.hook_post 1", TOY),
    ],
)
def test_lists_and_comparisons_read_alike(
    any_client: TestClient, before: str, then: str, run: int
) -> None:
    """What follows a neuron is of its model, run and hook point, until another is named."""
    row = listed(any_client, f"{before},{then}")["items"][-1]
    beside = any_client.get("/api/v1/compare", params={"a": before, "b": then}).json()["b"]
    assert row["run"]["id"] == beside["run"]["id"] == run
    place = row["neuron"]["layer"], row["neuron"]["neuron"]
    assert place == (beside["layer"], beside["neuron"])


def test_a_long_way_is_read_step_by_step(any_client: TestClient) -> None:
    """Through a hook point and back, to the newest run there; what is written says the same."""
    steps = (f"/toy/0/0?run={FIRST_TOY}", "blocks.0.mlp.hook_pre 1", "0/0")
    n = ",".join([*steps, "blocks.0.mlp.hook_post 1", "0/0", "Zebra_2.0/0/0", "0/1"])
    page = listed(any_client, n)
    runs = [row["run"]["id"] for row in page["items"]]
    assert runs == [FIRST_TOY, TOY_PRE, TOY_PRE, TOY, TOY, ZEBRA, ZEBRA]
    assert listed(any_client, page["n"]) == page
    added = any_client.get("/list", params={"n": ",".join(steps[:2]), "add": "0/0"})
    (written,) = parse_qs(urlsplit(added.headers["location"]).query)["n"]
    assert written == f"/toy/0/0?run={FIRST_TOY},/toy/0/1?run={TOY_PRE},0/0"


def test_the_only_model_need_not_be_named(store_url: str) -> None:
    """Where there is one, lists take a place alone, as comparisons and the go-to box do."""
    open_store(store_url, create=True).dispose()
    with serving(store_url) as empty:
        assert "index a model first" in listed(empty, "0/1")["items"][0]["missing"]
    engine = open_store(store_url, create=True)
    RunOf("only", (wide_layer(3),)).write(engine)
    engine.dispose()
    with serving(store_url) as alone:
        assert listed(alone, "0/1,0/2")["n"] == "only/0/1,0/2"
        added = alone.get("/list", params={"add": "L0N1"})
        assert added.headers["location"] == "/list?n=only/0/1"
        beside = alone.get("/api/v1/compare", params={"a": "0/1", "b": "0/2"}).json()
        assert beside["b"]["model"] == "only"
