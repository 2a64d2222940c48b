"""The search by token and by text, as a page and as JSON."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query, Request, Response

from app.errors import AppError, Invalid
from app.reading.runs import run_ref
from app.reading.store import Reading
from app.schemas import Order
from app.search import splits, texts, tokens
from app.search.schemas import (
    ContextSort,
    PairRole,
    Role,
    SearchPage,
    TextSearch,
    Token,
    TokenList,
    TokenSearch,
    TokenSort,
    TokenSplit,
)
from app.search.view import SearchContext, token_view
from app.web import api_urls, urls
from app.web.answers import listing, with_notes
from app.web.frame import Frame
from app.web.params import ERRORS, LISTS, Cursor, Fields, InSet, Limit, RunId
from app.web.site import site_of
from indexer.store.units import HEADS

api = APIRouter(prefix="/api/v1/models/{model}", tags=["api"], responses=ERRORS)
pages = APIRouter(include_in_schema=False)

NEURONS, CONTEXTS, COMPLETIONS = 50, 20, 20
"""The default numbers of items: neurons of a token, contexts of a text, completions."""

TokenText = Annotated[
    str | None, Query(alias="token", max_length=10_000, description="The token's exact text.")
]
TokenId = Annotated[
    int | None, Query(ge=0, le=2**31 - 1, description="Its id, instead of its text.")
]
As = Annotated[
    Role | None,
    Query(
        alias="as",
        description="`peak`: neurons whose top examples peak on the token; `promoted`, "
        "`suppressed`: by logit effects; `in`, `gate`: by the input of its embedding to that part; "
        "`query`, `key`: attention heads that attend from it, or to it.",
    ),
]
AsPair = Annotated[
    PairRole | None,
    Query(
        alias="as",
        description="`query`, `key`: attention heads whose largest pairs attend from the match, or "
        "to it.",
    ),
]
Sort = Annotated[
    TokenSort | None,
    Query(
        description="`value`: the mean peak, effect or input; `count`: the top examples that peak "
        "on the token, then their mean peak. Default: `count` for `peak`, otherwise `value`."
    ),
]
SortOfContexts = Annotated[
    ContextSort | None,
    Query(
        description="`specific` (the default): by how specifically neurons peak on the match; "
        "`top`: by the number of neurons of which it is a top example; `context`: corpus order."
    ),
]
SortOnPage = Annotated[TokenSort | ContextSort | None, Query()]
Text = Annotated[
    str,
    Query(max_length=2_000, description='Words, "a phrase" or the beginning of a word*.'),
]
ContextsAtOnce = Annotated[int, Query(ge=1, le=100, description="The most items.")]


@api.get("/tokens", response_model=TokenList, name="tokens", responses=LISTS)
def completions(
    request: Request,
    model: InSet,
    prefix: Annotated[str, Query(min_length=1, max_length=1_000)],
    run: RunId = None,
    limit: Limit = COMPLETIONS,
    fields: Fields = None,
) -> Response:
    """Tokens that begin with `prefix`, or with a space and `prefix`."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model):
        return unchanged
    with site.store.reading(model, run) as reading:
        found = TokenList(items=tokens.tokens_like(reading, prefix, limit))
    return listing(request, found, fields)


@api.get("/search/token", response_model=TokenSearch, responses=LISTS)
def by_token(
    request: Request,
    model: InSet,
    token: TokenText = None,
    token_id: TokenId = None,
    role: As = None,
    sort: Sort = None,
    order: Order = "desc",
    run: RunId = None,
    limit: Limit = NEURONS,
    cursor: Cursor = None,
    fields: Fields = None,
) -> Response:
    """The neurons that peak on a token, promote it, suppress it, or are activated by it."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model, beside=[site.marks(model).version]):
        return unchanged
    with site.store.reading(model, run) as reading:
        number = tokens.token_of(reading, token, token_id)
        page = tokens.search(reading, number, role, limit, cursor, sort, order)
    return listing(request, with_notes(request, page, model), fields)


@api.get("/search/split", response_model=TokenSplit, responses=LISTS)
def split(
    request: Request,
    model: InSet,
    text: Annotated[str, Query(min_length=1, max_length=splits.LONGEST)],
    run: RunId = None,
    fields: Fields = None,
) -> Response:
    """How a text that is not a token is split into tokens, as stored contexts have it."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model):
        return unchanged
    with site.store.reading(model, run) as reading:
        return listing(request, splits.split(reading, text), fields, of="splits")


