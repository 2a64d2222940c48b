"""The pages of a layer and of a model: a picture beside a table, strips on one axis."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from app.models.picture import MOST_NEURONS
from indexer.store.database import open_store
from tests.conftest import serving
from tests.helpers.fixture_neurons import CONSTANT, DEAD, PLAIN, SCRIPT
from tests.helpers.fixture_store import RunOf, wide_layer
from tests.helpers.html_reader import Element, read


def cells(page: Element) -> list[tuple[str, str, str]]:
    """Address, colour and title of each cell of a layer's picture."""
    (grid,) = page.all("div", "grid")
    return [
        (cell.attributes["href"], cell.attributes["class"], cell.all("title")[0].text)
        for cell in grid.all("a")
    ]


def links(page: Element, css: str) -> dict[str, Element]:
    """The links of a small navigation, by their words."""
    (nav,) = page.all("nav", css)
    return {link.text: link for link in nav.all("a")}


@pytest.mark.parametrize("stat", ["max", "density", "effect_kurtosis"])
def test_the_picture_shows_its_json(client: TestClient, stat: str) -> None:
    """Each neuron once, in order, with the colour that the JSON's cuts give it."""
    page = read(client, f"/wide/0?picture={stat}")
    given = client.get(f"/api/v1/models/wide/layers/0/picture?stat={stat}").json()
    shown = cells(page)
    assert [address for address, *_ in shown] == [f"/wide/0/{index}" for index in range(37)]
    for (_, css, title), value, dead in zip(shown, given["values"], given["dead"], strict=True):
        colour = "v" if value is None else f"p{1 + sum(cut < value for cut in given['cuts'])}"
        assert css == ("d" if dead else colour)
        assert ("dead" in title) == dead
    assert page.by_id("distribution").text
    (json,) = [a for a in page.all("a") if a.text == "As JSON"]
    assert client.get(json.attributes["href"]).json() == given


def test_the_table_begins_with_the_darkest_cells(client: TestClient) -> None:
    """Where no order is asked for it is the picture's statistic, from the largest."""
    for stat, asked in (("max", ""), ("density", "?picture=density"), ("mean", "?sort=mean")):
        page = read(client, f"/wide/0{asked}")
        given = client.get(f"/api/v1/models/wide/layers/0/neurons?sort={stat}&order=desc").json()
        names = [name.text for name in page.all("a", "name")]
        assert names == [str(item["neuron"]) for item in given["items"]]
        (heading,) = [th for th in page.all("th") if "aria-sort" in th.attributes]
        assert heading.text.strip().lower().startswith(stat)
        assert heading.attributes["aria-sort"] == "descending"


def test_every_statistic_can_be_sorted_by(client: TestClient) -> None:
    """A heading for each, which leads to the layer in that order and keeps the picture."""
    page = read(client, "/wide/0?picture=density&limit=7&run=6")
    heads = {th.text.strip(" ↓↑\n"): th.all("a") for th in page.all("th") if th.all("a", None)}
    sortable = ["Neuron", "Max", "Density", "Mean", "Kurtosis", "Effect kurtosis"]
    assert [name for name in heads if name in sortable] == sortable
    for name in sortable:
        address = heads[name][0].attributes["href"]
        assert "picture=density" in address
        assert "limit=7" in address
        assert len(read(client, address).all("a", "name")) == 7


def test_the_picture_s_choice_keeps_the_order_that_was_asked_for(client: TestClient) -> None:
    """And no more: without one, the table follows the picture."""
    choice = links(read(client, "/wide/0?sort=mean&order=asc"), "choice")
    assert list(choice) == ["scatter", "grid: max", "density", "effect kurtosis"]
    current = [words for words, link in choice.items() if "aria-current" in link.attributes]
    assert current == ["scatter"]
    assert choice["density"].attributes["href"] == "/wide/0?picture=density&sort=mean&order=asc"
    choice = links(read(client, "/wide/0?picture=effect_kurtosis"), "choice")
    assert choice["scatter"].attributes["href"] == "/wide/0"
    assert choice["grid: max"].attributes["href"] == "/wide/0?picture=max"
    assert "aria-current" in choice["effect kurtosis"].attributes


