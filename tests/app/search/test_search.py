"""The search by token and by text, contexts with their neurons: against what is found by hand."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.reading import cursors
from app.search.texts import _snippet, starts_of, tokens_at
from app.search.words import MOST_WORDS
from indexer.store.text.words import words_of

API = "/api/v1/models"
ROLES = ["peak", "promoted", "suppressed", "in", "gate"]


def all_of(client: TestClient, path: str, **query: Any) -> tuple[list[Any], Any]:
    """All items of a list, page by page, and its first page."""
    items: list[Any] = []
    first, cursor = None, None
    while first is None or cursor:
        answer = client.get(path, params=query | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        page = answer.json()
        first = first or page
        items += page["items"]
        cursor = page["next"]
    return items, first


def neuron_pages(client: TestClient, model: str) -> list[Any]:
    """Every neuron of a model as its own page has it."""
    layers = client.get(f"{API}/{model}").json()["layers"]
    return [
        client.get(f"{API}/{model}/layers/{layer['layer']}/neurons/{neuron}").json()
        for layer in layers
        for neuron in range(layer["neurons"])
    ]


def by_token(pages: list[Any]) -> dict[tuple[int, str], list[tuple[Any, ...]]]:
    """What each token is to which neurons, from the neurons' pages."""
    found: dict[tuple[int, str], list[tuple[Any, ...]]] = defaultdict(list)
    for page in pages:
        place = page["layer"], page["neuron"]
        peaks: dict[int, list[float]] = defaultdict(list)
        for example in page["examples"]["top"]:
            token_id = example["token_ids"][example["peak_position"] - example["start"]]
            peaks[token_id].append(example["peak"])
        for token_id, values in peaks.items():
            found[token_id, "peak"].append((*place, sum(values) / len(values), len(values)))
        lists = [("promoted", page["weights"]["logit_effects"]["top"])]
        lists.append(("suppressed", page["weights"]["logit_effects"]["bottom"]))
        lists += [(one["part"], one["top"]) for one in page["weights"]["inputs"]]
        for role, tokens in lists:
            for one in tokens:
                found[one["token_id"], role].append((*place, one["value"]))
    return found


@pytest.mark.parametrize("model", ["toy", "Zebra_2.0", "wide"])
def test_a_token_finds_what_the_pages_say(any_client: TestClient, model: str) -> None:
    """Every token, in every role, all neurons, in the order promised; by text as by id."""
    expected = by_token(neuron_pages(any_client, model))
    tokens = {token_id for token_id, _ in expected}
    for token_id in tokens:
        path = f"{API}/{model}/search/token"
        first = any_client.get(path, params={"token_id": token_id}).json()
        roles = [role for role in ROLES if (token_id, role) in expected]
        assert [one["role"] for one in first["roles"]] == roles
        assert first["role"] == roles[0]
        for role, count in ((one["role"], one["neurons"]) for one in first["roles"]):
            query = {"token_id": token_id, "as": role, "limit": 2}
            items, page = all_of(any_client, path, **query)
            assert page["role"] == role
            assert count == len(items)
            wanted = list(expected[token_id, role])
            if role == "peak":
                wanted.sort(key=lambda row: (-row[3], -row[2], row[:2]))
                found = [(i["layer"], i["neuron"], i["value"], i["count"]) for i in items]
            else:
                wanted.sort(key=lambda row: (-abs(row[2]), row[:2]))
                found = [(i["layer"], i["neuron"], i["value"]) for i in items]
                assert all(item["count"] is None for item in items)
            assert [row[:2] for row in found] == [row[:2] for row in wanted]
            assert [row[2:] for row in found] == [
                pytest.approx(row[2:], rel=1e-6) for row in wanted
            ]


def test_a_token_is_found_by_its_exact_text(any_client: TestClient) -> None:
    """Its first id; no other spelling; those spelled nearly so are named."""
    path = f"{API}/toy/search/token"
    tokens = any_client.get(f"{API}/toy/tokens", params={"prefix": "a", "limit": 1000}).json()
    for one in tokens["items"]:
        answer = any_client.get(path, params={"token": one["token"]}).json()
        assert answer["token"] == one["token"]
        assert answer["token_id"] <= one["token_id"]
        for other in answer["alike"]:
            assert other["token"].strip().lower() == one["token"].strip().lower()
            assert other["token_id"] != answer["token_id"]


