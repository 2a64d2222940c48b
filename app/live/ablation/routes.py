"""Neurons ablated at chosen tokens of a custom text, as JSON and as a page with a form."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from app.errors import AppError, Invalid
from app.live.ablation.answer import answer
from app.live.ablation.schemas import AblatedNeuron, AblationAnswer, AblationText
from app.live.ablation.view import AblationContext, Result, Typed, result
from app.live.elsewhere import Elsewhere
from app.live.engine import Live
from app.live.gate import ERRORS, live_of, only_post
from app.reading.neurons import rows_of
from app.reading.runs import whole_run
from app.reading.unit_names import name_at
from app.runs.queries import run as read_run
from app.schemas import MOST_ABLATED, NeuronRef, Run, WholeRun
from app.sets import ModelSet
from app.web import address
from app.web.forms import MOST_BODY, checked, form_lists, json_as, json_body
from app.web.frame import Frame
from app.web.params import InSet, RunId
from app.web.site import Site, json_of, no_store, site_of

router = APIRouter()

PATH = "/api/v1/models/{model}/ablation"
_EXAMPLE = '{"text": "…", "neurons": [{"layer": 3, "neuron": 45}]}'
_MOST_FIELDS = 10_000
"""The most fields of the form, which has one a token."""
_CHANGED = "The text has changed since tokens were ticked: all of its tokens are ablated."

Neurons = Annotated[str, Query(max_length=2000)]
"""The neurons to put into the form: `1/10,1/349`."""


@router.post(
    PATH,
    response_model=AblationAnswer,
    responses=ERRORS,
    openapi_extra=json_body(AblationText),
    tags=["api"],
)
async def ablation(request: Request, model: InSet, run: RunId = None) -> Response:
    """Several neurons zero- and mean-ablated together at chosen positions of a custom text: every
    token's loss, every prediction's divergence. The server has to run with --live."""
    live, site = live_of(request), site_of(request)
    async with live.places.body(request, MOST_BODY) as body:
        if isinstance(live, Elsewhere):
            return await live.ask(request, body)
        sent = json_as(AblationText, body, _EXAMPLE)
        run_of_model, neurons = await run_in_threadpool(_read, site, model, run, sent.neurons)
        text = checked(sent.text)
        return no_store(json_of(await _answer(live, run_of_model, neurons, text, sent.positions)))


router.add_api_route(PATH, only_post, include_in_schema=False)


@router.api_route("/{model}/ablation", methods=["GET", "POST"], include_in_schema=False)
async def ablation_page(
    request: Request, model: InSet, run: RunId = None, n: Neurons = ""
) -> Response:
    """The form and its result; `n` fills in the neurons."""
    live, site = live_of(request), site_of(request)
    if request.method != "POST":
        form = partial(_form, typed=Typed(neurons=n))
        return await run_in_threadpool(form, request, model, run, live.tokens)
    async with live.places.body(request, 2 * MOST_BODY) as body:
        if isinstance(live, Elsewhere):
            return await live.ask(request, body)
        page = await run_in_threadpool(_page_of, site, model, run)
        typed, shown, error = Typed(neurons=n), None, None
        try:
            typed = _typed(form_lists(body, _MOST_FIELDS))
            text = checked(typed.text)
            of, notes = _hash(text), []
            at: Sequence[int] | None = typed.at or None
            if at and typed.of != of:
                at, notes = None, [_CHANGED]
            wanted = _named(typed.neurons, page.run.units.noun)
            run_of_model, neurons = await run_in_threadpool(_read, site, model, run, wanted)
            reply = await _answer(live, run_of_model, neurons, text, at)
            links = site.links(model, run)
            shown = await run_in_threadpool(result, reply, links, typed, of, notes)
        except AppError as failure:
            error = failure
        form = partial(_form, typed=typed, error=error, shown=shown)
        return await run_in_threadpool(form, request, model, run, live.tokens)


def _form(
    request: Request,
    model: ModelSet,
    run: int | None,
    tokens: int,
    *,
    typed: Typed,
    error: AppError | None = None,
    shown: Result | None = None,
) -> Response:
    """The page with the form, for texts of at most `tokens` tokens, and an answer or an error."""
    site = site_of(request)
    context = AblationContext(
        frame=Frame(site.links(model, run)),
        page=_page_of(site, model, run),
        layers=len(site.store.layers_with_units(model, run)),
        typed=typed,
        problem=None if error is None else error.detail,
        result=shown,
        most=tokens,
    )
    response = site.html(request, "live/ablation.html", context)
    return no_store(response, error=error)


def _page_of(site: Site, model: ModelSet, run: int | None) -> WholeRun:
    with site.store.reading(model, run) as reading:
        return whole_run(reading.run)


def _read(
    site: Site, model: ModelSet, run: int | None, neurons: Sequence[NeuronRef]
) -> tuple[Run, list[AblatedNeuron]]:
    """The run, and the neurons with their means. Raises NotFound."""
    with site.store.reading(model, run) as reading:
        places = dict.fromkeys((one.layer, one.neuron) for one in neurons)
        indices = [reading.index_of(layer, neuron) for layer, neuron in places]
        rows = rows_of(reading, indices)
        ablated = [
            AblatedNeuron(
                layer=layer,
                neuron=neuron,
                name=name_at(reading, layer, neuron),
                mean=rows[index].mean,
            )
            for (layer, neuron), index in zip(places, indices, strict=True)
        ]
        run_id = reading.run.id
    return read_run(site.store, run_id), ablated


async def _answer(
    live: Live,
    run: Run,
    neurons: Sequence[AblatedNeuron],
    text: str,
    positions: Sequence[int] | None,
) -> AblationAnswer:
    return await live.with_model(
        run, lambda ready: answer(ready, run, neurons, text, positions, live.tokens)
    )


def _typed(fields: dict[str, list[str]]) -> Typed:
    """The fields of the form. Raises Invalid."""
    at = fields.get("at", [])
    wrong = next((value for value in at if not (value.isascii() and value.isdecimal())), None)
    if wrong is not None:
        raise Invalid("A ticked token has to have a number for its position.")

    def first(name: str) -> str:
        return fields.get(name, [""])[0]

    return Typed(
        text=first("text"),
        neurons=first("neurons"),
        at=tuple(int(value[:9]) for value in at),
        of=first("of"),
    )


def _named(text: str, noun: str) -> list[NeuronRef]:
    """The neurons in the form. Raises Invalid."""
    parts = [part for part in text.replace("\n", ",").split(",") if part.strip()]
    if not parts:
        raise Invalid(f"No {noun} is named: write some as LAYER/{noun.upper()}, such as 0/5, 1/12.")
    if len(parts) > MOST_ABLATED:
        raise Invalid(f"At most {MOST_ABLATED} {noun}s can be ablated together: name fewer.")
    refs = []
    for part in parts:
        parsed = address.parse(part)
        if parsed is None or parsed.model or parsed.layer is None or parsed.neuron is None:
            raise Invalid(
                f"“{part.strip()[:40]}” is not a {noun} of this model: write LAYER/{noun.upper()}, "
                "such as 0/5."
            )
        refs.append(NeuronRef(layer=parsed.layer, neuron=parsed.neuron))
    return refs


def _hash(text: str) -> str:
    """Tells whether positions belong to a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
