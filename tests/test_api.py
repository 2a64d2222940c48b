"""The API over a hand-written store: the exact JSON, tags, headers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.middleware import SECURITY_HEADERS
from indexer.store.database import open_store
from tests import fixture_store
from tests.conftest import serving
from tests.fixture_store import CONTEXTS, MARKUP_SOURCE, RUNS, TEXTS, TOY_NEURONS, Chosen

NEURON = "/api/v1/models/toy/layers/{}/neurons/{}"
APP_PAGES = ["/", "/toy", "/toy/0", "/toy/0/0", "/runs/3"]
API_PAGES = [
    "/api/v1/models",
    "/api/v1/models/toy",
    "/api/v1/models/toy/layers/0/neurons",
    "/api/v1/models/toy/layers/0/neurons/0",
    "/api/v1/runs/3",
]


def example(rank: int, chosen: Chosen) -> dict[str, Any]:
    """The JSON of an example, its activations before rounding."""
    text = CONTEXTS[chosen.context]
    window = chosen.window
    ids = list(text.token_ids[chosen.start : chosen.start + len(window)])
    return {
        "rank": rank,
        "peak": chosen.peak,
        "peak_position": chosen.peak_position,
        "trough": chosen.trough,
        "trough_position": chosen.trough_position,
        "context_id": chosen.context,
        "document_index": text.document,
        "source": fixture_store.SOURCES[text.source] or None,
        "start": chosen.start,
        "tokens": [TEXTS[token_id] for token_id in ids],
        "token_ids": ids,
        "activations": window,
    }


def assert_examples(given: list[dict[str, Any]], chosen: list[Chosen]) -> None:
    """Examples are these, activations to within 1/254 of the window's largest, extremes exact."""
    expected = [example(rank, some) for rank, some in enumerate(chosen, 1)]
    assert len(given) == len(expected)
    for here, there in zip(given, expected, strict=True):
        values, exact = here["activations"], there["activations"]
        assert {**here, "activations": None} == {**there, "activations": None}
        assert [value is None for value in values] == [value is None for value in exact]
        known = [
            (value, true) for value, true in zip(values, exact, strict=True) if true is not None
        ]
        largest = max(abs(true) for _, true in known)
        assert all(abs(value - true) <= largest / 254 * 1.0001 for value, true in known)
        for place, extreme in (("peak_position", "peak"), ("trough_position", "trough")):
            at = here[place] - here["start"]
            if 0 <= at < len(values):
                assert values[at] == here[extreme]


