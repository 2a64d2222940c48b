"""The notes on a neuron, as a page with a form and as JSON: read, write, delete."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request, Response, Security
from fastapi.responses import RedirectResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from app.errors import AppError, Forbidden, Invalid, NotFound, Unauthorized
from app.neurons.panels import NotesPanel
from app.notes.names import label_of, named
from app.notes.schemas import NewNote, NoteList, NotesIndex, NotesPage
from app.notes.service import NotesRead, ServedNotes
from app.notes.view import NotesContext, NotesIndexContext, Refusal, box, index_rows
from app.schemas import DEFAULT_VIEW, NEWEST_NOTES, Error, Note, View
from app.sets import ModelSet
from app.web import api_urls, urls
from app.web.answers import listing
from app.web.forms import body_of, form_fields, json_as, json_body
from app.web.frame import Frame
from app.web.links import Links
from app.web.params import (
    DEFAULT_LIMIT,
    ERRORS,
    LISTS,
    Cursor,
    Fields,
    InSet,
    LayerIndex,
    Limit,
    NeuronIndex,
    RunId,
    ViewQuery,
)
from app.web.site import NO_STORE, Site, json_of, no_store, site_of
from indexer.store.notes import Place

api = APIRouter(prefix="/api/v1", tags=["api"])
pages = APIRouter(include_in_schema=False)

PER_PAGE = 20
"""Notes on each page of notes."""
MOST_BODY = 1 << 16
"""The largest body, in bytes: the longest note fits in every encoding."""
EXAMPLE = '{"author": "…", "text": "…"}'
PATH = "/models/{model}/layers/{layer}/neurons/{neuron}/notes"

_bearer = HTTPBearer(
    scheme_name="notes_token",
    description="The server's NEURARIUM_NOTES_TOKEN.",
    auto_error=False,  # FastAPI's own error would not be an `Error`
)
Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
NoteId = Annotated[int, Path(ge=1, le=2**63 - 1, description="The note's number.")]


def _error(description: str) -> dict[str, Any]:
    return {"model": Error, "description": description}


READ_ERRORS = (
    ERRORS
    | LISTS
    | {
        404: _error("There is no such neuron, or the server runs without --notes."),
    }
)
DELETE_ERRORS: dict[int | str, dict[str, Any]] = {
    401: _error("The request has no token: send Authorization: Bearer TOKEN."),
    403: _error("The token is not the server's, or its database is read-only."),
    404: _error("There is no such note, or the server runs without --notes."),
    422: ERRORS[422],
    503: _error("The database is busy (see Retry-After) or does not answer."),
}
WRITE_ERRORS = DELETE_ERRORS | {
    404: READ_ERRORS[404],
    413: _error("The request is larger than any note."),
    422: _error("The note or its author line is empty, is too long, or has a control character."),
}


@api.get("/notes", response_model=NoteList, responses=READ_ERRORS)
def all_notes(
    request: Request, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None, fields: Fields = None
) -> Response:
    """All notes on all neurons, newest first. The server has to run with --notes."""
    return _list(request, None, limit, cursor, fields)


@api.get("/models/{model}/notes", response_model=NotesIndex, responses=READ_ERRORS)
def of_model(
    request: Request,
    model: InSet,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    fields: Fields = None,
) -> Response:
    """The notes on all neurons of a model, newest first. The server has to run with --notes."""
    site = site_of(request)
    read = notes_of(request).read(str(model), limit, cursor)
    if unchanged := site.unchanged(request, model, beside=[read.version]):
        return unchanged
    site.store.check_model(model)
    return listing(request, _index(str(model), named(site.store, read)), fields)


@api.get(PATH, response_model=NoteList, responses=READ_ERRORS)
def of_neuron(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    neuron: NeuronIndex,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    fields: Fields = None,
) -> Response:
    """The notes on a neuron, newest first. The server has to run with --notes."""
    notes_of(request)
    site_of(request).store.check_neuron_of_any_run(model, layer, neuron)
    return _list(request, Place(str(model), layer, neuron), limit, cursor, fields)


@api.post(
    PATH,
    status_code=201,
    response_model=Note,
    responses=WRITE_ERRORS,
    openapi_extra=json_body(NewNote),
)
async def write(
    request: Request, model: InSet, layer: LayerIndex, neuron: NeuronIndex, bearer: Bearer
) -> Response:
    """Write a note on a neuron, with the server's token for notes."""
    _authorized(request, bearer)
    note = json_as(NewNote, await _body(request), EXAMPLE)
    place = Place(str(model), layer, neuron)
    return no_store(json_of(await run_in_threadpool(_write, request, place, note), 201))


