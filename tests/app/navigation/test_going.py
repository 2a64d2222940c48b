"""/go leads from what was typed to a page that exists, or says what it understands; /help."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from app.web.address import FORMS
from indexer.store.database import open_store
from tests.conftest import serving
from tests.helpers.fixture_store import TOY_PRE, RunOf, wide_layer
from tests.helpers.html_reader import read


def gone(client: TestClient, **query: str | int) -> str:
    """Where /go sends; the answer may not be kept."""
    response = client.get(f"/go?{urlencode(query)}")
    assert response.status_code == 307, response.text
    assert response.headers["cache-control"] == "no-store"
    return response.headers["location"]


def refused(client: TestClient, status: int, **query: str | int) -> str:
    """What the page says where /go does not know the way."""
    response = client.get(f"/go?{urlencode(query)}")
    assert response.status_code == status
    assert response.headers["content-type"].startswith("text/html")
    page = read(client, f"/go?{urlencode(query)}", status)
    (heading,) = page.all("h1")
    return " ".join([heading.text, *(forms.text.strip() for forms in page.all("p", "forms"))])


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({"to": "1/3", "model": "toy"}, "/toy/1/3"),
        ({"to": "L1N3", "model": "toy"}, "/toy/1/3"),
        ({"to": "blocks.1.mlp.hook_post 3", "model": "toy"}, "/toy/1/3"),
        ({"to": "L1", "model": "toy"}, "/toy/1"),
        ({"to": "toy"}, "/toy"),
        ({"to": "toy/1"}, "/toy/1"),
        ({"to": "toy/1/3"}, "/toy/1/3"),
        ({"to": "http://testserver/toy/1/3"}, "/toy/1/3"),
        ({"to": "Zebra_2.0/0/1", "model": "toy"}, "/Zebra_2.0/0/1"),
    ],
)
def test_a_place_is_gone_to(client: TestClient, query: dict[str, str], path: str) -> None:
    """Every form leads to its page, in the model at hand unless another is named."""
    assert gone(client, **query) == path
    assert client.get(path).status_code == 200


def test_the_run_and_the_view_go_along(client: TestClient) -> None:
    """What the page at hand shows of its model goes on; a run is no other model's."""
    at_hand: dict[str, str | int] = {"model": "toy", "run": TOY_PRE, "view": "context"}
    assert gone(client, to="0/1", **at_hand) == f"/toy/0/1?run={TOY_PRE}&view=context"
    assert gone(client, to="toy/0/1", **at_hand) == f"/toy/0/1?run={TOY_PRE}&view=context"
    assert gone(client, to="L0", **at_hand) == f"/toy/0?run={TOY_PRE}"
    assert gone(client, to="toy", **at_hand) == f"/toy?run={TOY_PRE}"
    assert gone(client, to="Zebra_2.0/0/1", **at_hand) == "/Zebra_2.0/0/1?view=context"
    assert gone(client, to="http://x/toy/0/1?run=1", **at_hand) == "/toy/0/1?run=1&view=context"


def test_a_hook_point_picks_its_run(client: TestClient) -> None:
    """A hook point that is named leads to a run there, from whatever run is at hand."""
    pre, post = "blocks.0.mlp.hook_pre 1", "blocks.0.mlp.hook_post 1"
    assert gone(client, to=pre, model="toy") == f"/toy/0/1?run={TOY_PRE}"
    assert gone(client, to=post, model="toy") == "/toy/0/1"
    assert gone(client, to=post, model="toy", run=TOY_PRE) == "/toy/0/1?run=3"
    assert gone(client, to=post, model="toy", run=1) == "/toy/0/1?run=1"
    said = refused(client, 404, to="blocks.0.mlp.ln.hook_in 1", model="toy")
    assert said == "toy has no run at mlp.ln.hook_in, only at mlp.hook_post, mlp.hook_pre."