def test_completion_is_every_token_that_begins_so(
    any_client: TestClient, any_filled: Engine
) -> None:
    """Without and with a leading space; the exact ones first, then by id."""
    with any_filled.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT token_id, bytes FROM vocabulary WHERE vocabulary_id = "
                "(SELECT vocabulary_id FROM runs WHERE id = 3)"
            )
        ).all()
    spelled = {row[0]: bytes(row[1]).decode("utf-8", "backslashreplace") for row in rows}
    for prefix in ("a", "<", " ", "\\x", "zzz", "\n"):
        wanted = [one for one in spelled if spelled[one].startswith((prefix, " " + prefix))]
        wanted.sort(key=lambda one: (spelled[one] != prefix, spelled[one] != " " + prefix, one))
        found = any_client.get(f"{API}/toy/tokens", params={"prefix": prefix, "limit": 1000}).json()
        assert [one["token_id"] for one in found["items"]] == wanted


def context_texts_of(client: TestClient, model: str) -> dict[int, str]:
    """The text of every context of a small model that is kept."""
    answers = {one: client.get(f"{API}/{model}/contexts/{one}") for one in range(20)}
    return {one: page.json()["text"] for one, page in answers.items() if page.status_code == 200}


def context_texts(client: TestClient, engine: Engine, model: str) -> dict[int, str]:
    """The text of every context that is kept of a model's default run."""
    run = client.get(f"{API}/{model}").json()["run"]["id"]
    with engine.connect() as connection:
        ids = connection.execute(
            text("SELECT context_id FROM contexts WHERE run_id = :run"), {"run": run}
        ).scalars()
        return {
            one: client.get(f"{API}/{model}/contexts/{one}").json()["text"] for one in sorted(ids)
        }


@pytest.mark.parametrize("model", ["toy", "Zebra_2.0"])
def test_a_text_finds_the_contexts_that_have_it(
    any_client: TestClient, any_filled: Engine, model: str
) -> None:
    """Every word, every pair of neighbours as a phrase, and beginnings: each context once."""
    texts = context_texts(any_client, any_filled, model)
    words = {one: [word.word for word in words_of(some)] for one, some in texts.items()}
    asked: dict[str, list[int]] = {}
    for some in words.values():
        for word in some:
            asked[word.upper()] = [one for one in words if word in words[one]]
            begin = word[:2]
            asked[f"{begin}*"] = [
                one for one in words if any(word.startswith(begin) for word in words[one])
            ]
        for pair in itertools.pairwise(some):
            asked[f'"{pair[0]} {pair[1]}"'] = [
                one for one in words if pair in list(zip(words[one], words[one][1:], strict=False))
            ]
            asked[" ".join(pair[::-1])] = [one for one in words if set(pair) <= set(words[one])]
    assert asked
    for q, wanted in asked.items():
        items, page = all_of(any_client, f"{API}/{model}/search/text", q=q, limit=1)
        assert sorted(item["context_id"] for item in items) == wanted, q
        assert page["ranked"] == len(wanted)
        assert page["q"] == q
        for item in items:
            shown = "".join(piece["text"] for piece in item["text"])
            assert shown.strip("…") in texts[item["context_id"]]
            assert any(piece["found"] for piece in item["text"])


