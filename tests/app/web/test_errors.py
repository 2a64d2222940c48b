"""What a visitor can type and what can break: one shape of answer, never a traceback."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text, update
from sqlalchemy.engine import make_url
from starlette.testclient import TestClient

from indexer.store import schema
from indexer.store.database import open_store
from tests.conftest import NewDatabase, serving
from tests.helpers import fixture_store

NEURONS = "/api/v1/models/toy/layers/0/neurons"


def cursor(*parts: Any) -> str:
    """A cursor as a visitor could make one."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


def assert_error(response: Any, status: int) -> dict[str, Any]:
    """The answer is an error of this status and of the one shape; its JSON."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    error: dict[str, Any] = response.json()
    assert set(error) == {"error", "detail", "status"}
    assert error["status"] == status
    assert error["error"] == {404: "not_found", 422: "invalid", 405: "method_not_allowed"}[status]
    assert error["detail"].endswith(".")
    return error


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/models/nobody",
        "/api/v1/models/%00",
        "/api/v1/models/a%00b/layers/0/neurons",
        "/api/v1/models/toy?run=2",
        "/api/v1/models/toy?run=99999999999999999999",
        "/api/v1/models/toy/layers/2/neurons",
        "/api/v1/models/toy/layers/99999999999999999999999/neurons",
        "/api/v1/models/toy/layers/0/neurons/4",
        "/api/v1/models/toy/layers/0/neurons/99999999999999999999999",
        "/api/v1/models/toy/layers/0",
        "/api/v1/runs/7",
        "/api/v1/runs/99999999999999999999999",
        "/api/v1",
        "/api/v1/nothing",
        "/api/v1/nothing/0",
        "/api/v2/models",
        "/api/x",
        "/api/0/0",
        "/api/",
        "/api",
    ],
)
def test_what_does_not_exist_is_404(any_client: TestClient, path: str) -> None:
    """An API address of nothing is 404, as JSON."""
    assert_error(any_client.get(path), 404)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/models?limit=0",
        "/api/v1/models?limit=1001",
        "/api/v1/models?limit=x",
        "/api/v1/models?limit=",
        "/api/v1/models?limit=99999999999999999999999",
        "/api/v1/models?cursor=x",
        f"/api/v1/models?cursor={cursor(1)}",
        f"/api/v1/models?cursor={cursor('a', 'b')}",
        f"/api/v1/models?cursor={cursor(['a'])}",
        "/api/v1/models/toy?run=0",
        "/api/v1/models/toy?run=x",
        "/api/v1/models/toy?run=",
        "/api/v1/models/toy/layers/-1/neurons",
        "/api/v1/models/toy/layers/x/neurons",
        "/api/v1/models/toy/layers/1.5/neurons",
        f"{NEURONS}?sort=skewness",
        f"{NEURONS}?sort=",
        f"{NEURONS}?order=up",
        f"{NEURONS}?cursor=%00",
        f"{NEURONS}?cursor=%F0%9F%98%80",
        f"{NEURONS}?cursor={cursor('neuron', 'desc', 1)}",
        f"{NEURONS}?cursor={cursor('neuron', 'asc', 2**63)}",
        f"{NEURONS}?cursor={cursor('neuron', 'asc', -1)}",
        f"{NEURONS}?cursor={cursor('neuron', 'asc', True)}",
        f"{NEURONS}?sort=max&cursor={cursor('max', 'desc', '1', 1)}",
        f"{NEURONS}?sort=max&cursor={cursor('max', 'desc', None, 1)}",
        f"{NEURONS}?sort=max&cursor={cursor('max', 'desc', 1.0)}",
        f"{NEURONS}/-1",
        f"{NEURONS}/x",
        f"{NEURONS}/%00",
        f"{NEURONS}/" + "9" * 5000,
        "/api/v1/runs/0",
        "/api/v1/runs/-1",
        "/api/v1/runs/x",
        "/api/v1/runs/1e3",
    ],
)
def test_what_does_not_parse_is_422(any_client: TestClient, path: str) -> None:
    """A parameter of the wrong form is 422, as JSON, and the detail does not run on."""
    error = assert_error(any_client.get(path), 422)
    assert len(error["detail"]) < 300


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e308, -0.0])
def test_a_cursor_of_any_number_is_answered(any_client: TestClient, value: float) -> None:
    """A cursor may hold numbers JSON has no word for: some list comes back."""
    response = any_client.get(
        f"{NEURONS}?sort=kurtosis&cursor={cursor('kurtosis', 'desc', value, 1)}"
    )
    assert response.status_code in (200, 422)


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "\U0010ffff", "", "z" * 5000])
def test_a_cursor_of_any_text_is_answered(any_client: TestClient, name: str) -> None:
    """A cursor may hold text no database takes: some list or 422 comes back."""
    assert any_client.get(f"/api/v1/models?cursor={cursor(name)}").status_code in (200, 422)


def test_another_method_is_refused(client: TestClient) -> None:
    """Only GET and HEAD are answered, and the answer says so."""
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        response = client.request(method, "/api/v1/models")
        assert_error(response, 405)
        assert "GET" in response.headers["allow"]
        assert client.request(method, "/toy").status_code == 405


def test_a_page_that_does_not_exist_says_so_in_html(client: TestClient) -> None:
    """An unknown page is an HTML page with the status, what was wrong and ways on."""
    for path, status, said in (
        ("/nobody", 404, "There is no model &#39;nobody&#39;."),
        ("/toy/7", 404, "toy has layers 0 to 1: there is no layer 7."),
        ("/toy/0/4", 404, "Layer 0 of toy has neurons 0 to 3: there is no neuron 4."),
        ("/toy?run=2", 404, "toy has no run 2: its runs are 4, 3, 1."),
        ("/runs/99", 404, "There is no run 99."),
        ("/a/b/c/d/e", 404, "There is nothing at /a/b/c/d/e."),
        ("/toy/x", 404, "toy has no set of units &#39;x&#39;: its sets are neurons."),
        ("/toy/heads", 404, "its sets are neurons. Attention heads are indexed with `--heads`."),
        ("/toy/-x", 422, "layer &#39;-x&#39;"),
        ("/static/nothing.css", 404, "There is nothing at /static/nothing.css."),
    ):
        response = client.get(path)
        assert response.status_code == status
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert said in response.text, path
        assert 'href="/random"' in response.text


def test_what_was_typed_does_not_become_markup(client: TestClient) -> None:
    """Markup and control characters in an address stay text on the error page."""
    for path in (
        "/%3Cscript%3Ealert(1)%3C/script%3E",
        "/toy/%3Cimg%20src=x%3E",
        "/a/b/c/d/%3Cscript%3E%00%E2%80%AE",
        "/toy?run=%3Cscript%3E",
    ):
        text_ = client.get(path).text
        assert "<script>" not in text_
        assert "<img" not in text_
        assert not re.search("[\x00-\x08\u202e]", text_)


SEGMENTS = st.one_of(
    st.sampled_from(
        "toy wide api v1 models layers neurons runs static docs random healthz 0 1 2 -1 00 1.0 "
        "+1 1_0 9999999999999999999999 1e5 .. . ~ %2F %2e%2e %00 %0A %FF %ED%A0%80 %F0%9F%98%80 "
        "NaN true null 0.html .html random.html %20 '' \" <script> ; ?".split()
    ),
    st.integers(-(2**70), 2**70).map(str),
    st.text(max_size=8),
)
QUERIES = st.lists(
    st.tuples(
        st.sampled_from(["run", "sort", "order", "limit", "cursor", "x", ""]),
        st.one_of(
            st.sampled_from(["", "0", "1", "3", "max", "neuron", "asc", "desc", "\0", "\ud800"]),
            st.integers(-(2**70), 2**70).map(str),
            st.text(max_size=8),
            st.lists(
                st.one_of(
                    st.sampled_from(["max", "neuron", "asc", "desc", "toy"]),
                    st.integers(-(2**70), 2**70),
                    st.floats(),
                    st.text(max_size=3),
                    st.none(),
                    st.booleans(),
                ),
                max_size=5,
            ).map(lambda parts: cursor(*parts)),
        ),
    ),
    max_size=4,
)


def raw(segment: str) -> str:
    """A path segment as it is sent: percent signs are the test's own."""
    return quote(segment.encode("utf-8", "surrogatepass"), safe="%~.'\"<>;+")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(segments=st.lists(SEGMENTS, max_size=8), query=QUERIES)
