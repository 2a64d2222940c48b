"""The routes of notes on neurons: JSON, and a page whose form works without scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request, Response, Security
from fastapi.responses import RedirectResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from app.errors import AppError, Forbidden, Invalid, NotFound, Unauthorized
from app.notes import view as note_view
from app.notes.schemas import NewNote, Note, NoteList, NotesPage
from app.notes.service import Found, ServedNotes
from app.schemas import Error
from app.web import urls
from app.web.address import NeuronPlace
from app.web.forms import body_of, form_fields, json_as
from app.web.links import carried_run, carried_view
from app.web.params import (
    DEFAULT_LIMIT,
    ERRORS,
    USUAL_VIEW,
    Cursor,
    LayerIndex,
    Limit,
    NeuronIndex,
    Reading,
    RunId,
    View,
)
from app.web.site import NO_STORE, Site, json_of
from indexer.store.notes import Place

NOTES = 20
"""Notes that a neuron's page shows; all are on a page of their own."""

MOST_BODY = 1 << 16
"""The largest body, in bytes: the longest note fits, however it is spelled."""
EXAMPLE = '{"author": "…", "text": "…"}'
PATH = "/models/{model}/layers/{layer}/neurons/{neuron}/notes"


@dataclass(frozen=True, slots=True)
class Way:
    """How a page of notes was come to, and which one it is."""

    run: int | None
    view: Reading
    cursor: str | None = None


_bearer = HTTPBearer(
    scheme_name="notes_token",
    description="The server's NEURARIUM_NOTES_TOKEN.",
    auto_error=False,  # what is said of it is said in our shape
)
Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
NoteId = Annotated[int, Path(ge=1, le=2**63 - 1, description="The note's number.")]


def _error(description: str) -> dict[str, Any]:
    return {"model": Error, "description": description}


READ_ERRORS = ERRORS | {
    404: _error("There is no such neuron, or the server was started without --notes."),
}
DELETE_ERRORS: dict[int | str, dict[str, Any]] = {
    401: _error("No token came with it: send Authorization: Bearer TOKEN."),
    403: _error("The token is another than the server's."),
    404: _error("There is no such note, or the server was started without --notes."),
    422: ERRORS[422],
    503: _error("Somebody else is writing (see Retry-After), or the database does not answer."),
}
WRITE_ERRORS = DELETE_ERRORS | {
    404: READ_ERRORS[404],
    413: _error("What was sent is larger than any note."),
    422: _error("The note or its author line is empty, too long, or has characters not taken."),
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": NewNote.model_json_schema()}},
    }
}


