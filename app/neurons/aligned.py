"""What a page says of a latent's dictionary, and of units of other sets that write alike."""

from __future__ import annotations

from dataclasses import dataclass

from app.drawing.characters import chip
from app.drawing.numbers import number, share
from app.drawing.tables import LinkRow, link_rows
from app.neurons.schemas import DictionaryQuality, NeuronPage
from app.neurons.weights import LinkTable, signed
from app.sets import name_of
from app.web.links import Links
from indexer.store.units import NEURONS


@dataclass(frozen=True, slots=True)
class Fact:
    """A number with its label."""

    label: str
    value: str
    note: str = ""


def aligned_table(page: NeuronPage, links: Links) -> LinkTable | None:
    """The units of other sets that write alike; None where there can be none."""
    is_latent = page.dictionary is not None
    if not page.aligned and not is_latent:
        return None
    rows = [
        LinkRow(
            href=links.in_set(name_of(page.model, unit.set)).neuron(unit.layer, unit.neuron),
            name=f"{unit.layer}/{unit.neuron}"
            if unit.set == NEURONS
            else f"{unit.set}/{unit.layer}/{unit.neuron}",
            value=signed(unit.value),
            part="",
            token=chip(unit.peak_token),
            called=unit.name,
        )
        for unit in page.aligned
    ]
    nouns = sorted({f"{unit.noun}s" for unit in page.aligned})
    return LinkTable(
        "Aligned neurons" if is_latent else f"Aligned {' and '.join(nouns)}",
        "MLP neurons of the whole model with the most similar output weights."
        if is_latent
        else "Those whose decoder vectors are most similar to its output weights.",
        "cosine",
        rows,
        link_rows(rows, "none: the model’s neurons are not indexed here"),
        "neuron" if is_latent else nouns[0].removesuffix("s"),
    )


def dictionary_lines(page: NeuronPage) -> list[Fact]:
    """A latent's threshold and its dictionary's quality, with the declared values."""
    own = page.dictionary
    if own is None:
        return []
    facts = [
        Fact(
            "Activation function",
            own.activation if own.k is None else f"{own.activation}, k = {own.k}",
        )
    ]
    if own.threshold is not None:
        facts.append(Fact("Threshold", number(own.threshold), f"of this {page.run.units.noun}"))
    if own.target is not None:
        facts.append(Fact("Reconstructs", own.target))
    return facts if own.quality is None else [*facts, *_quality(own.quality)]


def _quality(quality: DictionaryQuality) -> list[Fact]:
    declared = quality.declared_l0
    lost = quality.loss_with_zeros - quality.loss
    recovered = ""
    if lost > 0:
        kept = (quality.loss_with_zeros - quality.loss_with_reconstruction) / lost
        recovered = f"{share(kept)} of the loss recovered" if kept > 0 else "no loss recovered"
    return [
        Fact("Variance unexplained", share(quality.fvu)),
        Fact(
            "L0",
            number(quality.l0),
            "active at a position; the file declares no value"
            if declared is None
            else f"active at a position; declared {number(declared)}",
        ),
        Fact("Silent", share(quality.silent_share), "of the layer’s latents, at these positions"),
        Fact("Loss", number(quality.loss), "nats a token, the model’s own"),
        Fact("Loss with reconstruction", number(quality.loss_with_reconstruction), recovered),
        Fact("Loss with zeros", number(quality.loss_with_zeros)),
    ]
