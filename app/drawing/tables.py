"""Pure: rows of tokens and of neurons → tables as markup. Apart from the templates, which would
take several times as long for the many rows of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup


class TokenRow(NamedTuple):
    """A token with a number, and a bar as long as the number is large."""

    token: Markup
    token_id: int
    href: str
    """The neurons that do the same to it."""
    value: str
    bar: Markup


class LinkRow(NamedTuple):
    """Another neuron."""

    href: str
    name: str
    value: str
    part: str
    token: Markup


@dataclass(frozen=True, slots=True)
class PeakRow:
    """A token that examples peak on."""

    token: Markup
    token_id: int
    href: str
    """The neurons that peak on it."""
    count: str
    mean: str
    bar: Markup


def tables(heading: str, *some: tuple[str, Sequence[TokenRow]]) -> Markup:
    """Lists of tokens as tables, each with its caption; `heading` is what the numbers are."""
    return Markup("".join(_token_table(heading, title, rows) for title, rows in some))


def _token_table(heading: str, title: str, rows: Sequence[TokenRow]) -> str:
    body = "".join(
        [
            f'<tr><td>{_chip(row)}</td><td class="num measure">{row.value} {row.bar}</td></tr>\n'
            for row in rows
        ]
    )
    return (
        f'<table class="effects">\n<caption>{title}</caption>\n<thead class="unseen"><tr>'
        f'<th scope="col">Token</th><th scope="col">{heading}</th></tr></thead>\n'
        f"<tbody>\n{body or _nothing(2, 'none kept')}</tbody>\n</table>\n"
    )


def _chip(row: TokenRow | PeakRow) -> str:
    """A token that leads to its neurons. Addresses are quoted where they are made."""
    href = row.href.replace("&", "&amp;")
    return f'<a class="chip" href="{href}" title="id {row.token_id}">{row.token}</a>'


def _nothing(columns: int, why: str) -> str:
    return f'<tr><td colspan="{columns}" class="quiet">{why}</td></tr>\n'


def link_rows(rows: Sequence[LinkRow], empty: str) -> Markup:
    """The rows as markup. Addresses are quoted where they are made."""
    shown = []
    for row in rows:
        href = row.href.replace("&", "&amp;")
        part = f' <span class="quiet">{row.part}</span>' if row.part else ""
        shown.append(
            f'<tr><td><a href="{href}">{row.name}</a></td><td class="num">{row.value}{part}</td>'
            f'<td><span class="chip">{row.token}</span></td></tr>\n'
        )
    return Markup("".join(shown) or _nothing(3, empty))


def peak_rows(rows: Sequence[PeakRow]) -> Markup:
    """The rows as markup."""
    shown = [
        f"<tr><td>{_chip(row)}</td>"
        f'<td class="num">{row.count}</td><td class="num measure">{row.mean} {row.bar}</td></tr>\n'
        for row in rows
    ]
    return Markup("".join(shown) or _nothing(3, "no examples were kept"))
