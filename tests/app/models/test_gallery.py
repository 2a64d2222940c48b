"""The gallery: the neurons that the stated rules choose, found again from the neurons' own JSON."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from app.models.gallery import SIZE
from app.models.rules import CANDIDATES, FEWEST_TOKENS
from tests.helpers.html_reader import read

API = "/api/v1/models"


def neuron(client: TestClient, model: str, item: Any) -> Any:
    """The whole JSON of a neuron in a gallery."""
    row = item["neuron"]
    return client.get(f"{API}/{model}/layers/{row['layer']}/neurons/{row['neuron']}").json()


def peak_tokens(page: Any) -> set[str]:
    """The tokens that a neuron's top examples peak on."""
    return {
        example["tokens"][example["peak_position"] - example["start"]]
        for example in page["examples"]["top"]
    }


@pytest.mark.parametrize("model", ["toy", "wide", "Zebra_2.0", "pre-only"])
def test_each_neuron_meets_its_rule(any_client: TestClient, model: str) -> None:
    """Live, none twice, no two of a rule on the same token, and what the rule says."""
    found = any_client.get(f"{API}/{model}/gallery").json()
    places = [(item["neuron"]["layer"], item["neuron"]["neuron"]) for item in found["items"]]
    assert len(places) == len(set(places)) <= SIZE
    rules = [rule["rule"] for rule in found["rules"]]
    assert [item["rule"] for item in found["items"]] == sorted(
        (item["rule"] for item in found["items"]), key=rules.index
    )
    shown = set()
    for item in found["items"]:
        page = neuron(any_client, model, item)
        assert not page["stats"]["dead"]
        top = page["examples"]["top"]
        if item["rule"] == "token":
            assert len(top) > 1
            assert len(peak_tokens(page)) == 1
        elif item["rule"] == "source":
            assert len({example["source"] for example in top}) == 1
            assert len(peak_tokens(page)) >= FEWEST_TOKENS
        elif item["rule"] == "output":
            assert "\\x" not in item["neuron"]["promoted_token"]
        if top:
            first = (item["rule"], top[0]["tokens"][top[0]["peak_position"] - top[0]["start"]])
            assert first not in shown
            shown.add(first)
            assert item["example"]["context_id"] == top[0]["context_id"]
            assert item["example"]["peak"] == top[0]["peak"]


def test_a_rule_takes_the_best_first(client: TestClient) -> None:
    """Of the output rule: no neuron left out has a higher kurtosis than one that was taken, unless
    its token was taken or another rule has it."""
    found = client.get(f"{API}/wide/gallery").json()
    rows = client.get(
        f"{API}/wide/neurons?q=dead:no sort:-effect_kurtosis&limit={CANDIDATES}"
    ).json()["items"]
    taken = [item["neuron"] for item in found["items"] if item["rule"] == "output"]
    assert taken
    assert taken[0]["effect_kurtosis"] == rows[0]["effect_kurtosis"]


def test_pages_show_the_gallery(client: TestClient) -> None:
    """A model's page has all of it, the home page as many neurons of all models; both say why."""
    found = client.get(f"{API}/toy/gallery").json()
    page = read(client, "/toy")
    (gallery,) = page.all("section", "gallery")
    names = [link.text for link in gallery.all("a", "name")]
    assert names == [
        f"{item['neuron']['layer']}/{item['neuron']['neuron']}" for item in found["items"]
    ]
    said = " ".join(heading.text for heading in gallery.all("h3"))
    for rule in found["rules"]:
        assert (rule["definition"] in said) == any(
            item["rule"] == rule["rule"] for item in found["items"]
        )
    home = read(client, "/")
    links = [link.attributes["href"] for link in home.all("section", "gallery")[0].all("a", "name")]
    assert 0 < len(links) <= SIZE
    assert {href.split("/")[1] for href in links} <= {"Zebra_2.0", "pre-only", "toy", "wide"}
    assert len({href.split("/")[1] for href in links}) > 1
    for form in home.all("form", "asking"):
        assert form.attributes["action"].endswith("/search")