@example(segments=["api", "v1", "models", "%00"], query=[])
@example(segments=["%00"], query=[])
@example(segments=["%00", "random"], query=[])
@example(segments=["api", "v1", "models"], query=[("cursor", cursor("\ud800"))])
@example(segments=["static", "%00"], query=[])
@example(segments=["static", "a" * 5000], query=[])
@example(segments=["static", "swagger", "..", ".."], query=[])
@example(segments=["toy", "0", "0.html"], query=[("run", "\0")])
def test_nothing_a_visitor_can_type_breaks_the_server(
    any_client: TestClient, segments: list[str], query: list[tuple[str, str]]
) -> None:
    """Any path and any query string gets an answer below 500, in the shape of its kind."""
    sent = urlencode([(key, value.encode("utf-8", "surrogatepass")) for key, value in query])
    path = "/" + "/".join(raw(segment) for segment in segments)
    for query_part in {"", sent}:
        response = any_client.get(f"http://testserver{path}?{query_part}")
        assert response.status_code in (200, 307, 308, 404, 422), path
        asked = response.request.url.path  # the client takes `..` away, as browsers do
        if response.status_code in (404, 422) and asked.startswith("/api/"):
            assert_error(response, response.status_code)
        if "location" in response.headers:
            assert re.match(r"(http://testserver)?/(?![/\\])", response.headers["location"])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    query=QUERIES, route=st.sampled_from([NEURONS, f"{NEURONS}/0", "/toy/0", "/", "/toy/random"])
)
def test_nothing_in_a_query_breaks_a_real_page(
    any_client: TestClient, query: list[tuple[str, str]], route: str
) -> None:
    """Whatever stands behind the question mark of a page that exists, it is answered."""
    sent = urlencode([(key, value.encode("utf-8", "surrogatepass")) for key, value in query])
    response = any_client.get(f"{route}?{sent}")
    assert response.status_code in (200, 307, 404, 422)


