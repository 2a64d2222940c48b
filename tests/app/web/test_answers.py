"""What holds for every answer: tags, HEAD, headers, static files, documentation, compression."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import create_engine, inspect, text
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from app.web.middleware import SECURITY_HEADERS
from indexer.errors import NeurariumError
from indexer.store.database import open_store
from tests.conftest import serving
from tests.helpers.fixture_store import RUNS

APP_PAGES = ["/", "/toy", "/toy/0", "/toy/0/0", "/toy/0/0/contexts/2", "/runs/3"]
APP_PAGES += ["/compare", "/compare?a=toy/0/0&b=1/1", "/list", "/list?n=toy/0/0,1/1"]
API_PAGES = [
    "/api/v1/models",
    "/api/v1/models/toy",
    "/api/v1/models/toy/layers/0/neurons",
    "/api/v1/models/toy/layers/0/neurons/0",
    "/api/v1/models/toy/layers/0/neurons/0/contexts/2",
    "/api/v1/runs/3",
    "/api/v1/compare?a=toy/0/0&b=1/1",
    "/api/v1/list?n=toy/0/0,1/1",
]


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
        ("/toy/-x", 422),
        ("/static/nothing.css", 404),
        ("/static/base/theme.css", 200),
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
    assert client.get("/static/base/theme.css").headers["cache-control"] == "no-cache"


def test_the_documentation_is_served_from_here(client: TestClient) -> None:
    """/docs names only files of this server, and all of them are there."""
    page = client.get("/docs").text
    assert "<code>prefix</code>" in page
    assert "`" not in page, "code is shown as code"
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
    in_sets = "/api/v1/models/{model}/sets/{set}"
    of_sets = {path for path in schema["paths"] if path.startswith(in_sets)}
    assert {path.replace("/sets/{set}", "") for path in of_sets} == {
        path
        for path in set(schema["paths"]) - of_sets
        if "{model}" in path and "{model}/heads" not in path  # a set that has its own pages
    }
    assert set(schema["paths"]) - of_sets == {
        "/healthz",
        "/api/v1/compare",
        "/api/v1/list",
        "/api/v1/notes",
        "/api/v1/models",
        "/api/v1/models/{model}",
        "/api/v1/models/{model}/ablation",
        "/api/v1/models/{model}/behaviour",
        "/api/v1/models/{model}/differences",
        "/api/v1/models/{model}/export",
        "/api/v1/models/{model}/gallery",
        "/api/v1/models/{model}/heads",
        "/api/v1/models/{model}/heads/{layer}/{head}",
        "/api/v1/models/{model}/heads/{layer}/{head}/contexts/{context}",
        "/api/v1/models/{model}/heads/{layer}/{head}/text",
        "/api/v1/models/{model}/layers/{layer}/neurons",
        "/api/v1/models/{model}/layers/{layer}/neurons/{neuron}",
        "/api/v1/models/{model}/layers/{layer}/neurons/{neuron}/activations",
        "/api/v1/models/{model}/layers/{layer}/neurons/{neuron}/contexts/{context}",
        "/api/v1/models/{model}/layers/{layer}/neurons/{neuron}/notes",
        "/api/v1/models/{model}/layers/{layer}/neurons/{neuron}/notes/{note}",
        "/api/v1/models/{model}/layers/{layer}/neurons/{neuron}/steering",
        "/api/v1/models/{model}/layers/{layer}/picture",
        "/api/v1/models/{model}/layers/{layer}/scatter",
        "/api/v1/models/{model}/neurons",
        "/api/v1/models/{model}/notes",
        "/api/v1/models/{model}/contexts/{context}",
        "/api/v1/models/{model}/search/split",
        "/api/v1/models/{model}/search/text",
        "/api/v1/models/{model}/search/token",
        "/api/v1/models/{model}/tokens",
        "/api/v1/runs/{run}",
    }
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), path
            answers = operation["responses"]
            assert "503" in answers, "the database may not answer"
            assert ("304" in answers) == (method == "get" and path != "/healthz")
            answers.pop("304", None)
            for status, answer in answers.items():
                if path.endswith("/export") and status == "200":
                    continue  # a file
                shape = answer["content"]["application/json"]["schema"]["$ref"]
                if int(status) >= 400:
                    assert shape == "#/components/schemas/Error"
    assert "HTTPValidationError" not in schema["components"]["schemas"]


def test_large_answers_are_compressed(client: TestClient) -> None:
    """A page is sent gzipped to who takes it, and plain to who does not."""
    packed = client.get("/toy/1/1", headers={"Accept-Encoding": "gzip"})
    plain = client.get("/toy/1/1", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.text == plain.text


def test_a_server_makes_the_tables_of_an_empty_postgres(postgres_url: str) -> None:
    """A database that somebody made for it is served, before anything is indexed."""
    with serving(postgres_url) as client:
        assert client.get("/api/v1/models").json() == {"items": [], "next": None}
        assert client.get("/healthz").json()["runs"] == 0


def test_a_server_leaves_a_postgres_of_another_program_alone(postgres_url: str) -> None:
    """Its tables are no store, and the server adds none to them."""
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE theirs (id int)"))
    with pytest.raises(NeurariumError, match="has no Neurarium store"):
        create_app(Settings(database_url=postgres_url))
    assert inspect(engine).get_table_names() == ["theirs"]
    engine.dispose()
