"""Bare pages for other sites' frames: only where the setting says whose, and only they."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from app.web.middleware import SECURITY_HEADERS, content_policy
from tests.conftest import serving_live
from tests.helpers.html_reader import read

PAGES = ("/toy", "/toy/1", "/toy/1/3", "/toy/1?sort=max&run=1")
FRIENDS = "https://example.org https://*.lab.example:8443"


def bare(path: str) -> str:
    """The address of the bare page."""
    return f"{path}{'&' if '?' in path else '?'}embed=1"


@pytest.fixture(scope="module")
def open_client(sqlite_filled: str) -> Iterator[TestClient]:
    """A client of a server whose pages two other sites may embed."""
    app = create_app(Settings(database_url=sqlite_filled, embed=FRIENDS))
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
        yield client


@pytest.mark.parametrize("path", PAGES)
def test_without_the_setting_nobody_may_frame_bare_pages(client: TestClient, path: str) -> None:
    """They are shown in a tab of their own, and forbid every frame, also unchanged ones."""
    response = client.get(bare(path))
    assert not read(client, bare(path)).all("header")
    again = client.get(bare(path), headers={"If-None-Match": response.headers["etag"]})
    assert (response.status_code, again.status_code) == (200, 304)
    for answer in (response, again):
        assert answer.headers["content-security-policy"] == content_policy("'none'")


def test_a_card_is_shown_without_the_setting(client: TestClient) -> None:
    """The summary and five examples at most, and nobody may frame it."""
    response = client.get("/toy/1/3?embed=card")
    assert response.headers["content-security-policy"] == content_policy("'none'")
    page = read(client, "/toy/1/3?embed=card")
    assert page.all("dl", "summary")
    assert not page.all("header")


def test_a_card_has_both_ends_where_the_page_does(client: TestClient) -> None:
    """The tokens of the lowest activations stand beside those of the highest."""
    ends = {"Highest on", "Lowest on", "Fires on"}
    shown = set()
    for place in range(8):
        path = f"/toy/{place // 4}/{place % 4}"
        whole, card = (
            {term.text for term in read(client, address).all("dt")} & ends
            for address in (path, f"{path}?embed=card")
        )
        assert card == whole
        shown |= whole
    assert shown == ends


@pytest.mark.parametrize("path", PAGES)
def test_a_bare_page_has_the_page_and_no_frame_of_ours(open_client: TestClient, path: str) -> None:
    """The same main part, without header, breadcrumb, form or keys; links leave the frame."""
    whole, embedded = read(open_client, path), read(open_client, bare(path))
    assert [one.text for one in embedded.all("h1")] == [one.text for one in whole.all("h1")]
    assert whole.all("header")
    assert not embedded.all("header")
    assert not embedded.all("form")
    assert not embedded.all("nav", "steps")
    assert "/static/base/keys.js" not in open_client.get(bare(path)).text
    (base,) = embedded.all("base")
    assert base.attributes == {"target": "_blank"}
    inside = [a for a in embedded.all("a") if a.attributes["href"].startswith("#")]
    assert all(link.attributes.get("target") == "_self" for link in inside)
    ours = [a.attributes["href"] for a in embedded.all("a") if a not in inside]
    assert not [link for link in ours if "embed" in link]
    (back,) = embedded.all("p", "embedded")
    assert back.all("a")[0].attributes["href"].split("?")[0] == path.split("?")[0]


def test_only_bare_pages_may_be_framed(open_client: TestClient) -> None:
    """The setting's sources stand in the policy of bare pages, fresh or unchanged; of no other."""
    for path in PAGES:
        response = open_client.get(bare(path))
        assert response.headers["content-security-policy"] == content_policy(FRIENDS)
        tag = response.headers["etag"]
        again = open_client.get(bare(path), headers={"If-None-Match": tag})
        assert again.status_code == 304
        assert again.headers["content-security-policy"] == content_policy(FRIENDS)
        for name, value in SECURITY_HEADERS.items():
            assert name == "Content-Security-Policy" or response.headers[name] == value
    others = ("/", "/?embed=1", "/runs/1?embed=1", "/help?embed=1", "/docs", "/nobody?embed=1")
    for path in (*PAGES, *others, "/api/v1/models?embed=1", "/static/base/theme.css?embed=1"):
        policy = open_client.get(path).headers["content-security-policy"]
        assert policy == content_policy("'none'"), path