@pytest.mark.parametrize("model", ["toy", "Zebra_2.0", "pre-only"])
def test_a_context_names_every_neuron_of_whose_examples_it_is_one(
    any_client: TestClient, any_filled: Engine, model: str
) -> None:
    """By kind, each peak once, with the place; of one position those alone."""
    expected: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    random: set[int] = set()
    for page in neuron_pages(any_client, model):
        peaks: set[int] = set()
        for kind, examples in (
            ("top", page["examples"]["top"]),
            ("source", [one for some in page["examples"]["sources"] for one in some["examples"]]),
            ("band", [one for some in page["examples"]["bands"] for one in some["examples"]]),
            ("bottom", page["examples"]["bottom"]),
        ):
            at, value = "peak_position", "peak"
            if kind == "bottom":
                at, value, peaks = "trough_position", "trough", set()
            for one in examples:
                place = page["layer"], page["neuron"], kind, one[at], one[value]
                if one["context_id"] not in peaks:
                    expected[one["context_id"]].append(place)
                peaks.add(one["context_id"])
        if (page["layer"], page["neuron"]) == (0, 0):  # an indexed run has the same for all
            random = {one["context_id"] for one in page["examples"]["random"]}
    seen: set[str] = set()
    for context_id in context_texts(any_client, any_filled, model):
        path = f"{API}/{model}/contexts/{context_id}"
        items, page = all_of(any_client, path, limit=2)
        found = [(i["layer"], i["neuron"], i["kind"], i["position"], i["value"]) for i in items]
        turn = ("top", "bottom", "source", "band").index
        wanted = sorted(expected[context_id], key=lambda row: (turn(row[2]), row[:2]))
        assert found == wanted
        assert page["random"] == (context_id in random)
        for name, kinds in (
            ("top", {"top"}),
            ("bottom", {"bottom"}),
            ("others", {"source", "band"}),
        ):
            counted = [0] * len(page["tokens"])
            for row in wanted:
                counted[row[3]] += row[2] in kinds
            assert page[name] == counted
        seen |= {row[2] for row in wanted}
        for position in {row[3] for row in wanted}:
            mine, _ = all_of(any_client, path, at=position, limit=3)
            assert [(i["layer"], i["neuron"], i["kind"]) for i in mine] == [
                row[:3] for row in wanted if row[3] == position
            ]
        for item in items:
            assert item["token"] == page["tokens"][item["position"]]
    # All kinds there are in the store are met in one model or another.
    assert (
        seen
        == {
            "toy": {"top", "bottom", "source"},
            "Zebra_2.0": {"top", "bottom", "band"},
            "pre-only": {"top"},
        }[model]
    )


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/toy/search/token", 422, "names no token"),
        ("/toy/search/token?token=no+such+token", 404, "is exactly “no such token”"),
        ("/toy/search/token?token_id=999999", 404, "there is no token 999999"),
        ("/toy/search/token?token_id=1&cursor=x", 422, "not a cursor of this server"),
        ("/toy/search/token?token_id=1&as=friend", 422, "as"),
        ("/nothing/search/token?token_id=1", 404, "no model"),
        ("/toy/search/text?q=", 422, "no words in the query"),
        ("/toy/search/text?q=%22open", 422, "character 1 is not closed"),
        ("/toy/search/text?q=" + "+".join("abcdefgh" * 5), 422, f"the maximum is {MOST_WORDS}"),
        ("/toy/search/text?q=a&cursor=WzEsMl0", 422, "not a cursor of this server"),
        ("/toy/contexts/999", 404, "Context 999 of toy is not stored"),
        ("/toy/contexts/7?at=99", 404, "there is no position 99"),
        ("/toy/tokens?prefix=", 422, "prefix"),
    ],
)
def test_what_cannot_be_searched_is_said(
    client: TestClient, path: str, status: int, says: str
) -> None:
    """In one line, with what to do."""
    answer = client.get(API + path)
    assert answer.status_code == status
    assert says in answer.json()["detail"]


def test_cursors_of_other_searches_are_refused(client: TestClient) -> None:
    """A cursor of one token, text or context is no use to another."""
    path = f"{API}/wide/search/token"
    page = client.get(path, params={"token_id": 2, "limit": 1}).json()
    assert page["next"]
    for other in ({"token_id": 3}, {"token_id": 2, "as": "suppressed"}):
        answer = client.get(path, params=other | {"cursor": page["next"]})
        assert answer.status_code == 422, other
    texts = f"{API}/toy/search/text"
    word = next(iter(words_of(next(iter(context_texts_of(client, "toy").values()))))).word
    begin = f"{word[:1]}*"
    first = client.get(texts, params={"q": begin, "limit": 1}).json()
    assert first["next"]
    assert client.get(texts, params={"q": begin, "cursor": first["next"]}).status_code == 200
    assert client.get(texts, params={"q": word, "cursor": first["next"]}).status_code == 422
    page = client.get(f"{API}/toy/contexts/7", params={"limit": 1}).json()
    assert page["next"]
    at = page["items"][0]["position"]
    for path, more in (("6", {}), ("7", {"at": at})):
        answer = client.get(f"{API}/toy/contexts/{path}", params=more | {"cursor": page["next"]})
        assert answer.status_code in (404, 422), path
    assert answer.status_code == 422


