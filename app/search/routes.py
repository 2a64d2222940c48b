"""The routes of the search by token and by text, and of a context with its neurons: pages, JSON."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from app.contexts import queries as context_query
from app.contexts.schemas import ContextNeurons
from app.contexts.view import context as view_of_context
from app.contexts.view import examples
from app.errors import AppError, Invalid
from app.reading.runs import run_ref
from app.reading.store import Reading
from app.schemas import RunRef, Schema
from app.search import tokens as token_query
from app.search import view as search_view
from app.search.schemas import Role, TextSearch, Token, TokenList, TokenSearch
from app.search.texts import search
from app.web import urls
from app.web.links import carried_run
from app.web.params import ERRORS, Cursor, Limit, RunId
from app.web.site import Site, json_of

TOKENS, CONTEXTS, NEURONS = 50, 20, 100
"""Items a page where none are asked for: neurons of a token, contexts of a text, neurons of one."""
COMPLETIONS = 20

TokenText = Annotated[
    str | None, Query(alias="token", max_length=10_000, description="Its exact text.")
]
TokenId = Annotated[int | None, Query(ge=0, le=2**31 - 1, description="Instead of its text.")]
As = Annotated[
    Role | None,
    Query(
        alias="as",
        description="`peak`: neurons whose top examples peak on it; `promoted`, `suppressed`: by "
        "logit effects; `in`, `gate`: by what its embedding puts into that part.",
    ),
]
Text = Annotated[
    str,
    Query(max_length=2_000, description='Words, "a phrase", the beginning of a word*.'),
]
ContextsAtOnce = Annotated[int, Query(ge=1, le=100, description="Items at most.")]
ContextId = Annotated[int, Path(ge=0, le=2**63 - 1, description="In corpus order.")]
At = Annotated[int | None, Query(ge=0, le=2**31 - 1, description="A position: its neurons alone.")]


class SearchPage(Schema):
    """The page of both searches: what was asked, and what came of it."""

    model: str
    run: RunRef
    layers: int
    token: str
    text: str
    problem: str | None
    suggestions: list[Token]
    tokens: TokenSearch | None
    contexts: TextSearch | None


def search_router(site: Site) -> APIRouter:
    """The routes. They come before those of layers, whose place in the address they share."""
    routes = APIRouter()
    _add_api(routes, site)
    _add_pages(routes, site)
    return routes


def _add_api(routes: APIRouter, site: Site) -> None:
    base: dict[str, Any] = {"responses": ERRORS, "tags": ["api"]}

    @routes.get("/api/v1/models/{model}/tokens", response_model=TokenList, **base)
    def tokens(
        request: Request,
        model: str,
        prefix: Annotated[str, Query(min_length=1, max_length=1_000)],
        run: RunId = None,
        limit: Limit = COMPLETIONS,
    ) -> Response:
        """Tokens of a model that begin with a text, or with a space and it."""

        def build() -> Response:
            with site.queries.reading(model, run) as reading:
                return json_of(TokenList(items=token_query.tokens_like(reading, prefix, limit)))

        return site.answer(request, model, build)

    @routes.get("/api/v1/models/{model}/search/token", response_model=TokenSearch, **base)
    def by_token(
        request: Request,
        model: str,
        token: TokenText = None,
        token_id: TokenId = None,
        role: As = None,
        run: RunId = None,
        limit: Limit = TOKENS,
        cursor: Cursor = None,
    ) -> Response:
        """The neurons that fire most on a token, promote it, suppress it, or are excited by it."""

        def build() -> Response:
            with site.queries.reading(model, run) as reading:
                found = _token(reading, token, token_id)
                return json_of(token_query.search(reading, found, role, limit, cursor))

        return site.answer(request, model, build)

    @routes.get("/api/v1/models/{model}/search/text", response_model=TextSearch, **base)
    def by_text(
        request: Request,
        model: str,
        q: Text,
        run: RunId = None,
        limit: ContextsAtOnce = CONTEXTS,
        cursor: Cursor = None,
    ) -> Response:
        """The contexts kept of a model that have some words, each with neurons that peak in it."""

        def build() -> Response:
            with site.queries.reading(model, run) as reading:
                return json_of(search(reading, q, limit, cursor))

        return site.answer(request, model, build)

    @routes.get("/api/v1/models/{model}/contexts/{context}", response_model=ContextNeurons, **base)
    def of_context(
        request: Request,
        model: str,
        context: ContextId,
        at: At = None,
        run: RunId = None,
        limit: Limit = NEURONS,
        cursor: Cursor = None,
    ) -> Response:
        """One context and every neuron of whose examples it is one, the random ones apart."""

        def build() -> Response:
            with site.queries.reading(model, run) as reading:
                return json_of(context_query.context(reading, context, at, limit, cursor))

        return site.answer(request, model, build)


def _add_pages(routes: APIRouter, site: Site) -> None:
    @routes.get("/{model}/search", include_in_schema=False)
    def search(
        request: Request,
        model: str,
        token: TokenText = None,
        token_id: TokenId = None,
        role: As = None,
        text: Annotated[str | None, Query(max_length=2_000)] = None,
        run: RunId = None,
        cursor: Cursor = None,
    ) -> Response:
        """The boxes, and what was found."""

        def build() -> Response:
            carried = carried_run(site, model, run)
            with site.queries.reading(model, run) as reading:
                page, status = _searched(reading, token, token_id, role, text, cursor)
            links = _links(page, run, cursor)
            context: dict[str, Any] = {
                "run_query": carried,
                "cursor": cursor,
                "view": search_view.search(page.tokens),
                "examples": examples,
                "live": site.live is not None,
            }
            return site.html("search/search.html", page, status, **context, **links)

        return site.answer(request, model, build)

    @routes.get("/{model}/contexts/{context}", include_in_schema=False)
    def of_context(
        request: Request,
        model: str,
        context: ContextId,
        at: At = None,
        run: RunId = None,
        cursor: Cursor = None,
    ) -> Response:
        """A context with its neurons."""

        def build() -> Response:
            carried = carried_run(site, model, run)
            with site.queries.reading(model, run) as reading:
                page = context_query.context(reading, context, at, NEURONS, cursor)
            links: dict[str, Any] = {
                "json_url": urls.api_context_neurons(model, context, at=at, cursor=cursor, run=run),
                "canonical": urls.context_neurons(model, context, run=run),
            }
            view = view_of_context(page, carried)
            more: dict[str, Any] = {"run_query": carried, "cursor": cursor, "view": view}
            return site.html("contexts/context.html", page, **more, **links)

        return site.answer(request, model, build)


def _token(reading: Reading, token: str | None, token_id: int | None) -> int:
    """The token asked for, by its text or its id. Raises NotFound, Invalid."""
    if token and token_id is not None:
        raise Invalid("`token` and `token_id` both name a token: give one of them.")
    return token_query.token_of(reading, token, token_id)


def _searched(
    reading: Reading,
    token: str | None,
    token_id: int | None,
    role: Role | None,
    text: str | None,
    cursor: str | None,
) -> tuple[SearchPage, int]:
    """The page and its status: what cannot be found is said beside the box it was typed in."""
    found: dict[str, Any] = {"tokens": None, "contexts": None, "problem": None, "suggestions": []}
    status = 200
    try:
        if text and (token or token_id is not None):
            raise Invalid("A token and a text are two searches: leave one of them out.")
        if token or token_id is not None:
            which = _token(reading, token, token_id)
            found["tokens"] = token_query.search(reading, which, role, TOKENS, cursor)
            token = reading.vocabulary[which]
        elif text:
            found["contexts"] = search(reading, text, CONTEXTS, cursor)
    except AppError as error:
        found["problem"], status = error.detail, error.status
        if token and status == 404:
            found["suggestions"] = _suggested(reading, token)
    page = SearchPage(
        model=reading.run.model,
        run=run_ref(reading.run),
        layers=len(reading.run.widths),
        token=token or "",
        text=text or "",
        **found,
    )
    return page, status


def _suggested(reading: Reading, token: str) -> list[Token]:
    """Tokens that begin as what was typed; with `\\n` for a line break, which no box holds, too."""
    broken = token.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r")
    found = token_query.tokens_like(reading, token.strip(), COMPLETIONS)
    if broken != token:
        found += token_query.tokens_like(reading, broken, COMPLETIONS)
    return found[:COMPLETIONS]


def _links(page: SearchPage, run: int | None, cursor: str | None) -> dict[str, Any]:
    """Where the same is as JSON, and the page's own address."""
    if page.tokens:
        one: dict[str, Any] = {
            "token_id": page.tokens.token_id,
            "role": page.tokens.role,
            "run": run,
        }
        return {
            "json_url": urls.api_token_neurons(page.model, cursor=cursor, **one),
            "canonical": urls.search(page.model, **one),
        }
    if page.contexts:
        return {
            "json_url": urls.api_text(page.model, page.text, cursor=cursor, run=run),
            "canonical": urls.search(page.model, text=page.text, run=run),
        }
    return {"json_url": None, "canonical": urls.search(page.model, run=run)}