@pytest.mark.parametrize("host", ["evil.example", "[", "a/b", "", "a b", "x:99999"])
def test_no_host_header_breaks_the_server(client: TestClient, host: str) -> None:
    """Whatever a client says its host is; only a possible address is quoted in the page."""
    response = client.get("/toy/0/0", headers={"Host": host})
    assert response.status_code == 200
    assert (f"http://{host}/" in response.text) == (host in ("evil.example", "x:99999"))
    assert client.get("/api/v1/nothing", headers={"Host": host}).json()["status"] == 404


# --- What breaks ----------------------------------------------------------------------------------


def assert_unavailable(client: TestClient) -> None:
    """Pages and JSON say that the database does not answer, and nothing else of it."""
    for path in ("/api/v1/models", "/api/v1/models/toy/layers/0/neurons/0", "/healthz"):
        response = client.get(path)
        assert response.status_code == 503
        assert response.json() == {
            "error": "unavailable",
            "detail": "The database does not answer: try again in a moment.",
            "status": 503,
        }
    page = client.get("/toy/0/0")
    assert page.status_code == 503
    assert "The database does not answer" in page.text
    assert "Traceback" not in page.text
    assert "content-security-policy" in page.headers


def test_an_sqlite_store_that_goes_away_is_503(tmp_path: Path) -> None:
    """A file that is taken away, or overwritten, is an error of the database, not of ours."""
    path = tmp_path / "store.db"
    url = f"sqlite:///{path}"
    open_store(url, create=True).dispose()
    with serving(url) as client:
        assert client.get("/healthz").status_code == 200
        for old in tmp_path.iterdir():
            old.write_bytes(b"this is no database " * 500)
        assert_unavailable(client)


