"""A visitor's text through all neurons of a real model: the numbers of a plain forward pass, a
clear answer to every mistake, and a page that works as a form."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
import transformers
from starlette.testclient import TestClient

from app.errors import Gone
from app.live.behaviour.view import percentage
from app.live.models import Models
from app.web.forms import MOST_BODY, MOST_BYTES
from indexer.config import IndexConfig
from indexer.demo import MODEL_DIR
from indexer.run.index import index
from tests.conftest import NewDatabase, Silent
from tests.helpers.html_reader import Element, elements
from tests.helpers.live_servers import TEXT, live_client_of

FIND = "/api/v1/models/demo/behaviour"
PAGE = "/demo/behaviour"
OTHER = "And the king said unto him."

Array = np.ndarray[Any, Any]


def found(client: TestClient, text: str, **body: Any) -> dict[str, Any]:
    """What the API says of a text."""
    response = client.post(FIND, json={"text": text, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def posted(client: TestClient, text: str, **fields: str) -> Any:
    """The page a plain form leads to."""
    body = urlencode({"text": text.replace("\n", "\r\n"), **fields})
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return client.post(PAGE, content=body, headers=headers)


@pytest.fixture(scope="module")
def plain() -> Any:
    """The demo model as transformers has it."""
    return transformers.AutoModelForCausalLM.from_pretrained(MODEL_DIR).eval()


def captured(plain: Any, token_ids: list[int]) -> list[Array]:
    """All layers' activations after the BOS, by plain hooks."""
    acts: list[Array] = []
    handles = [
        block.mlp.c_proj.register_forward_pre_hook(lambda _, args: acts.append(args[0][0].numpy()))
        for block in plain.transformer.h
    ]
    with torch.no_grad():
        plain(torch.tensor([token_ids]))
    for handle in handles:
        handle.remove()
    return [values[1:] for values in acts]


@pytest.fixture(scope="module")
def maxima(live_client: TestClient) -> list[Array]:
    """Every neuron's maximum, layer by layer; not a number where it is left out."""
    path = "/api/v1/models/demo/layers/{}/neurons?limit=1000"
    layers = [live_client.get(path.format(layer)).json()["items"] for layer in range(2)]
    return [
        np.array([np.nan if one["dead"] or one["max"] <= 0 else one["max"] for one in items])
        for items in layers
    ]


def test_both_databases_give_the_same(
    live_client: TestClient, new_postgres: NewDatabase, tmp_path: Path
) -> None:
    """The same run in PostgreSQL: all neurons of every token, in one order, with equal numbers."""
    url = new_postgres()
    config = IndexConfig(model="demo", max_tokens=40_000, sample=128)
    index(config, url, tmp_path / "cache", Silent())
    with live_client_of(url) as other:
        runs = [one.get("/api/v1/models/demo").json()["run"] for one in (live_client, other)]
        assert runs[0]["content_hash"] == runs[1]["content_hash"]
        for by in ("maximum", "percentile"):
            for body in ({"k": 5}, {"k": 20, "against": OTHER}):
                told, also = (found(client, TEXT, by=by, **body) for client in (live_client, other))
                assert len(told["tokens"]) > 10
                assert told == also


def test_neurons_are_those_of_a_plain_forward_pass(
    live_client: TestClient, plain: Any, maxima: list[Array]
) -> None:
    """Each token's highest shares over all layers, and the highest of each layer."""
    told = found(live_client, TEXT, k=7)
    acts = captured(plain, told["token_ids"])
    shares = [
        np.nan_to_num(np.maximum(values, 0) / most)
        for values, most in zip(acts, maxima, strict=True)
    ]
    assert told["tokens"][0] == "<|bos|>"
    assert (told["included_from"], told["neurons"][0]) == (1, [])
    assert told["compared"] == sum(int(np.isfinite(most).sum()) for most in maxima)
    for row, neurons in enumerate(told["neurons"][1:]):
        every = np.sort(np.concatenate([layer[row] for layer in shares]))[::-1]
        np.testing.assert_allclose([one["share"] for one in neurons], every[:7], rtol=1e-4)
        for one in neurons:
            layer, neuron = one["layer"], one["neuron"]
            assert one["share"] == one["of_maximum"]
            assert one["share"] == pytest.approx(shares[layer][row, neuron], rel=1e-4)
            assert one["activation"] == pytest.approx(float(acts[layer][row, neuron]), rel=1e-4)
    for layer, (cells, best) in enumerate(zip(told["shares"], told["strongest"], strict=True)):
        np.testing.assert_allclose(cells[1:], shares[layer].max(axis=1), rtol=1e-4)
        at = np.take_along_axis(shares[layer], np.array(best[1:])[:, None], axis=1)[:, 0]
        np.testing.assert_allclose(at, cells[1:], rtol=1e-4)


