"""Tables of tokens and of neurons as markup. A template would take several times as long for the
many rows of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup


class TokenRow(NamedTuple):
    """A token with a number and a bar for its size."""

    token: Markup
    token_id: int
    href: str
    """The page of the neurons with the same effect on the token."""
    value: str
    bar: Markup


class LinkRow(NamedTuple):
    """A related neuron."""

    href: str
    name: str
    """Its layer and index."""
    value: str
    part: str
    token: Markup
    called: str | None = None
    """Its name in its dictionary's file."""


@dataclass(frozen=True, slots=True)
class PeakRow:
    """A token on which examples peak."""

    token: Markup
    token_id: int
    href: str
    """The page of the neurons that peak on the token."""
    count: str
    mean: str
    bar: Markup


def token_tables(heading: str, *lists: tuple[str, Sequence[TokenRow]]) -> Markup:
    """A table for each (caption, rows); `heading` is that of the column of numbers."""
    return Markup("".join(_token_table(heading, title, rows) for title, rows in lists))


def _token_table(heading: str, title: str, rows: Sequence[TokenRow]) -> str:
    body = "".join(
        [
            f'<tr><td>{_chip(row)}</td><td class="num measure">{row.value} {row.bar}</td></tr>\n'
            for row in rows
        ]
    )
    return (
        f'<table class="effects" data-roving>\n<caption>{title}</caption>\n<thead class="unseen">'
        f'<tr><th scope="col">Token</th><th scope="col">{heading}</th></tr></thead>\n'
        f"<tbody>\n{body or _empty_row(2, 'none stored')}</tbody>\n</table>\n"
    )


def _chip(row: TokenRow | PeakRow) -> str:
    """A token as a link to its neurons. The URL is quoted already."""
    href = row.href.replace("&", "&amp;")
    return f'<a class="chip" href="{href}" title="id {row.token_id}">{row.token}</a>'


def _empty_row(columns: int, reason: str) -> str:
    return f'<tr><td colspan="{columns}" class="quiet">{reason}</td></tr>\n'


def unit_name(name: str | None) -> Markup:
    """A unit's name in its dictionary's file, beside its index; nothing if it has none."""
    return Markup(' <bdi class="unit-name">{}</bdi>').format(name) if name else Markup()


def tick(named: str) -> Markup:
    """A box that ticks a unit for a list, as in `parts.html`; `named` as Links.named makes it."""
    return Markup(
        '<input class="tick" type="checkbox" name="add" form="ticks" value="{0}" '
        'aria-label="Tick {0}">'
    ).format(named)


def link_rows(rows: Sequence[LinkRow], empty: str) -> Markup:
    """The rows as markup, or one with the text `empty`. URLs are quoted already."""
    made = []
    for row in rows:
        href = row.href.replace("&", "&amp;")
        part = f' <span class="quiet">{row.part}</span>' if row.part else ""
        made.append(
            f'<tr><td><a href="{href}">{row.name}</a>{unit_name(row.called)}</td>'
            f'<td class="num">{row.value}{part}</td>'
            f'<td><span class="chip">{row.token}</span></td></tr>\n'
        )
    return Markup("".join(made) or _empty_row(3, empty))


def peak_rows(rows: Sequence[PeakRow]) -> Markup:
    """The rows as markup."""
    made = [
        f"<tr><td>{_chip(row)}</td>"
        f'<td class="num">{row.count}</td><td class="num measure">{row.mean} {row.bar}</td></tr>\n'
        for row in rows
    ]
    return Markup("".join(made) or _empty_row(3, "no examples were kept"))
