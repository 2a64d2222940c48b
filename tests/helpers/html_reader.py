"""HTML as elements, strictly: what does not nest is an error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

from starlette.testclient import TestClient

VOID = {"base", "col", "meta", "link", "br", "img", "input", "hr", "wbr"}


@dataclass
class Element:
    """An element as a browser would build it."""

    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    def walk(self) -> Iterator[Element]:
        """This element and all below it."""
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, tag: str, css: str | None = None) -> list[Element]:
        """All elements below with this tag (and this class)."""
        return [
            element
            for element in self.walk()
            if element.tag == tag
            and (css is None or css in element.attributes.get("class", "").split())
        ]

    def by_id(self, name: str) -> Element:
        """The one element with this id."""
        (found,) = (element for element in self.walk() if element.attributes.get("id") == name)
        return found

    @property
    def text(self) -> str:
        """All text in it."""
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class Reader(HTMLParser):
    """Builds the elements; an end tag that does not fit its start tag is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """HTMLParser's hook."""
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """HTMLParser's hook."""
        self.open[-1].children.append(Element(tag, {n: v or "" for n, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        """HTMLParser's hook."""
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        """HTMLParser's hook."""
        self.open[-1].children.append(data)


def read(client: TestClient, path: str, status: int = 200) -> Element:
    """A page, as elements; one that is there, unless another status is expected."""
    response = client.get(path)
    assert response.status_code == status, path
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    return elements(response.text)


def elements(html: str) -> Element:
    """A page's text, as elements."""
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == [reader.root], "every element is closed"
    return reader.root
