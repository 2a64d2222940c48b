"""HTML routes of one neuron: its page, its sources' examples, its whole contexts."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, Request, Response

from app.examples.lines import REACH
from app.live.neuron import view as live_view
from app.neurons import view as present
from app.notes import view as note_view
from app.notes.routes import NOTES
from app.titles import ALL, Titles
from app.web import urls
from app.web.links import carried_run, carried_view, links_of
from app.web.params import (
    READINGS,
    USUAL_VIEW,
    ContextId,
    Embed,
    LayerIndex,
    NeuronIndex,
    RunId,
    View,
)
from app.web.site import Site
from indexer.store.notes import Place

_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d+)?")


def router(site: Site) -> APIRouter:
    """The routes below a model's layer. Included after those of `models`, whose words win."""
    pages = APIRouter(include_in_schema=False)
    queries = site.queries

    @pages.get("/{model}/{layer}/{neuron}")
    def neuron(
        request: Request,
        model: str,
        layer: LayerIndex,
        neuron: NeuronIndex,
        run: RunId = None,
        view: View = USUAL_VIEW,
        embed: Embed = None,
        titles: Titles = None,
    ) -> Response:
        """A neuron."""
        bare = site.bare(embed)
        notes = None
        if site.notes is not None and not bare:
            notes = site.notes.read(Place(model, layer, neuron), NOTES)

        def build() -> Response:
            page = queries.neuron(model, layer, neuron, run, REACH[view])
            kept, way = carried_run(site, model, run), carried_view(view)
            contexts = urls.contexts(model, layer, neuron, run=kept, view=way)
            others = urls.neurons(model, run=kept, view=way)
            find = urls.tokens(model, run=kept)
            shown = present.neuron(page, view, contexts, others, find, titled=titles is not None)
            live = None
            if site.live is not None and not bare:
                live = live_view.box(page, site.live.tokens, kept)
            written = None
            if notes is not None:
                action = urls.notes(model, layer, neuron, run=kept, view=way)
                written = note_view.box(action, notes.items, notes.count)
            links = links_of(urls.api_neuron, urls.neuron, run, model, layer, neuron)
            context = _context(kept, way) | {"live": live, "notes": written}
            place = (model, layer, neuron)
            titled = None if titles else urls.neuron(*place, run=kept, view=way, titles=ALL)
            context |= _laid_out(view, titled) | {"origin": _origin(request)}
            return site.html(
                "neurons/neuron.html", page, view=shown, embed=bare, **context, **links
            )

        beside = [notes.version] if notes is not None else []
        return site.answer(request, model, build, bare=bare, beside=beside)

    @pages.get("/{model}/{layer}/{neuron}/sources")
    def sources(
        request: Request,
        model: str,
        layer: LayerIndex,
        neuron: NeuronIndex,
        run: RunId = None,
        view: View = USUAL_VIEW,
        titles: Titles = None,
    ) -> Response:
        """A neuron's examples within each source of the corpus."""

        def build() -> Response:
            page = queries.neuron(model, layer, neuron, run, REACH[view])
            kept, way = carried_run(site, model, run), carried_view(view)
            contexts = urls.contexts(model, layer, neuron, run=kept, view=way)
            shown = present.sources(page, view, contexts, titled=titles is not None)
            links = links_of(urls.api_neuron, urls.sources, run, model, layer, neuron)
            place = (model, layer, neuron)
            titled = None if titles else urls.sources(*place, run=kept, view=way, titles=ALL)
            context = _context(kept, way) | _laid_out(view, titled)
            return site.html("neurons/sources.html", page, view=shown, **context, **links)

        return site.answer(request, model, build)

    @pages.get("/{model}/{layer}/{neuron}/contexts/{context}")
    def context(
        request: Request,
        model: str,
        layer: LayerIndex,
        neuron: NeuronIndex,
        context: ContextId,
        run: RunId = None,
        view: View = USUAL_VIEW,
    ) -> Response:
        """A whole context that is an example of a neuron."""

        def build() -> Response:
            page = queries.context(model, layer, neuron, context, run)
            kept, way = carried_run(site, model, run), carried_view(view)
            place = (model, layer, neuron, context)
            links = links_of(urls.api_context, urls.context, run, *place)
            shown = present.context(page)
            return site.html(
                "neurons/context.html", page, view=shown, **_context(kept, way), **links
            )

        return site.answer(request, model, build)

    return pages


def _context(run: int | None, view: str | None) -> dict[str, Any]:
    """What links of a page go on naming, as templates know it."""
    return {"run_query": run, "view_query": view}


def _laid_out(view: View, titled: str | None) -> dict[str, Any]:
    """How a page's examples are laid out, and where they have whole titles, as a whole context's
    tokens have anyway."""
    return {
        "reading": view,
        "readings": READINGS,
        "all_titles": None if view == "context" else titled,
    }


def _origin(request: Request) -> str:
    """Scheme and host that this page was asked for at; empty where the visitor's are none."""
    host = request.headers.get("host", "")
    return f"{request.url.scheme}://{host}" if _HOST.fullmatch(host) else ""