def test_a_postgres_store_that_goes_away_is_503(new_postgres: NewDatabase) -> None:
    """A database that is dropped under the server is 503 from then on."""
    url = new_postgres()
    with serving(url) as client:
        assert client.get("/healthz").status_code == 200
        parsed = make_url(url)
        admin = create_engine(parsed.set(database="postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {parsed.database} WITH (FORCE)"))
        admin.dispose()
        assert_unavailable(client)


def test_a_broken_row_is_500_in_the_same_shape(store_url: str) -> None:
    """What no visitor can cause is 500: said plainly, with the headers, without a traceback."""
    engine = open_store(store_url, create=True)
    fixture_store.RUNS[0].write(engine)
    with engine.begin() as connection:
        connection.execute(update(schema.examples).values(packed=b"broken"))
    engine.dispose()
    with serving(store_url) as client:
        response = client.get("/api/v1/models/toy/layers/0/neurons/0")
        assert response.status_code == 500
        assert set(response.json()) == {"error", "detail", "status"}
        assert "content-security-policy" in response.headers
        page = client.get("/toy/0/0")
        assert page.status_code == 500
        assert page.headers["content-type"].startswith("text/html")
        assert "unknown format" not in page.text
        assert "content-security-policy" in page.headers


PLACES = {
    "model": "toy",
    "set": "heads",
    "layer": "99",
    "neuron": "99",
    "context": "9",
    "run": "99",
}


@pytest.mark.parametrize("broken", [False, True])
def test_no_error_names_the_operator_s_disk(
    tmp_path: Path, broken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Every address by every method, without what it needs: neither the folder of the database nor
    that of the code is in any answer; a database that fails is named in the log."""
    url = f"sqlite:///{tmp_path / 'operators.db'}"
    engine = open_store(url, create=True)
    fixture_store.RUNS[0].write(engine)
    engine.dispose()
    with serving(url) as client:
        if broken:
            (tmp_path / "operators.db").rename(tmp_path / "away.db")
        app: Any = client.app
        seen = set()
        for route in app.routes:
            path = re.sub(r"\{(\w+)(:\w+)?\}", lambda found: PLACES.get(found[1], "x"), route.path)
            for method in getattr(route, "methods", None) or ("GET",):
                response = client.request(method, path, params={"q": "("}, content=b"\xff{")
                seen.add(response.status_code)
                for private in (str(tmp_path), "operators.db", str(Path(__file__).parents[3])):
                    assert private not in response.text, path
    assert {404, 422} <= seen if not broken else 503 in seen
    assert ("operators.db was removed" in caplog.text) == broken


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("models/toy/layers/0/neurons?limt=5", "“limt” here: did you mean `limit`?"),
        ("models/toy/neurons?query=max>1", "“query” here: use cursor, "),
        ("models/toy/sets/neurons/layers/0/neurons/0?Run=2", "did you mean `run`?"),
        ("models/toy/layers/0/neurons/0?utm_source=x", "There is no parameter “utm_source” here"),
        ("runs/1?run=2", "“run” here"),
        ("list?n=toy/0/0&titel=a", "did you mean `title`?"),
        ("models?lmit=1", "“lmit” here: did you mean `limit`?"),
    ],
)
def test_the_api_refuses_parameters_it_does_not_have(
    client: TestClient, path: str, said: str
) -> None:
    """With the nearest name; a page at the same address ignores them."""
    answer = client.get(f"/api/v1/{path}")
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


def test_pages_ignore_parameters_they_do_not_have(client: TestClient) -> None:
    """Links from elsewhere carry them."""
    for path in ("/", "/toy", "/toy/0", "/toy/0/0", "/toy/neurons"):
        assert client.get(f"{path}?utm_source=x").status_code == 200