def test_a_run_that_was_named_goes_on_in_the_picture(client: TestClient) -> None:
    """On a page with ?run= the cells keep it."""
    page = read(client, "/toy/0?picture=max&run=4")
    assert [address for address, *_ in cells(page)] == ["/toy/0/0?run=4", "/toy/0/1?run=4"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of a store with layers that are odd: very wide, dead, of one neuron, constant."""
    url = f"sqlite:///{tmp_path_factory.mktemp('odd') / 'store.db'}"
    engine = open_store(url, create=True)
    layers = (wide_layer(MOST_NEURONS * 2 + 1), (DEAD,) * 3, (PLAIN,), (CONSTANT,) * 40)
    RunOf("odd", layers).write(engine)
    engine.dispose()
    with serving(url) as client:
        yield client


def test_a_wide_layer_has_links_to_its_parts(odd: TestClient) -> None:
    """Three pictures of 8,193 neurons, each linked, the one shown marked; order is kept."""
    page = read(odd, f"/odd/0?picture=max&from={MOST_NEURONS}&sort=mean")
    assert [address for address, *_ in cells(page)][:2] == ["/odd/0/4096", "/odd/0/4097"]
    parts = links(page, "parts")
    assert list(parts) == ["0–4,095", "4,096–8,191", "8,192–8,192"]
    current = [words for words, link in parts.items() if "aria-current" in link.attributes]
    assert current == ["4,096–8,191"]
    last = read(odd, parts["8,192–8,192"].attributes["href"])
    assert [address for address, *_ in cells(last)] == ["/odd/0/8192"]
    assert "sort=mean" in parts["0–4,095"].attributes["href"]
    assert odd.get("/odd/0?from=8193").status_code == 404


@pytest.mark.parametrize(
    ("layer", "css", "said"),
    [
        (1, "d", "3 of 3 neurons are dead."),
        (2, "p1", "Max of neuron 0 is 2.50."),
        (3, "p1", "Max of every live neuron is 0.500."),
    ],
)
def test_layers_without_a_distribution_say_so(
    odd: TestClient, layer: int, css: str, said: str
) -> None:
    """No legend where there is nothing to tell apart; the picture and the table are there."""
    page = read(odd, f"/odd/{layer}?picture=max")
    assert {colour for _, colour, _ in cells(page)} == {css}
    assert page.by_id("distribution").text == said
    assert not page.all("ol", "steps-of-colour")
    assert len(page.all("a", "name")) == len(cells(page))
    assert not page.all("nav", "parts")
    read(odd, "/odd")


def test_hostile_tokens_stay_in_their_titles(client: TestClient) -> None:
    """A token that is a script is the text of a title, and no element."""
    titles = [title for *_, title in cells(read(client, "/toy/1?picture=max"))]
    assert any(SCRIPT in title for title in titles)
    assert len(titles) == 4


def test_a_model_s_layers_share_their_axes(client: TestClient) -> None:
    """A row a layer with two strips that say their quartiles; one axis above each column."""
    page = read(client, "/wide")
    layers = client.get("/api/v1/models/wide").json()["layers"]
    (table,) = page.all("table", "layers")
    assert len(table.all("svg", "axis")) == 2
    rows = [row for row in table.all("tr") if row.all("td")]
    assert len(rows) == len(layers)
    for row, layer in zip(rows, layers, strict=True):
        strips = row.all("svg", "strip")
        assert len(strips) == 2
        for strip in strips:
            assert strip.attributes["role"] == "img"
            assert re.match(r"median .+; half from .+; all from ", strip.attributes["aria-label"])
        assert f"{layer['density_quantiles'][10] * 100:.0f}" in strips[1].attributes["aria-label"]


def test_the_picture_is_small(odd: TestClient) -> None:
    """4,096 cells with addresses, tokens and values are under 16 bytes a cell, compressed."""
    response = odd.get("/odd/0?picture=max", headers={"accept-encoding": "gzip"})
    assert response.headers["content-encoding"] == "gzip"
    assert response.num_bytes_downloaded < 16 * MOST_NEURONS
