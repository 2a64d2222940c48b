"""Answers are compressed as the visitor can read, and are the same answer in every encoding."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator

import brotli
import pytest
import zstandard
from pydantic import SecretStr
from starlette.testclient import TestClient

from tests.conftest import serving

JSON = "/api/v1/models/toy/layers/1/neurons/1"
STYLE = "/static/base/style.css"
LARGE = [JSON, STYLE, "/openapi.json"]

DECODERS: dict[str | None, Callable[[bytes], bytes]] = {
    None: bytes,
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


def raw(client: TestClient, path: str, accepted: str) -> tuple[str | None, bytes]:
    """The encoding an answer comes in, and its body as it is sent."""
    with client.stream("GET", path, headers={"Accept-Encoding": accepted}) as response:
        assert response.status_code == 200
        body = b"".join(response.iter_raw())
        assert int(response.headers.get("content-length", len(body))) == len(body)
        return response.headers.get("content-encoding"), body


@pytest.mark.parametrize("path", LARGE)
@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("gzip, deflate", "gzip"),
        ("gzip;q=0.5, zstd;q=0, br;q=0", "gzip"),
        ("*", "zstd"),
        ("*, zstd;q=0", "br"),
        ("deflate, compress", None),
        ("identity", None),
        ("", None),
        (";;,=q", None),
    ],
)
def test_the_encoding_is_one_the_visitor_reads(
    client: TestClient, path: str, accepted: str, encoding: str | None
) -> None:
    """The quickest encoding that is accepted is used, and decodes to the plain answer."""
    plain = raw(client, path, "identity")
    assert plain[0] is None
    found, body = raw(client, path, accepted)
    assert found == encoding
    assert DECODERS[encoding](body) == plain[1]
    if encoding is not None:
        assert len(body) < len(plain[1]) / 2


@pytest.mark.parametrize("path", LARGE)
@pytest.mark.parametrize("accepted", ["zstd", "identity"])
def test_caches_are_told_that_the_encoding_varies(
    client: TestClient, path: str, accepted: str
) -> None:
    """An answer that could be compressed says so, whether it is or not."""
    answer = client.get(path, headers={"Accept-Encoding": accepted})
    assert "accept-encoding" in answer.headers["vary"].lower()


def test_small_answers_are_left_alone(client: TestClient) -> None:
    """What is smaller than a network packet is sent as it is."""
    encoding, body = raw(client, "/healthz", "zstd, br, gzip")
    assert encoding is None
    assert len(body) < 1000


def test_all_encodings_have_one_weak_tag(client: TestClient) -> None:
    """A tag got with one encoding is good for all others, and stands for no exact bytes."""
    tags = {
        client.get(JSON, headers={"Accept-Encoding": accepted}).headers["etag"]
        for accepted in ("zstd", "br", "gzip", "identity")
    }
    assert len(tags) == 1
    tag = tags.pop()
    assert tag.startswith('W/"')
    for accepted in ("zstd", "br", "gzip", "identity"):
        again = client.get(JSON, headers={"Accept-Encoding": accepted, "If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
        assert "content-encoding" not in again.headers
        assert again.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("path", [JSON, STYLE])
def test_head_tells_what_get_would(client: TestClient, path: str) -> None:
    """HEAD has the headers of GET: its encoding and its compressed length."""
    headers = {"Accept-Encoding": "zstd"}
    got, told = client.get(path, headers=headers), client.head(path, headers=headers)
    for name in ("content-encoding", "content-length", "content-type", "etag", "vary"):
        assert told.headers.get(name) == got.headers.get(name), name


def test_a_part_of_a_file_is_that_part(client: TestClient) -> None:
    """A range is of the plain file: it is not compressed."""
    whole = raw(client, STYLE, "identity")[1]
    headers = {"Accept-Encoding": "zstd, gzip", "Range": "bytes=10-1999"}
    part = client.get(STYLE, headers=headers)
    assert part.status_code == 206
    assert "content-encoding" not in part.headers
    assert part.content == whole[10:2000]


def test_errors_keep_their_security_headers_when_compressed(client: TestClient) -> None:
    """Compression is inside what adds the common headers."""
    answer = client.get("/nobody", headers={"Accept-Encoding": "gzip"})
    assert answer.status_code == 404
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.fixture(scope="module")
def large_page(demo_store: str) -> Iterator[tuple[TestClient, str]]:
    """A client over the demo with everything that makes its pages longer, and the address of the
    longest of 40 neurons' pages of both layers."""
    token = SecretStr("a-token-of-writers-1")
    with serving(demo_store, live=True, notes=True, notes_token=token) as client:
        pages = [f"/demo/{layer}/{neuron}" for layer in (0, 1) for neuron in range(0, 640, 32)]
        yield client, max(pages, key=lambda page: len(raw(client, page, "zstd")[1]))


@pytest.mark.parametrize("encoding", ["zstd", "br", "gzip"])
def test_a_neurons_page_is_small_when_sent(
    large_page: tuple[TestClient, str], encoding: str
) -> None:
    """The longest page of a neuron is at most 40 kB in each encoding."""
    client, page = large_page
    found, body = raw(client, page, encoding)
    assert found == encoding
    assert b"</html>" in DECODERS[encoding](body)
    assert 10_000 < len(body) <= 40_000
