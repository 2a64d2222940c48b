"""The pages of searches in what their JSON has no part in: links, boxes, titles, what is said."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from app.contexts.schemas import ContextNeurons
from app.contexts.view import context_view
from app.web.links import Links
from tests.helpers.html_reader import read

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


SEEN = "\N{REPLACEMENT CHARACTER}"
HIDDEN = "a\u202eb\u2066c\x1b"


@pytest.mark.parametrize(
    ("path", "query", "status", "box"),
    [
        ("/toy/search", {"text": HIDDEN}, 200, "text"),
        ("/toy/search", {"text": f'"{HIDDEN}'}, 422, "text"),
        ("/toy/search", {"token": HIDDEN}, 404, "token"),
        ("/list", {"n": "toy/0/0", "title": HIDDEN}, 200, "title"),
        ("/list", {"n": f"toy/0/0,x{HIDDEN}", "add": HIDDEN}, 422, "add"),
        ("/compare", {"a": HIDDEN, "b": "toy/0/0"}, 422, "a"),
    ],
)
def test_nothing_typed_acts_on_the_page(
    client: TestClient, path: str, query: dict[str, str], status: int, box: str
) -> None:
    """Control and bidirectional characters are seen in titles and boxes, and turn no text round."""
    address = f"{path}?{urlencode(query)}"
    html = read(client, address, status)
    assert not set("\u202e\u2066\x1b") & set(html.text)
    value = html.by_id(box).attributes["value"]
    wanted = "".join(one if one.isprintable() else SEEN for one in query[box])
    assert value == ("" if box == "token" else wanted)
    if box == "title":
        assert html.all("title")[0].text == f"{wanted} · Neurarium"
        assert html.all("h1")[0].text == "a‹U+202E›b‹U+2066›c‹ESC›"


@pytest.mark.parametrize(
    ("token_id", "value", "placeholder"),
    [
        (2, " cat", None),
        (4, "", "↵"),
        (9, "", "‹U+202E›evil‹U+2066›"),
        (16, "", "→"),
        (17, "é", None),
    ],
)
def test_a_box_holds_a_token_or_shows_it(
    client: TestClient, token_id: int, value: str, placeholder: str | None
) -> None:
    """What a box cannot hold, such as a line break, stands in it as its name alone."""
    box = read(client, f"/toy/search?token_id={token_id}").by_id("token")
    assert box.attributes["value"] == value
    assert box.attributes.get("placeholder") == placeholder


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"token": "the", "text": "cat"}, "Search for a token or for a text"),
        ({"token_id": "1", "text": "cat"}, "Search for a token or for a text"),
        ({"token": "the", "token_id": "2"}, "both name a token"),
    ],
)
def test_two_questions_at_once_are_refused(
    client: TestClient, query: dict[str, str], says: str
) -> None:
    """None is left out in silence; boxes that were left empty ask for nothing."""
    html = read(client, f"/toy/search?{urlencode(query)}", 422)
    assert says in html.by_id("problem").text
    assert html.by_id("token").attributes["value"] == query.get("token", "")
    assert html.by_id("text").attributes["value"] == query.get("text", "")
    if "text" not in query:
        answer = client.get(f"{API}/toy/search/token", params=query)
        assert answer.status_code == 422
        assert says in answer.json()["detail"]
    assert client.get("/toy/search?token=&text=cat").status_code == 200
    assert client.get("/toy/search?token=the&text=").status_code == 200


def test_a_line_break_can_be_written(client: TestClient) -> None:
    """As in programs: where no token is spelled so, those with the line break are offered."""
    html = read(client, "/toy/search?token=%5Cn", 404)
    links = [link.attributes["href"] for link in html.by_id("main").all("a")]
    assert "/toy/search?token_id=4" in links
    assert "is exactly “\\n”" in html.by_id("problem").text


def test_troughs_at_the_activation_s_minimum_are_folded(client: TestClient) -> None:
    """If several neurons' tie there; top examples and other troughs stay in the table."""
    page = ContextNeurons.model_validate(client.get(f"{API}/toy/contexts/7").json())
    first = page.items[0]
    values = {0: 3.0, 1: -0.17, 2: -0.170001, 3: -0.1699999, 4: -0.12}
    items = [
        first.model_copy(
            update={"neuron": at, "value": value, "kind": "bottom" if value < 0 else "top"}
        )
        for at, value in values.items()
    ]

    def folded(count: int) -> tuple[list[int], list[int], str]:
        view = context_view(page.model_copy(update={"items": items[:count]}), Links("toy"))
        return [row.neuron for row in view.shown], [row.neuron for row in view.tied], view.tie

    assert folded(5) == (
        [0, 4],
        [1, 2, 3],
        "3 neurons tie at the activation's minimum, −0.170",
    )
    assert folded(3) == ([0, 1, 2], [], "")