def test_percentiles_are_those_of_the_neurons_histograms(
    live_client: TestClient, plain: Any
) -> None:
    """At least so many positions are lower: no more whole bins lie below, and no fewer."""
    told = found(live_client, TEXT, by="percentile", k=2)
    acts = captured(plain, told["token_ids"])
    for row, neurons in list(enumerate(told["neurons"][1:]))[::4]:
        for one in neurons:
            path = "/api/v1/models/demo/layers/{layer}/neurons/{neuron}".format(**one)
            bins = live_client.get(path).json()["histogram"]
            value = float(acts[one["layer"]][row, one["neuron"]])
            assert one["activation"] == pytest.approx(value, rel=1e-4)
            ends = zip(bins["counts"], bins["edges"][1:], strict=True)
            below = sum(n for n, end in ends if end <= one["activation"])
            assert one["share"] == below / sum(bins["counts"])
    assert [one["share"] for one in told["neurons"][1]] == sorted(
        (one["share"] for one in told["neurons"][1]), reverse=True
    )


def test_two_texts_are_told_apart(live_client: TestClient, plain: Any, maxima: list[Array]) -> None:
    """The highest share over the one less the highest over the other; turned, the same turned."""
    told = found(live_client, TEXT, against=OTHER, k=5)
    contrast = told["contrast"]
    sides = [captured(plain, ids) for ids in (told["token_ids"], contrast["token_ids"])]
    highest = [
        np.concatenate(
            [
                np.maximum(values.max(axis=0), 0) / most
                for values, most in zip(acts, maxima, strict=True)
            ]
        )
        for acts in sides
    ]
    difference = np.nan_to_num(highest[0] - highest[1])
    for way, ranked in (("more", np.sort(difference)[::-1]), ("less", np.sort(-difference)[::-1])):
        values = [one["difference"] for one in contrast[way]]
        np.testing.assert_allclose(values, ranked[:5], rtol=1e-3)
        for one in contrast[way]:
            for acts, side in zip(sides, ("text", "against"), strict=True):
                values = acts[one["layer"]][:, one["neuron"]]
                at = one[side]["position"] - 1
                assert values[at] == pytest.approx(float(values.max()), rel=1e-4, abs=1e-6)
    turned = found(live_client, OTHER, against=TEXT, k=5)["contrast"]
    assert [one["neuron"] for one in turned["more"]] == [one["neuron"] for one in contrast["less"]]
    same = found(live_client, TEXT, against=TEXT)["contrast"]
    assert same["more"] == same["less"] == []


# --- Mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({}, 422, "'text' of the body"),
        ({"text": ""}, 422, "The text is empty"),
        ({"text": "a", "against": ""}, 422, "The second text is empty"),
        ({"text": "a", "by": "rank"}, 422, "'by' of the body"),
        ({"text": "a", "k": 0}, 422, "'k' of the body"),
        ({"text": "a", "k": 51}, 422, "'k' of the body"),
        ({"text": "a", "layer": 1}, 422, "'layer' of the body"),
        ({"text": "a", "against": "\ud83d"}, 422, "The second text has half a character"),
        ({"text": "the " * 600}, 413, "The text has"),
        ({"text": "a", "against": "the " * 600}, 413, "The second text has"),
        ({"text": "x" * (MOST_BYTES + 1)}, 413, "65,537 bytes"),
    ],
)
def test_a_text_that_cannot_be_read_is_told_why(
    live_client: TestClient, body: dict[str, Any], status: int, told: str
) -> None:
    """One shape for every mistake, in one line that names the text it is about."""
    response = live_client.post(FIND, content=json.dumps(body))
    assert response.status_code == status
    error = response.json()
    assert set(error) == {"error", "detail", "status"}
    assert told in error["detail"]
    assert "\n" not in error["detail"]


