"""The page and the JSON of a search by number: one query, shown twice; what is wrong is marked."""

from __future__ import annotations

from html import escape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.testclient import TestClient

from app.reading.statistics import STATISTICS
from app.search.numbers.grammar import parse
from app.web import urls
from tests.browser.test_accessibility import toy_server, violations
from tests.browser.test_browser import SCREENSHOTS, follow, in_both, visiting
from tests.helpers.fixture_store import MARKUP_SOURCE, SCRIPT, TOY_PRE, WIDE_RUN
from tests.helpers.html_reader import Element, read

__all__ = ["toy_server"]

API = "/api/v1/models/{}/neurons"


def found(client: TestClient, model: str, **query: Any) -> Any:
    """The JSON of a search."""
    response = client.get(API.format(model), params=query)
    assert response.status_code == 200, response.text
    return response.json()


def rows(page: Element) -> list[list[str]]:
    """The table's cells in words, row by row."""
    (table,) = page.all("table")
    return [
        [cell.text.strip() for cell in row.walk() if cell.tag in ("th", "td")]
        for row in table.all("tbody")[0].all("tr")
    ]


def box(page: Element) -> Element:
    """Where the query stands."""
    return page.by_id("q")


def test_the_json_is_exactly_this(any_client: TestClient) -> None:
    """Every field of a small search, written out by hand."""
    given = found(any_client, "toy", q="sort:-kurtosis max>2.5", limit=1)
    assert given.pop("run")["id"] == 3
    assert given == {
        "model": "toy",
        "sample": {"contexts": 8, "positions": 20},
        "n_layers": 2,
        "n_neurons": 8,
        "sources": ["plain", MARKUP_SOURCE, ""],
        "query": "max>2.5 sort:-kurtosis",
        "sort": "kurtosis",
        "order": "desc",
        "total": 1,
        "items": [
            {
                "layer": 1,
                "neuron": 1,
                "max": 4.0,
                "min": -4.0,
                "mean": 0.25,
                "std": 0.5,
                "skewness": 1.5,
                "kurtosis": 3.0,
                "density": 0.5,
                "density_over_tenth": 0.375,
                "lookup": 0.625,
                "effect_kurtosis": 4.5,
                "in_out_cosine": None,
                "gate_out_cosine": None,
                "dead": False,
                "peak_token": SCRIPT,
                "promoted_token": SCRIPT,
                "top_source": None,
                "computed": {},
                "partner": None,
            }
        ],
        "next": None,
    }


def test_pages_of_json_are_followed(any_client: TestClient) -> None:
    """`next` leads through all neurons, each once; another run can be named."""
    query: dict[str, Any] = {"q": "max<=1", "limit": 4}
    page = found(any_client, "wide", **query)
    places, total = [], page["total"]
    while True:
        places += [(row["layer"], row["neuron"]) for row in page["items"]]
        if page["next"] is None:
            break
        page = found(any_client, "wide", **query, cursor=page["next"])
    assert len(places) == len(set(places)) == total > 8
    assert found(any_client, "toy", run=TOY_PRE)["n_neurons"] == 3


def test_the_page_shows_its_json(any_client: TestClient) -> None:
    """The same neurons in the same order, under the query as it was typed."""
    text = " density<60%  max>0 "
    path = urls.search_numbers("wide", q=text)
    page = read(any_client, path)
    (json,) = [a for a in page.all("a") if a.text == "JSON"]
    given = any_client.get(json.attributes["href"]).json()
    assert [row[0] for row in rows(page)] == [
        f"{row['layer']}/{row['neuron']}" for row in given["items"]
    ]
    assert box(page).attributes["value"] == text
    (caption,) = page.all("caption")
    assert " ".join(caption.text.split()) == f"{given['total']} neurons by density, ascending"
    for link in page.all("a", "name"):
        assert any_client.get(link.attributes["href"]).status_code == 200


