"""Pages that were built before, compressed in memory.

Runs never change, and a page's ETag names all that the page depends on. So a page that was built
for one visitor is right for everybody who asks for it while its ETag stays.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import zstandard
from fastapi import Request, Response

LEVEL = 3
"""Of the compression, as for answers that are not cached."""
_HEADERS = 600
"""About how many bytes an entry takes besides its page."""


@dataclass(frozen=True, slots=True)
class _Page:
    content: bytes
    """Compressed with zstd."""
    headers: dict[str, str]


class BuiltPages:
    """Pages by ETag; those asked for longest ago go first. Safe to share between threads."""

    def __init__(self, most: int) -> None:
        """`most`: bytes that they may take together; 0 keeps none."""
        self._most = most
        self._bytes = 0
        self._pages: OrderedDict[str, _Page] = OrderedDict()
        self._lock = threading.Lock()
        self._of_thread = threading.local()

    def get(self, request: Request, tag: str) -> Response | None:
        """The answer with the page that has this ETag; None if it is not cached."""
        with self._lock:
            page = self._pages.get(tag)
            if page is None:
                return None
            self._pages.move_to_end(tag)
        if takes_zstd(request):
            headers = {**page.headers, "content-encoding": "zstd", "vary": "Accept-Encoding"}
            return Response(page.content, headers=headers)
        return Response(zstandard.ZstdDecompressor().decompress(page.content), headers=page.headers)

    def keep(self, request: Request, tag: str, response: Response) -> Response:
        """Keep a page, and return the answer with it. `response` has all its headers."""
        size = len(response.body)
        if response.status_code != 200 or size > self._most:
            return response
        left_out = ("content-length", "vary")
        headers = {name: text for name, text in response.headers.items() if name not in left_out}
        page = _Page(self._compressor().compress(bytes(response.body)), headers)
        with self._lock:
            if (before := self._pages.pop(tag, None)) is not None:
                self._bytes -= len(before.content) + _HEADERS
            self._pages[tag] = page
            self._bytes += len(page.content) + _HEADERS
            while self._bytes > self._most:
                _, oldest = self._pages.popitem(last=False)
                self._bytes -= len(oldest.content) + _HEADERS
        # Compressed already: the visitor need not wait until it is compressed once more.
        return (self.get(request, tag) or response) if takes_zstd(request) else response

    def _compressor(self) -> zstandard.ZstdCompressor:
        """This thread's compressor: making a new one takes as long as compressing a page."""
        compressor: zstandard.ZstdCompressor | None = getattr(self._of_thread, "compressor", None)
        if compressor is None:
            compressor = self._of_thread.compressor = zstandard.ZstdCompressor(level=LEVEL)
        return compressor


def takes_zstd(request: Request) -> bool:
    """Whether the visitor's Accept-Encoding names zstd, and not with a quality of 0."""
    for part in request.headers.get("accept-encoding", "").split(","):
        name, _, parameters = part.strip().partition(";")
        if name.strip().lower() == "zstd":
            quality = parameters.replace(" ", "").lower().removeprefix("q=")
            return quality == "" or quality.strip("0.") != ""
    return False