def test_an_ordinary_neuron_is_exactly_this(client: TestClient) -> None:
    """Every field of the first neuron, written out by hand."""
    run = {
        "id": 3,
        "model": "toy",
        "model_id": "hand/toy",
        "revision": None,
        "hook_point": "mlp.hook_post",
        "corpus": "corpus & <i>sons</i>",
        "dtype": "float32",
        "contexts": 9,
        "tokens": 1234,
        "ctx_len": 8,
        "created_at": "2026-03-14T15:12:26.535898Z",
    }
    page = client.get(NEURON.format(0, 0)).json()
    others = page.pop("other_runs")
    assert re.fullmatch("[0-9a-f]{64}", page["run"].pop("content_hash"))
    examples = page.pop("examples")
    assert page == {
        "model": "toy",
        "layer": 0,
        "neuron": 0,
        "hook_point": "blocks.0.mlp.hook_post",
        "run": run,
        "sample": {"contexts": 8, "positions": 20},
        "stats": {
            "max": 2.5,
            "min": -0.5,
            "mean": 0.25,
            "std": 0.5,
            "skewness": 1.5,
            "kurtosis": 3.0,
            "density": 0.5,
            "density_over_tenth": 0.375,
            "tenth": 0.25,
            "dead": False,
            "peak_quantiles": {
                "q01": -0.5,
                "q10": 0.0,
                "q25": 0.25,
                "q50": 0.5,
                "q75": 1.0,
                "q90": 2.0,
                "q99": 2.5,
            },
        },
        "histogram": {"edges": [-0.5, 0.5, 1.5, 2.5], "counts": [7, 12, 1]},
        "logit_effects": {
            "top": [
                {"token": " cat", "token_id": 2, "value": 1.5},
                {"token": " sat", "token_id": 3, "value": 0.75},
            ],
            "bottom": [
                {"token": "the", "token_id": 1, "value": -2.0},
                {"token": "\n", "token_id": 4, "value": -0.25},
            ],
        },
        "previous": None,
        "next": {"layer": 0, "neuron": 1},
    }
    assert [(other["id"], other["hook_point"]) for other in others] == [
        (4, "mlp.hook_pre"),
        (1, "mlp.hook_post"),
    ]
    first = examples["top"][0]
    assert first.pop("activations")[:3:2] == [None, 2.5]
    assert first == {
        "rank": 1,
        "peak": 2.5,
        "peak_position": 2,
        "trough": -0.125,
        "trough_position": 3,
        "context_id": 0,
        "document_index": 0,
        "source": "plain",
        "start": 0,
        "tokens": ["<|bos|>", "the", " cat", " sat", "\n"],
        "token_ids": [0, 1, 2, 3, 4],
    }
    windowed = examples["random"][0]
    assert windowed["start"] == 2
    assert windowed["tokens"] == ["é", "{{ page }}", "&amp;</span></p></details>", "\n"]
    assert windowed["source"] == MARKUP_SOURCE
    assert windowed["activations"] == pytest.approx([0.0, 0.375, 0.25, 0.0], abs=0.375 / 254)
    bands = examples["bands"]
    shape = ("low", "high", "nominal_share", "share")
    assert [tuple(band[name] for name in shape) for band in bands] == [
        (2.0, None, 0.01, 0.0),
        (1.0, 2.0, 0.09, 0.25),
        (0.3125, 1.0, 0.4, 0.5),
        (None, 0.3125, 0.5, 0.25),
    ]
    assert [[some["context_id"] for some in band["examples"]] for band in bands] == [
        [],
        [2],
        [7],
        [],
    ]


@pytest.mark.parametrize(
    ("layer", "neuron"), [(layer, neuron) for layer in range(2) for neuron in range(4)]
)
def test_every_neuron_has_its_numbers_and_examples(
    any_client: TestClient, layer: int, neuron: int
) -> None:
    """Statistics and examples of all kinds are those the store was made of."""
    made = TOY_NEURONS[layer][neuron]
    page = any_client.get(NEURON.format(layer, neuron)).json()
    stats = page["stats"]
    assert (stats["max"], stats["min"], stats["mean"], stats["std"]) == (
        made.maximum,
        made.minimum,
        made.mean,
        made.std,
    )
    assert stats["dead"] is made.dead
    assert list(stats["peak_quantiles"].values()) == list(made.peak_quantiles)
    assert page["histogram"] == {"edges": list(made.edges), "counts": list(made.counts)}
    examples = page["examples"]
    assert_examples(examples["top"], list(made.top))
    assert_examples(examples["bottom"], list(made.bottom))
    assert_examples(examples["random"], list(made.random))
    in_bands = [some["context_id"] for band in examples["bands"][::-1] for some in band["examples"]]
    assert in_bands == [some.context for some in made.band]
    for effects, way in (("top", made.promotes), ("bottom", made.suppresses)):
        assert page["logit_effects"][effects] == [
            {"token": TEXTS[token_id], "token_id": token_id, "value": value}
            for token_id, value in way
        ]


def test_a_neuron_that_never_varied_has_no_moments(client: TestClient) -> None:
    """Skewness and kurtosis are null where the standard deviation is 0."""
    stats = client.get(NEURON.format(1, 0)).json()["stats"]
    assert (stats["std"], stats["skewness"], stats["kurtosis"]) == (0.0, None, None)


def test_a_neuron_without_examples_of_a_kind_has_empty_lists(client: TestClient) -> None:
    """No bottom or random examples and no bands are empty lists, not missing ones."""
    examples = client.get(NEURON.format(1, 3)).json()["examples"]
    assert len(examples["top"]) == 1
    assert (examples["bottom"], examples["random"], examples["bands"]) == ([], [], [])