def test_there_is_one_way_to_ask(open_client: TestClient) -> None:
    """?embed= with anything but 1 is invalid, and says so."""
    for value in ("0", "true", ""):
        assert "embed" in read(open_client, f"/toy?embed={value}", 422).text


@pytest.mark.parametrize(
    "value",
    ["*", "https://example.org", "'self'", "https:", "example.org:8080", "http://localhost:*", ""],
)
def test_sources_that_can_be_set(value: str) -> None:
    """Origins, all of a scheme, this site, everybody; blanks between and around do not matter."""
    assert Settings(embed=value).embed == value
    assert Settings(embed=f"  {value} ").embed == value
    assert Settings(embed=f"{value}  https://b.example").embed.endswith("https://b.example")


@pytest.mark.parametrize(
    "value",
    [
        "https://a.example; script-src *",
        "https://a.example, https://b.example",
        "https://a.example\nX-Header: 1",
        "https://a.example\r",
        "https://a.example\thttps://b.example",
        "https://a.example/path",
        "'none'",
        "'unsafe-inline'",
        "data:",
        "**",
        "https://ä.example",
    ],
)
def test_sources_that_cannot_be_set(value: str) -> None:
    """Whatever could end the rule, or the header, is refused with what to write instead."""
    with pytest.raises(
        ValidationError, match=r"is not a valid source: write origins such as https://"
    ):
        Settings(embed=value)


class AnotherSite(ThreadingHTTPServer):
    """A server of one page."""

    page = b""


class Pages(BaseHTTPRequestHandler):
    """Another site: whatever is asked for, it answers with its server's `page`."""

    def do_GET(self) -> None:
        """BaseHTTPRequestHandler's hook."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        assert isinstance(self.server, AnotherSite)
        self.wfile.write(self.server.page)

    def log_message(self, format: str, *args: object) -> None:
        """BaseHTTPRequestHandler's hook: say nothing."""


@contextmanager
def another_site() -> Iterator[AnotherSite]:
    """A server of another origin on this machine, whose `page` is to be set."""
    with AnotherSite(("127.0.0.1", 0), Pages) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()


def test_a_bare_page_in_another_site_s_frame(browser: Any, demo_store: str) -> None:
    """In Chromium: the bare page is shown, the page itself is not; a link opens a page of its own
    that cannot reach back, one inside the page stays."""
    with another_site() as site:
        origin = f"http://127.0.0.1:{site.server_address[1]}"
        with serving_live(demo_store, embed=origin) as server:
            site.page = "".join(
                f'<iframe name="{name}" width="700" height="500" src="{server}/demo/1/10{query}">'
                "</iframe>"
                for name, query in (("bare", "?embed=1"), ("whole", ""))
            ).encode()
            context = browser.new_context()
            page = context.new_page()
            page.goto(origin, wait_until="networkidle")
            frame = page.frame("bare")
            assert "neuron 10" in frame.locator("main h1").inner_text()
            assert frame.locator("header").count() == 0
            assert page.frame("whole").locator("main").count() == 0, "its policy forbids the frame"
            with context.expect_page() as opened:
                frame.get_by_role("link", name="Open in Neurarium").click()
            opened.value.wait_for_load_state()
            assert opened.value.url == f"{server}/demo/1/10"
            assert opened.value.evaluate("window.opener") is None
            frame.locator("a[href^='#']").first.click()
            assert "#" in frame.evaluate("location.href")
            assert len(context.pages) == 2
            context.close()
