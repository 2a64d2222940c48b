"""The index of notes, and the marks of neurons with notes where neurons are listed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.conftest import fill
from tests.helpers.html_reader import read
from tests.helpers.note_servers import API, OTHER, keeping, write

TOY = "/api/v1/models/toy"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server with four notes: two on toy 0/1, one on toy 1/1, one on another model."""
    with (
        fill(f"sqlite:///{tmp_path_factory.mktemp('index') / 'store.db'}") as url,
        keeping(url) as client,
    ):
        for path, text in (
            (API, "first"),
            (OTHER, "second\n<b>not bold</b>"),
            (API, "third"),
            ("/api/v1/models/wide/layers/0/neurons/3/notes", "elsewhere"),
        ):
            write(client, text, path=path)
        yield client


def test_the_index_lists_the_newest_first(client: TestClient) -> None:
    """Of all models, each note leads to its neuron."""
    page = read(client, "/notes")
    assert [text.text for text in page.all("p", "said")] == [
        "elsewhere",
        "third",
        "second\n<b>not bold</b>",
        "first",
    ]
    links = [heading.all("a")[0] for heading in page.all("h2")]
    assert [link.attributes["href"] for link in links] == [
        "/wide/0/3#notes",
        "/toy/0/1#notes",
        "/toy/1/1#notes",
        "/toy/0/1#notes",
    ]
    assert links[0].text == "wide 0/3"


def test_a_model_has_an_index_of_its_own(client: TestClient) -> None:
    """The page and the JSON have only its notes; a model that is not there is not found."""
    assert len(read(client, "/toy/notes").all("p", "said")) == 3
    found = client.get(f"{TOY}/notes").json()
    assert (found["model"], found["count"]) == ("toy", 3)
    assert [note["text"] for note in found["items"]] == [
        "third",
        "second\n<b>not bold</b>",
        "first",
    ]
    first = client.get(f"{TOY}/notes?limit=2").json()
    rest = client.get(f"{TOY}/notes", params={"limit": 2, "cursor": first["next"]}).json()
    assert [note["text"] for note in rest["items"]] == ["first"]
    for path in ("/none/notes", "/api/v1/models/none/notes"):
        assert client.get(path).status_code == 404


def test_a_neuron_s_json_has_its_notes(client: TestClient) -> None:
    """Newest first; an empty list where nobody wrote."""
    noted = client.get(f"{TOY}/layers/0/neurons/1").json()
    assert [note["text"] for note in noted["notes"]] == ["third", "first"]
    assert client.get(f"{TOY}/layers/0/neurons/2").json()["notes"] == []


def test_without_notes_the_json_says_so_and_nothing_leads_there(
    sqlite_client: TestClient,
) -> None:
    """null instead of a list, no link in the header, no page."""
    assert sqlite_client.get(f"{TOY}/layers/0/neurons/1").json()["notes"] is None
    links = [a.attributes.get("href") for a in read(sqlite_client, "/toy").all("a")]
    assert not [href for href in links if href and href.endswith("/notes")]
    assert sqlite_client.get("/notes").status_code == 404


@pytest.mark.parametrize(
    ("path", "noted"),
    [
        ("/toy/0?sort=neuron", {"1": "2 notes"}),
        ("/toy/neurons?q=sort:neuron", {"0/1": "2 notes", "1/1": "1 note"}),
        ("/list?n=toy/0/1,0/2,wide/0/3", {"toy 0/1": "2 notes", "wide 0/3": "1 note"}),
    ],
)
def test_tables_mark_neurons_with_notes(
    client: TestClient, path: str, noted: dict[str, str]
) -> None:
    """The number stands beside the name, and nowhere else."""
    marks = {
        row.all("a", "name")[0].text.strip(): row.all("span", "noted")[0].attributes["title"]
        for row in read(client, path).all("tr")
        if row.all("span", "noted")
    }
    assert marks == noted


def test_a_model_s_gallery_marks_neurons_with_notes(client: TestClient) -> None:
    """As tables do, on the model's page and on the first page."""
    before = client.get("/api/v1/models?limit=2").json()["next"]
    for path in ("/toy", f"/?limit=1&cursor={before}"):
        (gallery,) = read(client, path).all("section", "gallery")
        marks = {
            line.all("a", "name")[0].text: [
                mark.attributes["title"] for mark in line.all("span", "noted")
            ]
            for line in gallery.all("li")
        }
        noted = {"0/1": ["2 notes"], "1/1": ["1 note"]}
        assert marks.keys() & noted.keys()
        assert marks == {name: noted.get(name, []) for name in marks}


def test_a_search_marks_neurons_with_notes(client: TestClient) -> None:
    """Of a text: those beside each context, too."""
    beside = [
        (peak.all("a")[-1].text.strip(), [mark.text for mark in peak.all("span", "noted")])
        for peak in read(client, "/toy/search?text=the").all("span", "peak")
    ]
    assert {name for name, marks in beside if marks} <= {"0/1", "1/1"}
    assert {name for name, marks in beside if not marks}.isdisjoint({"0/1", "1/1"})
    assert any(marks for _, marks in beside)


def test_every_page_has_the_same_header(client: TestClient) -> None:
    """Search, compare, list, notes and help can be reached from everywhere."""
    for path in ("/", "/toy", "/toy/0/1", "/list", "/compare", "/help", "/notes", "/nowhere/9"):
        (tools,) = read(client, path, 404 if path == "/nowhere/9" else 200).all("nav", "tools")
        words = [link.text.strip() for link in tools.all("a")]
        assert {"Search", "Compare", "List", "Notes", "API", "? Help"} <= set(words), path