@api.delete(PATH + "/{note}", response_model=Note, responses=DELETE_ERRORS)
def remove(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    neuron: NeuronIndex,
    note: NoteId,
    bearer: Bearer,
) -> Response:
    """Delete a note on a neuron, with the server's token for notes, and return it."""
    notes = _authorized(request, bearer)
    return no_store(json_of(notes.remove(Place(str(model), layer, neuron), note)))


@api.get(PATH + "/{note}", include_in_schema=False)
def only_delete() -> Response:
    """Refuse GET, since notes are not read one by one."""
    raise HTTPException(405, headers={"Allow": "DELETE"})


@pages.get("/notes")
def index_page(request: Request, cursor: Cursor = None) -> Response:
    """All notes on all neurons, newest first."""
    return _index_page(request, None, None, cursor)


@pages.get("/{model}/notes")
def model_index_page(
    request: Request, model: InSet, run: RunId = None, cursor: Cursor = None
) -> Response:
    """The notes on all neurons of a model, newest first."""
    return _index_page(request, model, run, cursor)


@pages.get("/{model}/{layer}/{neuron}/notes")
def notes_page(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    neuron: NeuronIndex,
    run: RunId = None,
    view: ViewQuery = DEFAULT_VIEW,
    cursor: Cursor = None,
) -> Response:
    """All notes on a neuron."""
    site, place = site_of(request), Place(str(model), layer, neuron)
    read = notes_of(request).read(place, PER_PAGE, cursor)
    if unchanged := site.unchanged(request, model, beside=[read.version]):
        return unchanged
    label = label_of(site.store, place, run)
    links = site.links(model, run, view)
    return _page(site, request, place, label, links, read, cursor=cursor)


@pages.post("/{model}/{layer}/{neuron}/notes")
async def change(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    neuron: NeuronIndex,
    run: RunId = None,
    view: ViewQuery = DEFAULT_VIEW,
) -> Response:
    """Write or delete a note and redirect to the neuron. If that fails, the form again, with the
    reason and the typed text."""
    notes_of(request)
    fields = form_fields(await _body(request))
    place = Place(str(model), layer, neuron)
    return await run_in_threadpool(_submit, request, place, run, view, fields)


def notes_of(request: Request) -> ServedNotes:
    """The server's notes. Raises NotFound if it has none."""
    notes: ServedNotes | None = request.app.state.notes
    if notes is None:
        raise NotFound("This server has no notes, because it was started without --notes.")
    return notes


def panel(notes: ServedNotes, model: ModelSet, layer: int, neuron: int) -> NotesPanel:
    """The newest notes for a neuron's page."""
    read = notes.read(Place(str(model), layer, neuron), NEWEST_NOTES)
    return NotesPanel(
        read.version,
        read.items,
        lambda links: box(links.notes(layer, neuron), read.items, read.count, notes.writable),
    )


def _authorized(request: Request, bearer: HTTPAuthorizationCredentials | None) -> ServedNotes:
    notes = notes_of(request)
    if bearer is None:
        raise Unauthorized("Notes need the server's token: send Authorization: Bearer TOKEN.")
    notes.check(bearer.credentials)
    return notes


async def _body(request: Request) -> bytes:
    return await body_of(request, MOST_BODY, "The request is larger than any note.")


