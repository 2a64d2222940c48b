"""Compares what two versions of the server answer over one store: every GET route, page and JSON.

    python -m benchmarks.answers dump http://127.0.0.1:8000 before.jsonl
    python -m benchmarks.answers compare before.jsonl after.jsonl

`dump` walks the links of a running server, and asks besides for what no page links to: other sizes
and orders of listings, searches, mistakes. `compare` exits with 1 if any JSON answer differs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

_LINK = re.compile(r'(?:href|src|action)="([^"]+)"')
_STATIC = re.compile(r"/static/(?:[\w-]+/)*([\w.-]+)(?:\?v=[0-9a-f]+)?")
"""A static file: its folder and its version may change, its name may not."""
_PORT = re.compile(r"127\.0\.0\.1:\d+")
_RANDOM = re.compile(r"/random(\?|$)")
_NUMBER = re.compile(r"\d+")
_FIXED = (
    "/openapi.json",
    "/docs",
    "/help",
    "/healthz",
    "/go",
    "/go?to={m}/1/3",
    "/go?to=nothing/1/3",
    "/go?to=%F0%9F%90%88",
    "/api",
    "/api/v1/nothing",
    "/nothing",
    "/{m}/99",
    "/{m}/0/99999",
    "/{m}/0/abc",
    "/{m}/0?sort=max&order=asc&limit=7",
    "/{m}/0?sort=nonsense",
    "/{m}/0/1?view=context",
    "/{m}/0/1?view=window",
    "/{m}/0/1?view=no",
    "/{m}/0/1?titles=all",
    "/{m}/0/1?embed=1",
    "/{m}/0/1.html",
    "/{m}/neurons?q=max%3E3",
    "/{m}/neurons?q=density%3C1%25+dead%3Dfalse+sort:kurtosis",
    "/{m}/neurons?q=max%3E%3E3",
    "/{m}/search?token=+def",
    "/{m}/search?token=+def&as=promoted",
    "/{m}/search?token=nosuchtoken",
    "/{m}/search?text=return",
    "/{m}/search?text=%22of+the%22",
    "/{m}/search?text=%22",
    "/{m}/compare?a=0/1&b=1/2",
    "/{m}/compare?a=0/1&b=9/2",
    "/compare?a={m}/0/1&b={m}/1/2",
    "/list?n={m}/0/1&n={m}/1/2",
    "/{m}/behaviour",
    "/{m}?run=9999",
    "/runs/9999",
    "/api/v1/models?limit=1",
    "/api/v1/models?cursor=x",
    "/api/v1/models/{m}",
    "/api/v1/models/nothing",
    "/api/v1/models/{m}?run=9999",
    "/api/v1/models/{m}/layers/0/neurons?sort=max&limit=1000",
    "/api/v1/models/{m}/layers/1/neurons?sort=effect_kurtosis&order=asc&limit=50",
    "/api/v1/models/{m}/layers/1/neurons?limit=0",
    "/api/v1/models/{m}/layers/9/neurons",
    "/api/v1/models/{m}/layers/0/picture?stat=density",
    "/api/v1/models/{m}/layers/0/picture?stat=kurtosis&from=100",
    "/api/v1/models/{m}/neurons?q=max%3E3&limit=20",
    "/api/v1/models/{m}/neurons?q=token:+def",
    "/api/v1/models/{m}/neurons?q=foo",
    "/api/v1/models/{m}/tokens?prefix=th",
    "/api/v1/models/{m}/search/token?token=+def",
    "/api/v1/models/{m}/search/token?token=+def&as=suppressed&limit=3",
    "/api/v1/models/{m}/search/token",
    "/api/v1/models/{m}/search/text?q=return",
    "/api/v1/models/{m}/search/text?q=the+of*&limit=100",
    "/api/v1/models/{m}/contexts/0",
    "/api/v1/models/{m}/contexts/10?at=3",
    "/api/v1/models/{m}/contexts/99999999",
    "/api/v1/compare?a={m}/0/1&b={m}/1/2",
    "/api/v1/list?n={m}/0/1",
    "/api/v1/notes",
    "/api/v1/models/{m}/layers/0/neurons/1/notes",
    "/api/v1/runs/1",
    "/api/v1/runs/0",
    "/api/v1/models/{m}/layers/0/neurons/1/activations",
)
"""Addresses that no page has to link to; `{m}` is the model."""


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        return None


_OPENER = build_opener(_Stay)


def _get(url: str) -> tuple[int, str, str, str]:
    """Status, content type, location and body of one answer."""
    try:
        answer = _OPENER.open(Request(url), timeout=60)
    except HTTPError as error:
        answer = error
    with answer:
        headers, body = answer.headers, answer.read()
        kind = headers.get("content-type") or ""
        return answer.status, kind, headers.get("location") or "", body.decode("utf-8", "replace")


def _family(path: str) -> str:
    """What kind of address it is: its numbers and the values of its query left out."""
    place, _, query = path.partition("?")
    names = sorted(part.partition("=")[0] for part in query.split("&"))
    return _NUMBER.sub("0", place) + "?" + "&".join(names)


def walk(base: str, most: int) -> Iterator[tuple[str, int, str, str, str]]:
    """Answers within reach, in the order in which their addresses were met: of each family the
    first `most`, of JSON of neurons all."""
    counts: Counter[str] = Counter()
    *_, text = _get(base + "/api/v1/models")
    models = [item["model"] for item in json.loads(text)["items"]]
    queue = ["/", *(path.replace("{m}", model) for model in models for path in _FIXED)]
    for model in models:
        *_, text = _get(f"{base}/api/v1/models/{model}")
        for layer in json.loads(text)["layers"]:
            for neuron in range(layer["neurons"]):
                here = f"layers/{layer['layer']}/neurons/{neuron}"
                queue.append(f"/api/v1/models/{model}/{here}")
    queue = list(dict.fromkeys(queue))
    seen = set(queue)
    for path in queue:
        status, kind, location, body = _get(base + path)
        yield path, status, kind, location, body
        links = _LINK.findall(body) if "html" in kind else [location] if location else []
        more = json.loads(body).get("next") if "json" in kind and status == 200 else None
        if isinstance(more, str):
            links.append(
                path.split("&cursor=")[0] + ("&" if "?" in path else "?") + f"cursor={more}"
            )
        for link in links:
            link = urldefrag(urljoin(base + path, link.replace("&amp;", "&")))[0]
            parts = urlsplit(link)
            if not link.startswith(base):
                continue
            path_of = parts.path + (f"?{parts.query}" if parts.query else "")
            family = _family(path_of)
            if path_of in seen or counts[family] >= most:
                continue
            if not _RANDOM.search(path_of) and not path_of.startswith("/static/"):
                counts[family] += 1
                seen.add(path_of)
                queue.append(path_of)


def _plain(part: object) -> str:
    """A part of an answer without what may change."""
    return _PORT.sub("", _STATIC.sub(r"/static/\1", str(part)))


def _read(file: Path) -> dict[str, list[object]]:
    with file.open() as lines:
        return {path: rest for path, *rest in map(json.loads, lines)}


def compare(before: Path, after: Path, shown: int = 5) -> int:
    """Prints how many answers are equal, and the first differences; how many JSON ones differ."""
    old, new = _read(before), _read(after)
    counts: Counter[str] = Counter()
    json_differs = 0
    for path in [*old, *(path for path in new if path not in old)]:
        was, now = old.get(path), new.get(path)
        kind = "json" if "json" in str((was or now or [0, ""])[1]) else "page or redirect"
        if was is None or now is None:
            result = "only before" if now is None else "only after"
        elif was == now:
            result = "equal byte for byte"
        elif list(map(_plain, was)) == list(map(_plain, now)):
            result = "equal but for folders and versions of static files"
        else:
            result = "DIFFERENT"
            if counts[f"{kind}: {result}"] < shown:
                print(path)
                print(was[:-1], now[:-1])
                old_lines, new_lines = _plain(was[-1]).splitlines(), _plain(now[-1]).splitlines()
                changes = unified_diff(old_lines, new_lines, lineterm="", n=0)
                print(*itertools.islice(changes, 12), sep="\n")
        json_differs += kind == "json" and not result.startswith("equal")
        counts[f"{kind}: {result}"] += 1
    for name, count in sorted(counts.items()):
        print(f"{count:6} {name}")
    return json_differs


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.answers", description=__doc__)
    parser.add_argument("do", choices=["dump", "compare"])
    parser.add_argument("first")
    parser.add_argument("second", type=Path)
    parser.add_argument("--most", type=int, default=100, help="addresses of a family at most")
    parser.add_argument("--shown", type=int, default=5, help="differences that are printed")
    options = parser.parse_args()
    if options.do == "compare":
        return 1 if compare(Path(options.first), options.second, options.shown) else 0
    with options.second.open("w") as file:
        for answer in walk(options.first.rstrip("/"), options.most):
            file.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
