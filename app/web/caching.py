"""ETags: a page is its runs, the site's version and the address; none of them changes unseen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from fastapi import Request, Response

# Kept, but asked for again each time: a new run can change what a page links to.
_POLICY = "no-cache"


def etag(request: Request, site_version: str, runs: Iterable[str]) -> str:
    """The tag of what `request` is answered with, from what identifies the runs it shows."""
    content = hashlib.blake2b(digest_size=12)
    path, query = request.scope["path"], request.scope["query_string"].decode("latin-1")
    for part in (site_version, path, query, *runs):
        content.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return f'W/"{content.hexdigest()}"'


def known(request: Request) -> set[str]:
    """The tags of the answers the visitor has already; `*` stands for any."""
    return {part.strip() for part in request.headers.get("if-none-match", "").split(",")}


def not_modified(tag: str) -> Response:
    """304, with nothing in it."""
    # Vary: as the answer itself would say, whose encodings share the one weak tag.
    headers = {"ETag": tag, "Cache-Control": _POLICY, "Vary": "Accept-Encoding"}
    return Response(status_code=304, headers=headers)


def tagged(response: Response, tag: str) -> Response:
    """An answer that can be asked for again by its tag."""
    response.headers["ETag"] = tag
    response.headers["Cache-Control"] = _POLICY
    return response
