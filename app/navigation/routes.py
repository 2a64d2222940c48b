"""/go: from what a reader typed to the page it names. /help: keys, colours and words in short."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from app.navigation.find import place
from app.schemas import Schema
from app.web import urls
from app.web.links import carried_view
from app.web.params import USUAL_VIEW, Reading, RunId, View
from app.web.site import NO_STORE, Site


class Help(Schema):
    """The page of help, all of whose text is its template's."""


def going_router(site: Site) -> APIRouter:
    """The routes of the go-to box and of the help."""
    going = APIRouter(include_in_schema=False)

    @going.get("/go")
    def go(
        to: str = "",
        model: str | None = None,
        run: RunId = None,
        view: Annotated[Reading | None, Query()] = None,
    ) -> Response:
        """The page of what was typed; `model`, `run` and `view` are those of the page it was
        typed on."""
        target = place(site.queries, to, model, run, view)
        return RedirectResponse(target, 307, headers=NO_STORE)

    @going.get("/help")
    def show(request: Request) -> Response:
        """Keys, colours and words in short."""

        def build() -> Response:
            return site.html("navigation/help.html", Help(), canonical=urls.help_page())

        return site.answer(request, None, build)

    return going


def to_random(
    site: Site, model: str | None, layer: int | None, run: int | None, view: View = USUAL_VIEW
) -> Response:
    name, place = site.queries.random(model, layer, run)
    target = urls.neuron_ref(name, place, run=run, view=carried_view(view))
    return RedirectResponse(target, 307, headers=NO_STORE)