def test_the_statistics_asked_about_are_columns(client: TestClient) -> None:
    """First those of the query, then usual ones; a column's link sorts by it, or the other way."""
    page = read(client, urls.search_numbers("toy", q="std>0 in_out_cosine>-1 sort:-skewness"))
    heads = {head.text.strip(): head for head in page.all("th") if "scope" in head.attributes}
    names = [name for name in heads if "/" not in name]
    assert names == [
        *("Neuron", "Peaks on", "Promotes"),
        *("Std", "In–out cosine", "Skewness ↓", "Max", "Density"),
    ]
    assert [name for name, head in heads.items() if "aria-sort" in head.attributes] == [
        "Skewness ↓"
    ]

    def leads(name: str) -> str:
        (link,) = heads[name].all("a")
        return parse_qs(urlsplit(link.attributes["href"]).query)["q"][0]

    assert leads("Std") == "std>0 in_out_cosine>-1 sort:-std"
    assert leads("Skewness ↓") == "std>0 in_out_cosine>-1 sort:skewness"
    assert leads("Neuron") == "std>0 in_out_cosine>-1 sort:neuron"
    for text in ("max>0 min<9 mean>-9 std>=0 density>=0 kurtosis>-9", "sort:-gate_out_cosine"):
        page = read(client, urls.search_numbers("toy", q=text))
        shown = [head.text.strip().split()[0].lower() for head in page.all("th", "num")]
        assert shown[: len(parse(text).statistics)] == [
            name.split("_")[0] for name in parse(text).statistics
        ]


def test_every_statistic_can_be_asked_for(client: TestClient) -> None:
    """Each has a column, a definition on the page, and a name that sorts."""
    page = read(client, urls.search_numbers("toy"))
    (grammar,) = page.all("details", "grammar")
    for name, statistic in STATISTICS.items():
        assert name in grammar.text
        assert statistic.definition in grammar.text
        assert read(client, urls.search_numbers("toy", q=f"sort:{name}")).all("table")


def test_pages_are_turned(client: TestClient) -> None:
    """First and next page keep the query and the run; the first page has no first."""
    page = read(client, f"/wide/neurons?q=sort:max&run={WIDE_RUN}")
    assert not page.all("nav", "pager")
    assert len(rows(page)) == 42
    cursor = found(client, "wide", q="sort:max", limit=40)["next"]
    page = read(client, urls.search_numbers("wide", q="sort:max", cursor=cursor))
    assert len(rows(page)) == 2
    (pager,) = page.all("nav", "pager")
    assert [(a.text, a.attributes["href"]) for a in pager.all("a")] == [
        ("First page", urls.search_numbers("wide", q="sort:max"))
    ]
    last = found(client, "wide", q="sort:max")["items"][-1]
    assert rows(page)[-1][0] == f"{last['layer']}/{last['neuron']}"


def test_a_run_is_kept(client: TestClient) -> None:
    """Of another run than the default one, every link and the form go on naming it."""
    page = read(client, f"/toy/neurons?run={TOY_PRE}")
    assert len(rows(page)) == 3
    (form,) = page.all("form", "asking")
    (hidden,) = [one for one in form.all("input") if one.attributes.get("type") == "hidden"]
    assert (hidden.attributes["name"], hidden.attributes["value"]) == ("run", str(TOY_PRE))
    (tries,) = page.all("div", "tries")
    for link in [*page.all("a", "name"), *page.all("table")[0].all("a"), *tries.all("a")]:
        assert f"run={TOY_PRE}" in link.attributes["href"]
    assert "You are looking at run" in page.text


def test_the_examples_can_be_read(client: TestClient) -> None:
    """Each query to try is one, and leads to a page; one is of a source of the run."""
    (tries,) = read(client, "/toy/neurons").all("div", "tries")
    links = tries.all("a")
    assert "source:plain max>1" in [link.text for link in links]
    for link in links:
        page = read(client, link.attributes["href"])
        assert box(page).attributes["value"] == link.text


def test_nothing_found_is_said(client: TestClient) -> None:
    """No table, one sentence."""
    page = read(client, urls.search_numbers("toy", q="max>1000"))
    assert not page.all("table")
    assert page.all("p", "empty")[0].text.startswith("No neuron matches all")
    assert found(client, "toy", q="max>1000")["items"] == []