def test_bodies_are_bounded_and_utf_8(live_client: TestClient) -> None:
    """Two texts may be sent, and no more; bytes have to be text."""
    assert live_client.post(FIND, content=b" " * (2 * MOST_BODY + 1)).status_code == 413
    refused = live_client.post(FIND, content=b'{"text": "caf\xe9"}')
    assert (refused.status_code, "not UTF-8" in refused.json()["detail"]) == (422, True)


def test_who_may_not_ask_is_told(live_client: TestClient, client: TestClient) -> None:
    """Another site's page, a server that is not live, a model there is not, another method."""
    cross = {"Sec-Fetch-Site": "cross-site"}
    for path in (FIND, PAGE):
        assert live_client.post(path, headers=cross, json={"text": "a"}).status_code == 403
    for path in ("/api/v1/models/toy/behaviour", "/toy/behaviour"):
        refused = client.post(path, json={"text": "a"})
        assert refused.status_code == 404
        assert "neurarium serve --live" in refused.text
    assert client.get("/toy/behaviour").status_code == 404
    assert live_client.post(FIND.replace("demo", "other"), json={"text": "a"}).status_code == 404
    assert live_client.get("/other/behaviour").status_code == 404
    assert live_client.post(f"{FIND}?run=7", json={"text": "a"}).status_code == 404
    refused = live_client.get(FIND)
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_too_many_at_once_and_a_model_that_is_gone(
    demo_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound a text is refused at once; one whose model is another gets 410."""
    go, begun = threading.Event(), threading.Event()

    def gone(*_: Any) -> Any:
        begun.set()
        assert go.wait(60)
        raise Gone("The model of run 1 is gone.")

    monkeypatch.setattr(Models, "get", gone)
    with live_client_of(demo_store, live_waiting=1) as client, ThreadPoolExecutor(1) as visitors:
        waiting = visitors.submit(client.post, FIND, json={"text": "a"})
        assert begun.wait(60)
        refused = client.post(FIND, json={"text": "a"})
        go.set()
        assert (refused.status_code, refused.json()["error"]) == (503, "unavailable")
        assert "retry-after" in refused.headers
        assert waiting.result().status_code == 410
        assert posted(client, "a").status_code == 410


def test_the_documentation_names_every_answer(live_client: TestClient) -> None:
    """The schema says what to send and what may come back."""
    operation = live_client.get("/openapi.json").json()["paths"][FIND.replace("demo", "{model}")][
        "post"
    ]
    assert set(operation["responses"]) == {"200", "403", "404", "410", "413", "422", "503"}
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"text", "by", "against", "k"}


# --- The page -----------------------------------------------------------------------------------


def tables(page: Element, css: str) -> list[list[Element]]:
    """The rows of the body of the one table of this class."""
    (table,) = page.all("table", css)
    (body,) = table.all("tbody")
    return [[one for one in row.children if isinstance(one, Element)] for row in body.all("tr")]


def test_the_form_works_by_itself(live_client: TestClient) -> None:
    """Without a script it gives a page with the neurons, the picture and what was typed."""
    response = posted(live_client, TEXT, k="5")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    told = found(live_client, TEXT, k=5)
    page = elements(response.text)
    rows = tables(page, "firing")
    assert len(rows) == len(told["tokens"]) - 1
    for (_, *cells), neurons in zip(rows, told["neurons"][1:], strict=True):
        links = [cell.all("a", "name")[0].attributes["href"] for cell in cells]
        assert links == [f"/demo/{one['layer']}/{one['neuron']}" for one in neurons]
        assert links == [f"/{cell.all('input')[0].attributes['value']}" for cell in cells]
    for layer, (_, *cells) in enumerate(tables(page, "heat")):
        for cell, share, neuron in zip(
            cells, told["shares"][layer][1:], told["strongest"][layer][1:], strict=True
        ):
            (link,) = cell.all("a")
            assert link.attributes["href"] == f"/demo/{layer}/{neuron}"
            assert link.text == f"{share * 100:.0f}"
            assert f"neuron {neuron}, {percentage(share, 'maximum')} of" in link.attributes["title"]
    (field, _) = page.all("textarea")
    assert field.text.lstrip("\n") == TEXT
    assert not page.all("table", "apart")
    ids = {one.attributes["id"] for one in page.walk() if "id" in one.attributes}
    heads = [
        one.attributes["href"] for one in page.all("table", "heat")[0].all("thead")[0].all("a")
    ]
    assert {head.removeprefix("#") for head in heads} <= ids


def test_two_texts_are_shown_apart(live_client: TestClient) -> None:
    """By percentile, each neuron with both of its shares; what was chosen stays chosen."""
    response = posted(live_client, TEXT, against=OTHER, by="percentile", k="5")
    contrast = found(live_client, TEXT, against=OTHER, by="percentile", k=5)["contrast"]
    page = elements(response.text)
    for table, way in zip(page.all("table", "apart"), ("more", "less"), strict=True):
        links = [link.attributes["href"] for link in table.all("a", "name")]
        assert links == [f"/demo/{one['layer']}/{one['neuron']}" for one in contrast[way]]
        assert links == [f"/{box.attributes['value']}" for box in table.all("input", "tick")]
    chosen = [one.attributes["value"] for one in page.all("input") if "checked" in one.attributes]
    assert chosen == ["percentile"]
    assert [one.text for one in page.all("option") if "selected" in one.attributes] == ["5"]
    assert page.all("textarea")[1].text.lstrip("\n") == OTHER
    (turn,) = [one for one in page.all("button") if one.attributes.get("name") == "turn"]
    turned = elements(posted(live_client, TEXT, against=OTHER, by="percentile", turn="1").text)
    assert [field.text.lstrip("\n") for field in turned.all("textarea")] == [OTHER, TEXT]
    first = [link.attributes["href"] for link in turned.all("table", "apart")[0].all("a", "name")]
    assert first[:5] == [f"/demo/{one['layer']}/{one['neuron']}" for one in contrast["less"]]
    assert turn.attributes["type"] == "submit"


def test_what_cannot_be_read_stays_in_the_form(live_client: TestClient) -> None:
    """The page says what was wrong, with the status, and gives the texts back as they were."""
    hostile = "</textarea><script>alert(1)</script>" * 20
    response = posted(live_client, hostile, against="kept")
    assert response.status_code == 413
    page = elements(response.text)
    (notice,) = page.all("p", "notice")
    assert "the maximum is 128" in notice.text
    assert [field.text.lstrip("\n") for field in page.all("textarea")] == [hostile, "kept"]
    assert posted(live_client, "").status_code == 422
    assert posted(live_client, "a", by="rank").status_code == 422
    for k in ("7", "x", "9" * 99, "0000000105", "000000010" + "0" * 5000, "٥"):
        assert posted(live_client, "a", k=k).status_code == 422
    assert live_client.post(PAGE, content=b"text=%E9").status_code == 422


def test_the_search_page_leads_here(live_client: TestClient, client: TestClient) -> None:
    """A live server's search has the box; another's says how a server gets it."""
    page = elements(live_client.get("/demo/search").text)
    (form,) = [form for form in page.all("form") if form.attributes["action"] == PAGE]
    assert (form.attributes["method"], len(form.all("textarea"))) == ("post", 1)
    assert PAGE in {link.attributes.get("href") for link in page.all("a")}
    shut = client.get("/toy/search").text
    assert "behaviour&quot;" not in shut
    assert "/toy/behaviour" not in shut
    assert "neurarium serve --live" in shut
