"""Steers a visitor's text with units, by the model of their run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.errors import Invalid, TooLarge
from app.live.models import Ready
from app.live.steering.schemas import Generated, SteeredUnit, SteeringAnswer, SteeringText
from app.live.text import note_of, texts_of, tokenised
from app.neurons.schemas import NeuronPage
from app.schemas import Run

Place = tuple[int, int]
"""A layer and a unit of it."""


@dataclass(frozen=True)
class Steerable:
    """What the store knows of a unit that a text is steered with."""

    largest: float
    """Its largest magnitude over the corpus."""
    name: str | None
    """Its name in its dictionary's file."""


def answer(
    ready: Ready,
    run: Run,
    page: NeuronPage,
    known: Mapping[Place, Steerable],
    sent: SteeringText,
    most: int,
) -> SteeringAnswer:
    """What a model of `run` writes after a text of at most `most` tokens, with and without the unit
    of `page` and those of `sent.also`; `known` has what the store knows of them.

    Raises Invalid, TooLarge, NeurariumError.
    """
    from indexer.interventions.steer import Push, steer

    token_ids, first = tokenised(ready, run, sent.text, most)
    positions = _positions(sent.positions, first, len(token_ids))
    room = (ready.model.layout.max_context or len(token_ids) + sent.new_tokens) - len(token_ids)
    if room < 1:
        raise TooLarge("The text fills the model's context: nothing can be generated after it.")
    chosen = [(page.layer, page.neuron, sent.strength)]
    chosen += [(unit.layer, unit.neuron, unit.strength) for unit in sent.also]
    units = [
        SteeredUnit(
            layer=layer,
            neuron=unit,
            name=known[layer, unit].name,
            strength=strength,
            activation=strength * known[layer, unit].largest,
        )
        for layer, unit, strength in chosen
    ]
    made = steer(
        ready.model,
        [Push(unit.layer, unit.neuron, unit.activation) for unit in units],
        token_ids,
        positions=frozenset(positions),
        generated=sent.generated,
        new_tokens=min(room, sent.new_tokens),
        seed=sent.seed,
        temperature=sent.temperature,
    )
    begin = min(positions, default=len(token_ids) - 1)
    counted = made.divergences[begin:]
    return SteeringAnswer(
        model=page.model,
        run=run.id,
        dtype=run.dtype,
        units=units,
        tokens=texts_of(ready, run, token_ids, first),
        token_ids=token_ids,
        positions=positions,
        plain=_generated(ready, made.plain),
        steered=_generated(ready, made.steered),
        divergences=list(made.divergences),
        mean_divergence=sum(counted) / len(counted),
        note=note_of(run.dtype),
    )


def _positions(asked: list[int] | None, first: int, length: int) -> list[int]:
    """The positions to steer at, in order. Raises Invalid for one outside the text."""
    if asked is None:
        return list(range(first, length))
    for position in asked:
        if not -length <= position < length:
            raise Invalid(
                f"The text has no position {position}: it has {length} tokens, so positions are 0 "
                f"to {length - 1}, or −1 to −{length} from the end."
            )
    return sorted({position % length for position in asked})


def _generated(ready: Ready, token_ids: tuple[int, ...]) -> Generated:
    whole = b"".join(ready.vocabulary[token_id] for token_id in token_ids)
    return Generated(
        text=whole.decode("utf-8", "replace"),
        tokens=list(map(ready.text, token_ids)),
        token_ids=list(token_ids),
    )