@pytest.mark.parametrize(
    ("text", "wrong", "said"),
    [
        ("max>1 kurtosi>3", "kurtosi", "kurtosis?"),
        ("layer:7 max>1", "7", "layers 0 to 1"),
        ("source:nowhere", "nowhere", "its sources are plain"),
        ("dead:", "", "dead:yes or dead:no"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>", "try max>5"),
        ('"><img src=x onerror=alert(1)>', '"', "try max>5"),
    ],
)
def test_a_wrong_query_is_marked(any_client: TestClient, text: str, wrong: str, said: str) -> None:
    """422 with the box still filled, the wrong part marked, and what can be written."""
    page = read(any_client, urls.search_numbers("toy", q=text), 422)
    assert box(page).attributes["value"] == text
    assert box(page).attributes["aria-describedby"] == "problem"
    problem = page.by_id("problem")
    (mark,) = problem.all("mark")
    assert mark.text.startswith(wrong)
    assert problem.all("code")[0].text == text
    assert said in problem.text
    assert not page.all("table")
    assert not page.all("img")
    assert "open" in page.all("details", "grammar")[0].attributes
    response = any_client.get(API.format("toy"), params={"q": text})
    assert response.status_code == 422
    assert response.json()["status"] == 422
    assert response.json()["detail"] in problem.text


def test_what_cannot_be_seen_does_not_reach_the_page(client: TestClient) -> None:
    """Control and bidirectional characters are shown as one that stands for them."""
    for text, status in (
        ("a\x00\u202e\x1b", 422),
        ('source:"\u202e"', 422),
        ("max>1\x0bmin<0", 200),
    ):
        body = client.get(urls.search_numbers("toy", q=text))
        assert body.status_code == status
        assert not set("\x00\u202e\x1b\x0b") & set(body.text)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("nobody/neurons", 404),
        ("toy/neurons?run=2", 404),
        ("toy/neurons?run=0", 422),
        ("toy/neurons?cursor=x", 422),
        (f"toy/neurons?q={'x' * 2000}", 422),
    ],
)
def test_what_is_not_there_is_said(any_client: TestClient, path: str, status: int) -> None:
    """The same status on the page and in JSON."""
    assert any_client.get(f"/{path}").status_code == status
    assert any_client.get(f"/api/v1/models/{path}").status_code == status


def test_only_answers_are_kept(client: TestClient) -> None:
    """A search has an ETag and is not sent twice; a refusal has none."""
    path = urls.search_numbers("toy", q="max>0")
    tag = client.get(path).headers["etag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    assert "etag" not in client.get(urls.search_numbers("toy", q="max")).headers


def test_the_model_s_page_leads_here(client: TestClient) -> None:
    """By way of the page of all searches, with the run it shows."""
    page = read(client, f"/toy?run={TOY_PRE}")
    (link,) = [a for a in page.all("a") if a.text == "Search"]
    searches = urls.search("toy", run=TOY_PRE)
    assert link.attributes["href"] == searches
    (link,) = [a for a in read(client, searches).all("a") if a.text == "query syntax"]
    assert link.attributes["href"] == urls.search_numbers("toy", run=TOY_PRE)


@in_both
def test_a_reader_searches_without_scripts(
    browser: Any, toy_server: str, size: dict[str, int], scheme: str
) -> None:
    """A query typed and sent finds neurons; a wrong one stays in the box; nothing overflows."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    options = {"java_script_enabled": False, "viewport": size, "color_scheme": scheme}
    with visiting(browser, toy_server, **options) as page:
        page.goto("/wide")
        follow(page.get_by_role("link", name="Search", exact=True))
        page.get_by_label("Search by statistics").fill("max>0")
        follow(page.get_by_role("button", name="Find").nth(2))
        for name, text in (("found", "max>0 sort:-density"), ("none", "max>1e40")):
            page.get_by_label("Query").fill(text)
            follow(page.get_by_role("button", name="Search"))
            assert page.get_by_label("Query").input_value() == text
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
            page.screenshot(path=SCREENSHOTS / f"numbers-{name}-{size['width']}-{scheme}.png")


@in_both
def test_axe_finds_no_violation(
    browser: Any, toy_server: str, size: dict[str, int], scheme: str
) -> None:
    """What was found, with the grammar open."""
    with visiting(browser, toy_server, viewport=size, color_scheme=scheme) as page:
        page.goto(urls.search_numbers("toy", q="max>0"))
        page.locator(".grammar summary").click()
        assert violations(page) == []


def test_the_title_is_text(client: TestClient) -> None:
    """What was typed stands in the title, and is no markup."""
    text = 'source:"<b>bold</b>"'
    body = client.get(urls.search_numbers("toy", q=text)).text
    assert escape(text, quote=False).replace('"', "&#34;") in body
    assert "<b>bold" not in body
