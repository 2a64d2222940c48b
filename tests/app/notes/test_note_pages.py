"""Notes as HTML: a form that works by itself, hostile text that is only text, pages of many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from app.notes import view as note_view
from app.notes.routes import PER_PAGE
from indexer.store.database import open_store
from tests.conftest import fill
from tests.helpers.fixture_store import TOY_PRE
from tests.helpers.html_reader import Element, elements, read
from tests.helpers.note_servers import API, HOSTILE, NEURON, TOKEN, keeping, send, texts, write


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, str]]:
    """A server over the hand-written store which keeps notes, and the store's address."""
    with (
        fill(f"sqlite:///{tmp_path_factory.mktemp('pages') / 'store.db'}") as url,
        keeping(url, embed="*") as client,
    ):
        yield client, url


@pytest.fixture
def client(server: tuple[TestClient, str]) -> TestClient:
    """A client of that server; there are no notes yet."""
    engine = open_store(server[1], create=False)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM notes"))
    engine.dispose()
    return server[0]


def said(page: Element) -> list[str]:
    """The texts of a page's notes."""
    return [note.text for note in page.all("p", "said")]


def form_of(page: Element) -> Element:
    """The form for a new note."""
    (form,) = page.all("details", "write")[0].all("form")
    return form


def test_a_note_is_written_by_the_form(client: TestClient) -> None:
    """It leads back to the neuron's notes, which then have it, with its lines as typed."""
    form = form_of(read(client, NEURON))
    assert form.attributes["method"] == "post"
    response = send(
        client, form.attributes["action"], author="Mira", text="One.\n\n\tTwo.", token=TOKEN
    )
    assert (response.status_code, response.headers["location"]) == (303, f"{NEURON}#notes")
    assert response.headers["cache-control"] == "no-store"
    page = read(client, NEURON)
    assert said(page) == ["One.\n\n\tTwo."]
    (newest,) = page.all("p", "newest")
    assert newest.text.split() == ["Newest", "note:", "One.", "Two.", "Mira"]
    (link,) = newest.all("a")
    assert (
        link.attributes["href"] == f"#{page.all('ol', 'written')[0].all('li')[0].attributes['id']}"
    )
    (heading,) = page.all("ol", "written")[0].all("h3")
    assert heading.text.startswith("Mira 20")
    assert heading.text.endswith(" UTC")
    (time,) = heading.all("time")
    assert time.attributes["datetime"] == client.get(API).json()["items"][0]["time"].replace(
        "Z", "+00:00"
    )
    assert texts(client) == ["One.\n\n\tTwo."]


@pytest.mark.parametrize("query", ["", f"?run={TOY_PRE}", "?view=window", "?run=4&view=context"])
def test_the_form_leads_back_to_the_page_it_is_on(client: TestClient, query: str) -> None:
    """With its run and its layout."""
    form = form_of(read(client, NEURON + query))
    response = send(client, form.attributes["action"], author="a", text="b", token=TOKEN)
    assert response.headers["location"] == f"{NEURON}{query}#notes"
    assert said(read(client, NEURON + query)) == ["b"]


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({"token": "wrong"}, 403, "This is not the server's token for notes"),
        ({"token": ""}, 403, "This is not the server's token for notes"),
        ({"author": ""}, 422, "The author line is empty"),
        ({"text": ""}, 422, "The note is empty"),
        ({"text": "x" * 4001}, 422, "4,001 characters: the maximum is 4,000"),
        ({"text": "bell \x07"}, 422, "U+0007"),
        ({"delete": "x"}, 422, "The form names no note"),
        ({"delete": "9" * 30}, 422, "The form names no note"),
        ({"delete": "99"}, 404, "has no note 99"),
        ({"delete": "1", "token": "wrong"}, 403, "Nothing was changed"),
    ],
)
def test_what_is_refused_stays_in_the_form(
    client: TestClient, fields: dict[str, str], status: int, problem: str
) -> None:
    """A page says why, with the status; what was typed is there, the token is not."""
    write(client, "stays")
    typed = {"author": "Mira", "text": "Two\nlines", "token": TOKEN} | fields
    response = send(client, **typed)
    assert response.status_code == status
    assert response.headers["cache-control"] == "no-store"
    page = elements(response.text)
    (notice,) = page.all("p", "notice")
    assert problem in notice.text
    assert ("data-refused" in notice.attributes) == (status == 403)
    (area,) = page.all("textarea")
    assert area.text.lstrip("\n") == typed["text"]
    fields_ = {field.attributes.get("name"): field for field in form_of(page).all("input")}
    assert fields_["author"].attributes["value"] == typed["author"]
    assert "value" not in fields_["token"].attributes
    assert TOKEN not in response.text
    assert said(page) == ["stays"]
    assert texts(client) == ["stays"]