def test_a_special_token_in_a_snippet_is_no_text() -> None:
    """It stands between the matches, and is not one itself."""
    text = "x" * 200 + "the<|end|>cat" + "y" * 300
    parts = _snippet(text, [(200, 203), (210, 213)], [(203, 210)])
    assert [(part.text.strip("xy"), part.found, part.special) for part in parts] == [
        *(("…", False, False), ("", False, False), ("the", True, False)),
        *(("<|end|>", False, True), ("cat", True, False), ("", False, False), ("…", False, False)),
    ]
    assert [part.text for part in _snippet("a cat", [(2, 5)], [])] == ["a ", "cat"]


def test_a_find_is_in_the_tokens_that_spell_it() -> None:
    """Counted in characters, whatever was split over tokens before it, or is no character."""
    owl = "🦉".encode()
    pieces = [owl[:1], owl[1:3], owl[3:], b" the", b"\xff", b" c", b"at", b"", b" sat", owl[:2]]
    text = b"".join(pieces).decode("utf-8", "replace")
    found = [(m.start(), m.end()) for m in re.finditer("the|cat|sat|🦉", text)]
    starts = starts_of(pieces)
    assert tokens_at(pieces, starts, found) == [range(3), range(3, 4), range(5, 7), range(8, 9)]
    assert starts_of([b"a", b"", b" cat"]) == [0, 1, 1, 5]


@pytest.mark.parametrize("after", [2**63, 10**40, -1])
def test_a_forged_cursor_is_refused(any_client: TestClient, after: int) -> None:
    """Also one that no database could be asked about."""
    for path, parts in (("search/text", ("the", after)), ("contexts/7", (7, -1, after))):
        query = {"q": "the", "cursor": cursors.encode(*parts)}
        assert any_client.get(f"{API}/toy/{path}", params=query).status_code == 422


@pytest.mark.parametrize(
    "q", ["' OR 1=1", "a' & 'b", "NEAR(a b)", "words:a", "a:*", "-a", "^a", "\\", "a | !b", "a%"]
)
def test_no_query_is_a_command(any_client: TestClient, any_filled: Engine, q: str) -> None:
    """What the databases' own grammars would read as operators are words, or nothing."""
    answer = any_client.get(f"{API}/toy/search/text", params={"q": q})
    words = re.findall(r"\w+", q)
    if not words:
        assert answer.status_code == 422
        return
    plain = any_client.get(f"{API}/toy/search/text", params={"q": " ".join(words)}).json()
    if q == "a:*":  # a star after a word is ours
        plain = any_client.get(f"{API}/toy/search/text", params={"q": "a*"}).json()
    assert [one["context_id"] for one in answer.json()["items"]] == [
        one["context_id"] for one in plain["items"]
    ]


def test_the_pages_show_what_the_json_says(client: TestClient) -> None:
    """Neurons of a token, contexts of a text, neurons of a context: links to each."""
    found = client.get(f"{API}/wide/search/token", params={"token_id": 2}).json()
    page = client.get("/wide/search", params={"token_id": 2})
    assert page.status_code == 200
    places = re.findall(r'<a class="name" href="/wide/(\d+)/(\d+)"', page.text)
    assert places == [(str(i["layer"]), str(i["neuron"])) for i in found["items"]]
    nobody = client.get("/wide/search", params={"token_id": 15})
    assert nobody.status_code == 200
    assert "No neuron's top examples peak on this token" in nobody.text
    token = client.get(f"{API}/wide/search/token", params={"token_id": 1}).json()
    missing_role = next(
        role
        for role in ("peak", "promoted", "gate")
        if role not in {r["role"] for r in token["roles"]}
    )
    other = client.get("/wide/search", params={"token_id": 1, "as": missing_role})
    assert "No neurons in this way" in other.text
    assert "No neuron's top examples peak on this token" not in other.text
    context = client.get("/toy/contexts/7")
    assert context.status_code == 200
    for item in client.get(f"{API}/toy/contexts/7").json()["items"]:
        assert f'href="/toy/{item["layer"]}/{item["neuron"]}"' in context.text
    missing = client.get("/toy/search", params={"token": "<b>no"})
    assert missing.status_code == 404
    assert "&lt;b&gt;no" in missing.text
    assert "<b>no" not in missing.text
    assert "etag" not in missing.headers
    assert missing.headers["cache-control"] == "no-store"
    broken = client.get("/toy/search", params={"text": '"open'})
    assert broken.status_code == 422
    assert "character 1 is not closed" in broken.text