def _index(model: str | None, read: NotesRead) -> NotesIndex:
    return NotesIndex(model=model, items=read.items, count=read.count, next=read.next)


def _index_page(
    request: Request, model: ModelSet | None, run: int | None, cursor: str | None
) -> Response:
    site = site_of(request)
    name = None if model is None else str(model)
    read = notes_of(request).read(name, PER_PAGE, cursor)
    if unchanged := site.unchanged(request, model, beside=[read.version]):
        return unchanged
    if model is None:
        links, json_url = None, api_urls.all_notes(cursor=cursor)
    else:
        site.store.check_model(model)
        links, json_url = site.links(model, run), api_urls.model_notes(model, cursor=cursor)
    frame = Frame(links, json_url=json_url, canonical=urls.all_notes(model))
    read = named(site.store, read)
    rows = index_rows(read.items, of_model=model is not None)
    context = NotesIndexContext(frame, _index(name, read), rows, cursor)
    return site.html(request, "notes/index.html", context)


def _list(
    request: Request, place: Place | None, limit: int, cursor: str | None, fields: str | None
) -> Response:
    site = site_of(request)
    read = notes_of(request).read(place, limit, cursor)
    model = None if place is None else ModelSet.parse(place.model)
    if unchanged := site.unchanged(request, model, beside=[read.version]):
        return unchanged
    page = NoteList(items=named(site.store, read).items, next=read.next)
    return listing(request, page, fields)


def _write(request: Request, place: Place, note: NewNote) -> Note:
    site_of(request).store.check_neuron_of_any_run(
        ModelSet.parse(place.model), place.layer, place.neuron
    )
    return notes_of(request).add(place, note)


def _submit(
    request: Request, place: Place, run: int | None, view: View, fields: dict[str, str]
) -> Response:
    """The answer to a form: a redirect to the neuron, or the form with what is wrong."""
    site = site_of(request)
    model = ModelSet.parse(place.model)
    label = label_of(site.store, place, run)
    links = site.links(model, run, view)
    try:
        _change(notes_of(request), place, fields)
    except AppError as error:
        refusal = Refusal(
            problem=error.detail,
            author=fields.get("author", ""),
            text=fields.get("text", ""),
            wrong_token=isinstance(error, Forbidden),
        )
        read = notes_of(request).read(place, PER_PAGE)
        response = _page(site, request, place, label, links, read, refusal, error.status)
        response.headers.update(error.headers)
        return no_store(response)
    target = links.neuron(place.layer, place.neuron)
    return RedirectResponse(f"{target}#notes", 303, headers=NO_STORE)


def _change(notes: ServedNotes, place: Place, fields: dict[str, str]) -> None:
    """Write or delete the note in a form. Raises AppError."""
    notes.check(fields.get("token", ""))
    if "delete" not in fields:
        notes.add(place, NewNote(author=fields.get("author", ""), text=fields.get("text", "")))
        return
    number = fields["delete"]
    if not (number.isascii() and number.isdecimal() and len(number) < 19):
        raise Invalid("The form names no note to delete.")
    notes.remove(place, int(number))


def _page(
    site: Site,
    request: Request,
    place: Place,
    label: str,
    links: Links,
    read: NotesRead,
    refusal: Refusal | None = None,
    status: int = 200,
    cursor: str | None = None,
) -> Response:
    at = (ModelSet.parse(place.model), place.layer, place.neuron)
    page = NotesPage(
        model=place.model,
        layer=place.layer,
        neuron=place.neuron,
        items=read.items,
        next=read.next,
        count=read.count,
    )
    frame = Frame(links, json_url=api_urls.notes(*at, cursor=cursor), canonical=urls.notes(*at))
    form = box(
        links.notes(place.layer, place.neuron),
        page.items,
        page.count,
        notes_of(request).writable,
        refusal,
    )
    context = NotesContext(frame, page, label, form, cursor)
    return site.html(request, "notes/notes.html", context, status)
