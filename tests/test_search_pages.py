"""The pages of searches in what their JSON has no part in: links, boxes, titles, what is said."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.html_reader import read

API = "/api/v1/models"


@pytest.mark.parametrize(
    ("page", "json"),
    [
        ("/wide/search?token_id=2", "/wide/search/token?token_id=2"),
        ("/wide/search?token_id=2&as=promoted", "/wide/search/token?token_id=2&as=promoted"),
        ("/toy/search?text=a*", "/toy/search/text?q=a*"),
        ("/toy/contexts/7?run=3", "/toy/contexts/7?run=3"),
        ("/toy/contexts/0?at=2", "/toy/contexts/0?at=2"),
    ],
)
def test_every_page_links_to_its_own_json(client: TestClient, page: str, json: str) -> None:
    """What follows on another page too: the JSON goes on where the page does."""
    first = client.get(f"{API}{json}&limit=1").json()
    assert first["next"], "there is a second page"
    for address in (page, f"{page}&cursor={first['next']}"):
        html = read(client, address)
        (link,) = [link for link in html.all("a") if link.text == "JSON"]
        (other,) = [one for one in html.all("link") if one.attributes["rel"] == "alternate"]
        assert link.attributes["href"] == other.attributes["href"]
        items = client.get(link.attributes["href"]).json()["items"]
        assert (items == client.get(f"{API}{json}").json()["items"]) == (address == page)
        names = [
            f"{item['layer']}/{item['neuron']}" if "layer" in item else str(item["context_id"])
            for item in items
        ]
        assert [link.text for link in html.all("a", "name")] == names
