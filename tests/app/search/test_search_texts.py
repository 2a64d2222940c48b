"""A text search ranks by how specifically neurons peak on the match; a text that is no token shows
how the corpus splits it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from tests.conftest import serving
from tests.helpers.html_reader import read

API = "/api/v1/models/demo"


@pytest.fixture(scope="module")
def demo(demo_store: str) -> Iterator[TestClient]:
    """A client over the demo, really indexed."""
    with serving(demo_store) as client:
        yield client


def on_match(client: TestClient, context: Any) -> set[tuple[int, int]]:
    """The neurons that have a context as a top example with the peak on a token of “king”."""
    found = client.get(f"{API}/contexts/{context}", params={"limit": 1000}).json()
    ends = list(accumulate(map(len, found["tokens"])))
    kings = [word.span() for word in re.finditer(r"\bking\b", "".join(found["tokens"]), re.I)]
    covered = {
        position
        for position, (end, token) in enumerate(zip(ends, found["tokens"], strict=True))
        if any(first < end and end - len(token) < last for first, last in kings)
    }
    return {
        (item["layer"], item["neuron"])
        for item in found["items"]
        if item["kind"] == "top" and item["position"] in covered
    }


def test_contexts_come_by_the_most_specific_neuron(demo: TestClient) -> None:
    """In how many matching contexts a neuron peaks on the match, counted again by hand."""
    contexts: list[Any] = []
    cursor = None
    while True:
        query = {"q": "king", "limit": 100} | ({"cursor": cursor} if cursor else {})
        found = demo.get(f"{API}/search/text", params=query).json()
        contexts += found["items"]
        cursor = found["next"]
        if cursor is None:
            break
    assert len(contexts) == found["ranked"] == len({one["context_id"] for one in contexts})
    here = {one["context_id"]: on_match(demo, one["context_id"]) for one in contexts}
    counts = Counter(place for places in here.values() for place in places)
    assert counts, "the demo has a neuron of kings"
    assert [(one["layer"], one["neuron"], one["contexts"]) for one in found["neurons"]] == [
        (*place, counts[place])
        for place in sorted(counts, key=lambda place: (-counts[place], place))[:12]
    ]
    keys = [
        (
            -max((counts[place] for place in here[one["context_id"]]), default=0),
            -len(here[one["context_id"]]),
            one["context_id"],
        )
        for one in contexts
    ]
    assert keys == sorted(keys)
    assert [one["on_match"] for one in contexts] == [
        len(here[one["context_id"]]) for one in contexts
    ]


@pytest.mark.parametrize("sort", ["specific", "top", "context"])
def test_the_contexts_of_a_text_sort(demo: TestClient, sort: str) -> None:
    """The same contexts in every order, page by page, as the page has them."""
    query = {"q": "king", "limit": 100}
    whole = demo.get(f"{API}/search/text", params=query).json()["items"]
    keys: dict[str, Any] = {
        "specific": whole.index,
        "top": lambda one: (-one["top"], one["context_id"]),
        "context": lambda one: one["context_id"],
    }
    expected = [one["context_id"] for one in sorted(whole, key=keys[sort])]
    found: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        params = query | {"sort": sort, "limit": 7} | more
        page = demo.get(f"{API}/search/text", params=params).json()
        assert page["sort"] == sort
        found += [one["context_id"] for one in page["items"]]
        cursor = page["next"]
    assert found == expected
    html = read(demo, f"/demo/search?text=king&sort={sort}")
    names = [link.text for link in html.all("a", "name")]
    assert names == [str(one) for one in expected[: len(names)]]
    (current,) = [a for a in html.all("a") if a.attributes.get("aria-current") == "true"]
    assert f"sort={sort}" in current.attributes["href"]
    assert "do not sort by max" in read(demo, "/demo/search?text=king&sort=max", 422).text


def test_a_search_without_specific_neurons_says_so(demo: TestClient) -> None:
    """A text on which nothing peaks: the page has a sentence instead of neurons."""
    (first, *_) = demo.get(f"{API}/search/text", params={"q": "king"}).json()["items"]
    text = "".join(demo.get(f"{API}/contexts/{first['context_id']}").json()["tokens"])
    words = re.findall(r"[a-z]+ [a-z]+ [a-z]+", text)
    silent = next(
        word
        for word in words
        if (found := demo.get(f"{API}/search/text", params={"q": f'"{word}"'}).json())["items"]
        and not found["neurons"]
    )
    page = read(demo, f"/demo/search?text=%22{quote(silent)}%22")
    assert any("No neuron has its peak on the match" in p.text for p in page.all("p", "purpose"))


def spelled_in(client: TestClient, context: Any, word: str) -> set[tuple[str, ...]]:
    """The ways in which the tokens of a context spell a word, found by trying all stretches."""
    found = client.get(f"{API}/contexts/{context}").json()
    tokens = found["tokens"][found["included_from"] :]
    return {
        tuple(tokens[first:end])
        for first in range(len(tokens))
        for end in range(first + 2, min(len(tokens), first + 9) + 1)
        if "".join(tokens[first:end]) == word
    }


def test_a_split_is_what_the_corpus_has(demo: TestClient) -> None:
    """The pieces are those of a context with the text, and the page links to each."""
    found = demo.get(f"{API}/search/split", params={"text": "Nebuchadrezzar"}).json()
    assert found["splits"]
    contexts = demo.get(f"{API}/search/text", params={"q": "Nebuchadrezzar", "limit": 100}).json()
    for one in found["splits"]:
        assert one["contexts"] > 0
        pieces = tuple(piece["token"] for piece in one["pieces"])
        assert "".join(pieces) == one["text"]
        have = [
            item["context_id"]
            for item in contexts["items"]
            if pieces in spelled_in(demo, item["context_id"], one["text"])
        ]
        assert len(have) == one["contexts"]
    page = read(demo, "/demo/search?token=Nebuchadrezzar", status=404)
    links = [a.attributes["href"] for p in page.all("p", "split") for a in p.all("a")]
    assert links == [
        f"/demo/search?token_id={piece['token_id']}"
        for one in found["splits"]
        for piece in one["pieces"]
    ]
    assert any(a.text == "Search for the text" for a in page.all("a"))


def test_a_text_that_the_corpus_lacks_is_guessed(demo: TestClient) -> None:
    """Always the longest token that fits, and marked as a guess."""
    (guess,) = demo.get(f"{API}/search/split", params={"text": "qxzvneurarium"}).json()["splits"]
    assert guess["contexts"] == 0
    assert "".join(piece["token"] for piece in guess["pieces"]) == "qxzvneurarium"
    page = read(demo, "/demo/search?token=qxzvneurarium", status=404)
    assert "might be split as" in page.all("p", "split")[0].text


@pytest.mark.parametrize("sort", ["value", "count", "max", "density", "neuron"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_the_neurons_of_a_token_sort(demo: TestClient, sort: str, order: str) -> None:
    """The same neurons in every order, page by page."""
    query: dict[str, Any] = {"token": " the", "as": "peak"}
    answer = demo.get(f"{API}/search/token", params=query | {"limit": 1000}).json()
    whole = answer["items"]
    assert (answer["sort"], answer["order"]) == ("count", "desc")
    assert [row["value"] for row in whole] != sorted((row["value"] for row in whole), reverse=True)
    keys = [(row["layer"], row["neuron"]) if sort == "neuron" else (row[sort], 0) for row in whole]
    sign = -1 if order == "desc" else 1
    places = sorted(range(len(whole)), key=lambda at: tuple(sign * part for part in keys[at]))
    expected = [whole[place] for place in places]
    found: list[Any] = []
    cursor = None
    while cursor or not found:
        more = {"cursor": cursor} if cursor else {}
        page = demo.get(
            f"{API}/search/token",
            params=query | {"sort": sort, "order": order, "limit": 7} | more,
        ).json()
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == expected


@pytest.mark.parametrize(("role", "head"), [("peak", "Top examples"), ("promoted", "Logit effect")])
def test_the_head_of_a_table_says_its_order(demo: TestClient, role: str, head: str) -> None:
    """By default of the number of examples, or of the effects, which have no number."""
    page = read(demo, f"/demo/search?token=%20the&as={role}")
    (sorted_by,) = (one for one in page.all("th") if "aria-sort" in one.attributes)
    assert sorted_by.text.strip().startswith(head)
    assert sorted_by.attributes["aria-sort"] == "descending"


@pytest.mark.parametrize("path", ["search?token=%20the", "search?text=king", "contexts/5"])
def test_ticked_neurons_make_a_list(demo: TestClient, path: str) -> None:
    """Each neuron has a box with its name; several together are one list."""
    page = read(demo, f"/demo/{path}")
    boxes = [box for box in page.all("input") if box.attributes.get("form") == "ticks"]
    assert page.by_id("ticks").attributes["action"] == "/list"
    names = list(dict.fromkeys(box.attributes["value"] for box in boxes))
    links = {a.attributes["href"].partition("/contexts/")[0] for a in page.by_id("main").all("a")}
    assert {f"/{name}" for name in names} <= links
    assert len(names) > 2
    answer = demo.get("/list", params={"n": "demo/0/0", "add": names[:2]})
    assert answer.status_code == 307
    assert answer.headers["location"] == "/list?n=" + ",".join(
        ["demo/0/0", *(name.removeprefix("demo/") for name in names[:2])]
    )