@pytest.mark.parametrize("text", ["what is?", "3/!", "", "<b>bold</b>", "javascript:alert(1)"])
def test_what_is_no_place_is_quoted(client: TestClient, text: str) -> None:
    """What was typed is said back as text, with every form that is understood."""
    assert refused(client, 422, to=text, model="toy") == (f"Couldn’t find “{text}”. Try {FORMS}.")


def test_a_model_that_is_not_there(client: TestClient) -> None:
    """A word that is no model's name is quoted too; a model's missing run is named."""
    said = refused(client, 404, to="nobody", model="toy")
    assert said.startswith("Couldn’t find “nobody”: there is no model “nobody”. Try")
    assert FORMS in said
    assert "“docs”" in refused(client, 404, to="docs")
    assert refused(client, 404, to="0/1", model="toy", run=2).startswith("toy has no run 2")
    assert "“x\N{REPLACEMENT CHARACTER}”" in refused(client, 404, to="0/1", model="x\0")


def test_a_place_beyond_the_model_is_refused(client: TestClient) -> None:
    """A neuron that is not there gets the error of its own page, which says how many there are."""
    said = refused(client, 404, to="1/99", model="toy")
    assert "neurons 0 to 3" in said
    assert said == read(client, "/toy/1/99", 404).all("h1")[0].text
    assert refused(client, 404, to="toy/9") == read(client, "/toy/9", 404).all("h1")[0].text


def test_without_a_model_there_has_to_be_one(client: TestClient, store_url: str) -> None:
    """A place alone needs no model where there is one; where there are more, it is asked for."""
    said = refused(client, 422, to="0/1")
    assert said.startswith("“0/1” has no model, and there is more than one")
    open_store(store_url, create=True).dispose()
    with serving(store_url) as empty:
        assert "index a model first" in refused(empty, 404, to="0/1")
    engine = open_store(store_url, create=True)
    RunOf("only", (wide_layer(3),)).write(engine)
    engine.dispose()
    with serving(store_url) as alone:
        assert gone(alone, to="0/1") == "/only/0/1"
        refused(alone, 404, to="0/9999")
        page = read(alone, "/go?to=0/9999", 404)
        near = [a.attributes["href"] for part in page.all("ul", "nearest") for a in part.all("a")]
        assert near == ["/only/0/2", "/only/0", "/only"]


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("/", {}),
        ("/docs", {}),
        ("/nobody", {}),
        ("/toy", {"model": "toy"}),
        ("/toy/1", {"model": "toy"}),
        ("/toy/1/3", {"model": "toy"}),
        ("/toy/1/0?run=4", {"model": "toy", "run": "4"}),
        ("/runs/2", {"model": "Zebra_2.0"}),
    ],
)
def test_every_page_has_the_box(client: TestClient, path: str, hidden: dict[str, str]) -> None:
    """One field, one button, and what the page at hand is of."""
    page = read(client, path, client.get(path).status_code)
    (form,) = (one for one in page.all("form") if one.attributes.get("id") == "goto")
    assert form.attributes["action"] == "/go"
    fields = form.all("input")
    assert {
        one.attributes["name"]: one.attributes["value"]
        for one in fields
        if one.attributes.get("type") == "hidden"
    } == hidden
    assert [one.attributes["name"] for one in fields if "type" not in one.attributes] == ["to"]
    (label,) = form.all("label")
    assert label.attributes["for"] == "to"


def test_the_help_lists_every_key(client: TestClient) -> None:
    """The page of help has the keys, the kinds of examples and the forms of an address."""
    page = read(client, "/help")
    keys = {key.text for (keys,) in [page.all("dl", "keys")] for key in keys.all("kbd")}
    assert keys == {"←", "→", "↑", "↓", "r", "/", "?", "Esc"}
    for kind in ("Top", "Bottom", "Random", "Intermediate", "By source"):
        assert kind in [term.text for term in page.all("dt")]
    written = {code.text for code in page.all("code")}
    assert set(FORMS.replace(" or ", ", ").split(", ")[:-1]) <= written
    links = [link for link in read(client, "/").all("a") if link.attributes["href"] == "/help"]
    assert [link.text.split() for link in links] == [["?", "Help"]]