def test_what_is_no_form_of_ours_is_refused(client: TestClient) -> None:
    """Too large, not UTF-8, more fields than there are, a neuron or run that is not there."""
    path = f"{NEURON}/notes"
    assert send(client, text="x" * 70_000).status_code == 413
    assert client.post(path, content=b"text=%E9").status_code == 422
    assert client.post(path, content="&".join("abcdefghij")).status_code == 422
    for nowhere in ("/toy/0/9/notes", "/nobody/0/0/notes", f"{path}?run=2"):
        assert send(client, nowhere, author="a", text="b", token=TOKEN).status_code == 404
        assert client.get(nowhere).status_code == 404
    assert texts(client, "/api/v1/notes") == []


def test_hostile_text_is_only_text(client: TestClient) -> None:
    """Markup is shown, what would turn or hide text is spelled out, marks do not pile up."""
    write(client, HOSTILE, author="\u202e<b>\u200bme")
    for path in (NEURON, f"{NEURON}/notes"):
        response = client.get(path)
        page = elements(response.text)
        assert "alert" not in "".join(script.text for script in page.all("script"))
        (section,) = page.all("section", "notes")
        assert not section.all("img")
        assert not section.all("b")
        for character in "\u202e\u2066\u200b":
            assert character not in response.text
        (shown,) = said(page)
        assert shown.startswith("</p></textarea><script>alert(1)</script><img src=x")
        assert "\n‹U+202E›gnirts‹U+2066› ‹U+200B›\n\tindented {{ 7 * 7 }}\n" in shown
        assert "\u0301" * 5 not in shown
        assert section.all("bdi")[0].text == "‹U+202E›<b>‹U+200B›me"
    # Typed again after a refusal, it is in the form as it was.
    page = elements(send(client, author="<b>", text="</textarea><b>", token="wrong").text)
    assert page.all("textarea")[0].text.lstrip("\n") == "</textarea><b>"


def test_lines_and_tabs_are_themselves() -> None:
    """Also empty ones; a mark at the beginning of a line gets something to stand on."""
    assert str(note_view.note_markup("a\n\n\tb\t\tc")) == "a\n\n\tb\t\tc"
    assert str(note_view.note_markup("a\n\u0301")) == "a\n◌\u0301"


def test_a_note_is_deleted_by_its_button(client: TestClient) -> None:
    """Each has its own, with a field for the token."""
    write(client, "stays")
    write(client, "goes")
    first = read(client, NEURON).all("details", "delete")[0]
    (number,) = [
        field.attributes["value"]
        for field in first.all("input")
        if field.attributes["name"] == "delete"
    ]
    (form,) = first.all("form")
    response = send(client, form.attributes["action"], delete=number, token=TOKEN)
    assert (response.status_code, response.headers["location"]) == (303, f"{NEURON}#notes")
    assert said(read(client, NEURON)) == ["stays"]


def test_many_notes_have_pages_of_their_own(client: TestClient) -> None:
    """The neuron's page shows the newest and leads to all, from page to page."""
    assert "No notes yet." in client.get(NEURON).text
    for number in range(2 * PER_PAGE + 1):
        write(client, f"note {number}")
    page = read(client, NEURON)
    newest = [f"note {number}" for number in range(2 * PER_PAGE, -1, -1)]
    assert said(page) == newest[:PER_PAGE]
    (link,) = [a for a in page.all("a") if a.text == "All 41 notes"]
    (count,) = [a.text for a in page.all("a") if a.attributes["href"] == "#notes"]
    assert count == "Notes 41"
    found: list[str] = []
    path: Any = link.attributes["href"]
    while path:
        page = read(client, path)
        found += said(page)
        links = {a.text: a.attributes["href"] for a in page.all("a")}
        assert ("First page" in links) == (len(found) > PER_PAGE)
        path = links.get("Next page")
    assert found == newest


def test_bare_pages_have_no_notes(client: TestClient) -> None:
    """A form with a token is nothing for another site's frame."""
    write(client, "not here")
    response = client.get(f"{NEURON}?embed=1")
    assert "not here" not in response.text
    assert not elements(response.text).all("form")
    assert response.headers["etag"] == client.get(f"{NEURON}?embed=1").headers["etag"]