def test_hostile_tokens_come_back_whole(any_client: TestClient) -> None:
    """JSON gives a token's very characters; bytes that are no character stand as \\xNN."""
    top = any_client.get(NEURON.format(1, 1)).json()["examples"]["top"]
    assert top[0]["tokens"] == ["<|bos|>", "\\xf0\\x9f", "\\x98\\x80", "the", fixture_store.SCRIPT]
    assert top[1]["tokens"] == [
        "the",
        "\\xff",
        fixture_store.BIDI,
        fixture_store.ZERO_WIDTH,
        fixture_store.CONTROLS,
        fixture_store.ATTRIBUTE,
    ]
    assert top[1]["activations"][0] == -4.0, "without a BOS the first position is included"
    assert top[2]["tokens"][1] == fixture_store.LONG


def test_a_list_is_items_and_next(client: TestClient) -> None:
    """Models and neurons come as {items, next}; a cursor in `next` gives the rest."""
    for address in ("/api/v1/models", "/api/v1/models/wide/layers/0/neurons"):
        everything = client.get(address).json()
        assert set(everything) == {"items", "next"}
        assert everything["next"] is None
        first = client.get(address, params={"limit": 3}).json()
        rest = client.get(address, params={"cursor": first["next"]}).json()
        assert first["items"] + rest["items"] == everything["items"]
        assert rest["next"] is None


def test_lists_start_from_the_largest(client: TestClient) -> None:
    """Without `order` neurons count up and statistics come down."""
    address = "/api/v1/models/wide/layers/0/neurons"
    default = client.get(address).json()["items"]
    assert [row["neuron"] for row in default] == list(range(37))
    largest = client.get(address, params={"sort": "max"}).json()["items"]
    maxima = [row["max"] for row in largest]
    assert maxima == sorted(maxima, reverse=True)


def test_a_run_says_where_it_came_from(client: TestClient) -> None:
    """/runs/{run} has the run in short and its provenance in full."""
    run = client.get("/api/v1/runs/1").json()
    assert run["provenance"] == fixture_store.PROVENANCE
    assert (run["n_layers"], run["n_neurons"], run["revision"]) == (2, 8, "main")
    assert run["sample"] == {"contexts": 8, "positions": 20}


def test_health_counts_the_runs(any_client: TestClient) -> None:
    """/healthz asks the database, and is not kept."""
    response = any_client.get("/healthz")
    assert response.json()["status"] == "ok"
    assert response.json()["runs"] == len(RUNS)
    assert response.headers["cache-control"] == "no-store"


# --- Tags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", APP_PAGES + API_PAGES)
def test_what_a_visitor_has_is_not_sent_again(client: TestClient, path: str) -> None:
    """An answer has a tag; asked for with it, 304 comes back with nothing in it."""
    first = client.get(path)
    tag = first.headers["etag"]
    assert first.status_code == 200
    for sent in (tag, f'"other", {tag}'):
        again = client.get(path, headers={"If-None-Match": sent})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    assert client.get(path, headers={"If-None-Match": 'W/"other"'}).text == first.text


def test_every_answer_has_its_own_tag(client: TestClient) -> None:
    """Pages, their JSON, other queries and other orders differ in their tags."""
    paths = [
        *APP_PAGES,
        *API_PAGES,
        "/toy/0/1",
        "/toy?run=1",
        "/toy/0?sort=max",
        "/toy/0?sort=max&order=asc",
        "/api/v1/models?limit=2",
    ]
    tags = [client.get(path).headers["etag"] for path in paths]
    assert len(set(tags)) == len(paths)


@pytest.mark.parametrize("path", ["/nobody", "/toy/9/9", "/api/v1/models/nobody", "/api/v1/runs/9"])
def test_what_does_not_exist_has_no_tag(client: TestClient, path: str) -> None:
    """An error cannot be asked for by tag, not even by any tag."""
    assert "etag" not in client.get(path).headers
    assert client.get(path, headers={"If-None-Match": "*"}).status_code == 404


def test_any_tag_is_known(client: TestClient) -> None:
    """If-None-Match: * is answered by 304 where there is something."""
    assert client.get("/toy", headers={"If-None-Match": "*"}).status_code == 304