def note_api(site: Site) -> APIRouter:
    """The JSON routes. They are there also where the server has no notes, and say so."""
    api = APIRouter(prefix="/api/v1", tags=["api"])

    @api.get("/notes", response_model=NoteList, responses=READ_ERRORS)
    def all_notes(
        request: Request, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
    ) -> Response:
        """All notes on all neurons, newest first, where the server runs with --notes."""
        return _list(site, request, None, limit, cursor)

    @api.get(PATH, response_model=NoteList, responses=READ_ERRORS)
    def of_neuron(
        request: Request,
        model: str,
        layer: LayerIndex,
        neuron: NeuronIndex,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Response:
        """The notes on a neuron, newest first, where the server runs with --notes."""
        served(site)
        site.queries.check_any(model, layer, neuron)
        return _list(site, request, Place(model, layer, neuron), limit, cursor)

    @api.post(
        PATH, status_code=201, response_model=Note, responses=WRITE_ERRORS, openapi_extra=_BODY
    )
    async def write(
        request: Request, model: str, layer: LayerIndex, neuron: NeuronIndex, bearer: Bearer
    ) -> Response:
        """Write a note on a neuron, with the server's token for notes."""
        _authorized(site, bearer)
        sent = json_as(NewNote, await _body(request), EXAMPLE)
        note = await run_in_threadpool(_write, site, Place(model, layer, neuron), sent)
        return _changed(note, 201)

    @api.delete(PATH + "/{note}", response_model=Note, responses=DELETE_ERRORS)
    def remove(
        model: str, layer: LayerIndex, neuron: NeuronIndex, note: NoteId, bearer: Bearer
    ) -> Response:
        """Delete a note on a neuron, whoever wrote it, with the server's token for notes: what it
        was."""
        return _changed(_authorized(site, bearer).remove(Place(model, layer, neuron), note))

    @api.get(PATH + "/{note}", include_in_schema=False)
    def only_delete() -> Response:
        """Notes are read together."""
        raise HTTPException(405, headers={"Allow": "DELETE"})

    return api


def note_pages(site: Site) -> APIRouter:
    """The page of a neuron's notes, to which the form is sent as well."""
    pages = APIRouter(include_in_schema=False)

    @pages.get("/{model}/{layer}/{neuron}/notes")
    def show(
        request: Request,
        model: str,
        layer: LayerIndex,
        neuron: NeuronIndex,
        run: RunId = None,
        view: View = USUAL_VIEW,
        cursor: Cursor = None,
    ) -> Response:
        """All notes on a neuron."""
        place = Place(model, layer, neuron)
        found = served(site).read(place, NOTES, cursor)

        def build() -> Response:
            site.queries.check(NeuronPlace(model, layer, neuron, run))
            return _page(site, place, Way(run, view, cursor), found)

        return site.answer(request, model, build, beside=[found.version])

    @pages.post("/{model}/{layer}/{neuron}/notes")
    async def change(
        request: Request,
        model: str,
        layer: LayerIndex,
        neuron: NeuronIndex,
        run: RunId = None,
        view: View = USUAL_VIEW,
    ) -> Response:
        """A note written or deleted, and back to the neuron; what cannot be done is said over the
        form, with what was typed still in it."""
        served(site)
        body = await _body(request)
        place, way = Place(model, layer, neuron), Way(run, view)
        return await run_in_threadpool(_sent, site, place, way, form_fields(body))

    return pages


def served(site: Site) -> ServedNotes:
    """The server's notes. Raises NotFound where it has none."""
    if site.notes is None:
        raise NotFound("There are no notes here: this server was started without --notes.")
    return site.notes


def _authorized(site: Site, bearer: HTTPAuthorizationCredentials | None) -> ServedNotes:
    notes = served(site)
    if bearer is None:
        raise Unauthorized("Notes need the server's token: send Authorization: Bearer TOKEN.")
    notes.check(bearer.credentials)
    return notes


async def _body(request: Request) -> bytes:
    return await body_of(request, MOST_BODY, "What was sent is larger than any note.")


def _changed(note: Note, status: int = 200) -> Response:
    response = json_of(note)
    response.status_code = status
    response.headers.update(NO_STORE)
    return response


def _list(
    site: Site, request: Request, place: Place | None, limit: int, cursor: str | None
) -> Response:
    found = served(site).read(place, limit, cursor)

    def build() -> Response:
        return json_of(NoteList(items=found.items, next=found.next))

    model = None if place is None else place.model
    return site.answer(request, model, build, beside=[found.version])


def _write(site: Site, place: Place, sent: NewNote) -> Note:
    site.queries.check_any(place.model, place.layer, place.neuron)
    return served(site).add(place, sent)


def _change(site: Site, place: Place, fields: dict[str, str]) -> None:
    """Do what a form asks for. Raises AppError."""
    notes = served(site)
    notes.check(fields.get("token", ""))
    if "delete" not in fields:
        notes.add(place, NewNote(author=fields.get("author", ""), text=fields.get("text", "")))
        return
    number = fields["delete"]
    if not (number.isascii() and number.isdecimal() and len(number) < 19):
        raise Invalid("The form names no note to delete.")
    notes.remove(place, int(number))


def _sent(site: Site, place: Place, way: Way, fields: dict[str, str]) -> Response:
    """What a form is answered with: back to the neuron, or what was wrong with it."""
    model, layer, neuron = place.model, place.layer, place.neuron
    site.queries.check(NeuronPlace(model, layer, neuron, way.run))
    try:
        _change(site, place, fields)
    except AppError as error:
        refusal = note_view.Refusal(
            problem=error.detail,
            author=fields.get("author", ""),
            text=fields.get("text", ""),
            wrong_token=isinstance(error, Forbidden),
        )
        found = served(site).read(place, NOTES)
        response = _page(site, place, way, found, refusal, error.status)
        response.headers.update(NO_STORE)
        response.headers.update(error.headers)
        return response
    kept, carried = carried_run(site, model, way.run), carried_view(way.view)
    target = urls.neuron(model, layer, neuron, run=kept, view=carried)
    return RedirectResponse(f"{target}#notes", 303, headers=NO_STORE)


def _page(
    site: Site,
    place: Place,
    way: Way,
    found: Found,
    refusal: note_view.Refusal | None = None,
    status: int = 200,
) -> Response:
    at = (place.model, place.layer, place.neuron)
    kept, carried = carried_run(site, place.model, way.run), carried_view(way.view)
    page = NotesPage(
        model=place.model,
        layer=place.layer,
        neuron=place.neuron,
        items=found.items,
        next=found.next,
        count=found.count,
    )
    action = urls.notes(*at, run=kept, view=carried)
    context: dict[str, Any] = {
        "notes": note_view.box(action, page.items, page.count, refusal),
        "cursor": way.cursor,
        "run_query": kept,
        "view_query": carried,
        "json_url": urls.api_notes(*at, cursor=way.cursor),
        "canonical": urls.notes(*at),
    }
    return site.html("notes/notes.html", page, status, **context)
