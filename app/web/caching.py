"""ETags, made of the address, the site's version and the runs that an answer depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from fastapi import Request, Response

# A browser must ask again each time: a new run can change what a page links to.
_POLICY = "no-cache"


def etag(request: Request, site_version: str, runs: Iterable[str]) -> str:
    """The ETag of the answer to `request`; `runs` identifies what the answer depends on."""
    content = hashlib.blake2b(digest_size=12)
    path, query = request.scope["path"], request.scope["query_string"].decode("latin-1")
    for part in (site_version, path, query, *runs):
        content.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return f'W/"{content.hexdigest()}"'


def known(request: Request) -> set[str]:
    """The ETags that the visitor already has; `*` stands for any."""
    return {part.strip() for part in request.headers.get("if-none-match", "").split(",")}


def not_modified(tag: str) -> Response:
    """An empty answer with status 304."""
    # The full answer would vary by encoding, and all encodings share one weak tag.
    headers = {"ETag": tag, "Cache-Control": _POLICY, "Vary": "Accept-Encoding"}
    return Response(status_code=304, headers=headers)


def tagged(response: Response, tag: str) -> Response:
    """The answer with its ETag."""
    response.headers["ETag"] = tag
    response.headers["Cache-Control"] = _POLICY
    return response