def test_a_new_run_changes_the_tags_of_its_model(any_url: str) -> None:
    """A run of a model changes the model's tags and the lists', and no other model's."""
    engine = open_store(any_url, create=True)
    for run in RUNS[:3]:
        run.write(engine)
    changed = ["/", "/toy", "/toy/0/0", "/api/v1/models", "/api/v1/models/toy/layers/0/neurons"]
    same = ["/Zebra_2.0", "/Zebra_2.0/0/0", "/api/v1/models/Zebra_2.0"]
    with serving(any_url) as client:
        before = {path: client.get(path).headers["etag"] for path in changed + same}
        RUNS[2].write(engine)
        after = {path: client.get(path).headers["etag"] for path in changed + same}
    engine.dispose()
    assert [path for path in before if before[path] != after[path]] == changed


# --- HEAD, headers, static files ----------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [*APP_PAGES, *API_PAGES, "/healthz", "/docs", "/openapi.json", "/nobody", "/api/v1/models/x"],
)
def test_head_is_get_without_a_body(client: TestClient, path: str) -> None:
    """HEAD has the status and the headers of GET."""
    got, head = client.get(path), client.head(path)
    assert head.content == b""
    assert head.status_code == got.status_code
    for name in ("content-type", "etag", "content-security-policy", "cache-control"):
        assert head.headers.get(name) == got.headers.get(name)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/api/v1/models", 200),
        ("/docs", 200),
        ("/healthz", 200),
        ("/toy/random", 307),
        ("/toy/0/0.html", 308),
        ("/nobody", 404),
        ("/api/v1/nothing", 404),
        ("/toy/x", 422),
        ("/static/nothing.css", 404),
        ("/static/theme.css", 200),
    ],
)
def test_security_headers_are_on_every_answer(client: TestClient, path: str, status: int) -> None:
    """The content policy allows nothing inline and no other host, whatever was asked."""
    response = client.get(path)
    assert response.status_code == status
    for name, value in SECURITY_HEADERS.items():
        assert response.headers[name] == value
    policy = response.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy


def test_static_files_with_a_version_are_kept_for_ever(client: TestClient) -> None:
    """What a page links to carries its version and may be kept; without one it is asked again."""
    links = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', client.get("/toy/0/0").text))
    assert len(links) > 5
    for link in links:
        response = client.get(link)
        assert response.status_code == 200
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert client.get("/static/theme.css").headers["cache-control"] == "no-cache"


def test_the_documentation_is_served_from_here(client: TestClient) -> None:
    """/docs names only files of this server, and all of them are there."""
    page = client.get("/docs").text
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert links
    for link in links:
        assert link.startswith(("/", "#"))
        assert not link.startswith("//")
        if link.startswith("/static/"):
            assert client.get(link).status_code == 200
    schema = client.get("/openapi.json").json()
    for path in schema["paths"]:
        assert path in page, "the routes can be read without scripts"


def test_the_schema_documents_every_route(client: TestClient) -> None:
    """openapi.json has the API's routes, and its errors have the one shape of all errors."""
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        "/healthz",
        "/api/v1/models",
        "/api/v1/models/{model}",
        "/api/v1/models/{model}/layers/{layer}/neurons",
        "/api/v1/models/{model}/layers/{layer}/neurons/{neuron}",
        "/api/v1/runs/{run}",
    }
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            assert operation.get("description"), path
            for status, answer in operation["responses"].items():
                shape = answer["content"]["application/json"]["schema"]["$ref"]
                if status != "200":
                    assert shape == "#/components/schemas/Error"
    assert "HTTPValidationError" not in schema["components"]["schemas"]


def test_large_answers_are_compressed(client: TestClient) -> None:
    """A page is sent gzipped to who takes it, and plain to who does not."""
    packed = client.get("/toy/1/1", headers={"Accept-Encoding": "gzip"})
    plain = client.get("/toy/1/1", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.text == plain.text


def test_a_server_makes_its_store(tmp_path: Path) -> None:
    """A server over a store that is not there makes it and answers."""
    with serving(f"sqlite:///{tmp_path / 'new' / 'store.db'}") as client:
        assert client.get("/api/v1/models").json() == {"items": [], "next": None}
        assert client.get("/healthz").json()["runs"] == 0