@api.get("/search/text", response_model=TextSearch, responses=LISTS)
def by_text(
    request: Request,
    model: InSet,
    q: Text,
    role: AsPair = None,
    sort: SortOfContexts = None,
    run: RunId = None,
    limit: ContextsAtOnce = CONTEXTS,
    cursor: Cursor = None,
    fields: Fields = None,
) -> Response:
    """The stored contexts that contain all words and phrases of `q`, each with neurons that peak in
    it."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model, beside=[site.marks(model).version]):
        return unchanged
    with site.store.reading(model, run) as reading:
        page = texts.search(reading, q, limit, cursor, sort, role)
    page = with_notes(request, page, model, of="neurons")
    return listing(request, page, fields)


@pages.get("/{model}/search")
def search_page(
    request: Request,
    model: InSet,
    token: TokenText = None,
    token_id: TokenId = None,
    role: As = None,
    sort: SortOnPage = None,
    order: Order = "desc",
    text: Annotated[str | None, Query(max_length=2_000)] = None,
    run: RunId = None,
    cursor: Cursor = None,
) -> Response:
    """The search boxes and the results."""
    site = site_of(request)
    marks = site.marks(model)
    if unchanged := site.unchanged(request, model, beside=[marks.version]):
        return unchanged
    with site.store.reading(model, run) as reading:
        page, status = _results(reading, token, token_id, role, text, cursor, sort, order)
    json_url, canonical = _addresses(page, run, cursor)
    context = SearchContext(
        frame=Frame(site.links(model, run), json_url=json_url, canonical=canonical, marks=marks),
        page=page,
        view=None
        if page.tokens is None
        else token_view(page.tokens, page.run.units.noun, site.links(model, run)),
        cursor=cursor,
        live=site.live,
        has_pairs=page.run.units.set == HEADS,
    )
    return site.html(request, "search/search.html", context, status)


def _results(
    reading: Reading,
    token: str | None,
    token_id: int | None,
    role: Role | None,
    text: str | None,
    cursor: str | None,
    sort: TokenSort | ContextSort | None,
    order: Order,
) -> tuple[SearchPage, int]:
    """The page and its status; the page has the error, if there is one."""
    results: dict[str, Any] = {"tokens": None, "contexts": None, "problem": None}
    results |= {"suggestions": [], "splits": []}
    status = 200
    try:
        if text and (token or token_id is not None):
            raise Invalid("Search for a token or for a text, not for both.")
        if token or token_id is not None:
            number = tokens.token_of(reading, token, token_id)
            by = _one_of(TokenSort, sort)
            results["tokens"] = tokens.search(reading, number, role, NEURONS, cursor, by, order)
            token = reading.vocabulary[number]
        elif text:
            by = _one_of(ContextSort, sort)
            results["contexts"] = texts.search(
                reading, text, CONTEXTS, cursor, by, _pair_role(role)
            )
    except AppError as error:
        results["problem"], status = error.detail, error.status
        if token and status == 404:
            results["suggestions"] = _suggestions(reading, token)
            results["splits"] = splits.split(reading, _unescaped(token)).splits
    page = SearchPage(
        model=reading.run.model,
        run=run_ref(reading.run),
        token=token or "",
        text=text or "",
        **results,
    )
    return page, status


def _one_of(sorts: Any, sort: str | None) -> Any:
    """Check `sort` against `sorts` and return it. Raises Invalid."""
    if sort is not None and sort not in get_args(sorts):
        raise Invalid(f"These results do not sort by {sort}: use {', '.join(get_args(sorts))}.")
    return sort


def _pair_role(role: Role | None) -> PairRole | None:
    """`role`, if a match of a text can have it. Raises Invalid."""
    if role is None or role in ("query", "key"):
        return role
    raise Invalid(f"A text is not looked up as={role}: use query or key, or leave it out.")


def _suggestions(reading: Reading, token: str) -> list[Token]:
    """Tokens that begin with the typed text. `\\n` in it can also mean a line break, which the box
    cannot hold."""
    unescaped = _unescaped(token)
    suggestions = tokens.tokens_like(reading, token.strip(), COMPLETIONS)
    if unescaped != token:
        suggestions += tokens.tokens_like(reading, unescaped, COMPLETIONS)
    return suggestions[:COMPLETIONS]


def _unescaped(token: str) -> str:
    return token.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r")


def _addresses(page: SearchPage, run: int | None, cursor: str | None) -> tuple[str | None, str]:
    """The addresses of the results as JSON and of the page itself."""
    if page.tokens:
        query: dict[str, Any] = {
            "token_id": page.tokens.token_id,
            "role": page.tokens.role,
            "run": run,
        }
        by_default = tokens.default_sort(page.tokens.role), "desc"
        if (page.tokens.sort, page.tokens.order) != by_default:
            query |= {"sort": page.tokens.sort, "order": page.tokens.order}
        json_url = api_urls.token_neurons(page.run.name, cursor=cursor, **query)
        return json_url, urls.search(page.run.name, **query)
    if page.contexts:
        by = page.contexts.sort if page.contexts.sort != "specific" else None
        role = page.contexts.role
        json_url = api_urls.text(
            page.run.name, page.text, role=role, sort=by, cursor=cursor, run=run
        )
        return json_url, urls.search(page.run.name, text=page.text, role=role, sort=by, run=run)
    return None, urls.search(page.run.name, run=run)
