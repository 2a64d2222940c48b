"""Error pages keep what was typed and offer what is near to it."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.helpers.html_reader import read


def offered(client: TestClient, path: str, status: int) -> dict[str, str]:
    """The links of an error page to what is near, by their words."""
    lists = read(client, path, status).all("ul", "nearest")
    return {a.text: a.attributes["href"] for part in lists for a in part.all("a")}


@pytest.mark.parametrize(
    ("path", "status", "first"),
    [
        ("/toy/7/2", 404, ("toy 1/2", "/toy/1/2")),
        ("/toy/1/99", 404, ("toy 1/3", "/toy/1/3")),
        ("/toi/0/1", 404, ("toy 0/1", "/toy/0/1")),
        ("/zebra_2.0/0", 404, ("Zebra_2.0 layer 0", "/Zebra_2.0/0")),
        ("/toy/1/nonsense", 422, ("toy layer 1", "/toy/1")),
        ("/toi/bar/baz", 404, ("toy", "/toy")),
        ("/toy/1-2", 422, ("toy 1/2", "/toy/1/2")),
        ("/toy/1/2-3", 422, ("toy 1/2", "/toy/1/2")),
        ("/toy/L1N2", 422, ("toy 1/2", "/toy/1/2")),
        ("/toy//1/2", 404, ("toy 1/2", "/toy/1/2")),
        ("/toy/1-or", 422, ("toy layer 1", "/toy/1")),
        ("/toy/layer1", 404, ("toy layer 1", "/toy/1")),
        ("/toy/serch", 404, ("toy/search", "/toy/search")),
        ("/go?to=1/9999&model=toy", 404, ("toy 1/3", "/toy/1/3")),
        ("/go?to=toy/9", 404, ("toy layer 1", "/toy/1")),
        ("/go?to=toi/9", 404, ("toy layer 1", "/toy/1")),
        ("/go?to=4/9&model=toi", 404, ("toy 1/3", "/toy/1/3")),
        (
            "/go?to=plain+words+here&model=toy",
            422,
            ("search toy for “plain words here”", "/toy/search?text=plain+words+here"),
        ),
    ],
)
def test_the_nearest_comes_first(
    client: TestClient, path: str, status: int, first: tuple[str, str]
) -> None:
    """Numbers that are too large become the last; names that are misspelled the most similar."""
    assert next(iter(offered(client, path, status).items())) == first


def test_a_range_of_layers_is_no_number_too_small(client: TestClient) -> None:
    """It offers both layers. A negative number is too small."""
    assert {"/toy/0", "/toy/1"} < set(offered(client, "/toy/0-1", 422).values())
    assert "layer '0-1' is not a whole number" in client.get("/toy/0-1").text.replace("&#39;", "'")
    assert "too small" in client.get("/toy/-1").text
    detail = client.get("/api/v1/models/toy/layers/0-1/neurons").json()["detail"]
    assert detail == "layer '0-1' is not a whole number."


def test_what_is_offered_is_there(client: TestClient) -> None:
    """Every offer is a page."""
    for path, status in (("/toi/9/9", 404), ("/go?to=wid/1/99", 404), ("/pre-onl", 404)):
        links = offered(client, path, status)
        assert links
        for href in links.values():
            assert client.get(href).status_code == 200


def test_what_is_like_nothing_offers_nothing(client: TestClient) -> None:
    """No model is offered at random."""
    assert offered(client, "/qqqqqqqqqq/1/1", 404) == {}


@pytest.mark.parametrize("typed", ["toi/3", "</script><b>", "layer nine", "1/9999", "toy/9/3"])
def test_what_was_typed_is_kept(client: TestClient, typed: str) -> None:
    """In the header's box and in the page's, as text, with the model it was typed at."""
    response = client.get("/go", params={"to": typed, "model": "toy"})
    assert response.status_code in (404, 422)
    from tests.helpers.html_reader import elements

    page = elements(response.text)
    boxes = [box for box in page.all("input") if box.attributes.get("name") == "to"]
    assert [box.attributes["value"] for box in boxes] == [typed, typed]
    models = [box for box in page.all("input") if box.attributes.get("name") == "model"]
    assert {box.attributes["value"] for box in models} == {"toy"}


def test_json_errors_stay_as_they_are(client: TestClient) -> None:
    """Nearest places are for readers of pages."""
    assert set(client.get("/api/v1/models/toi").json()) == {"error", "detail", "status"}
