"""Runs a custom text and reads one neuron: activations, ablation, attribution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.live.models import Ready
from app.live.neuron.schemas import (
    DirectAttribution,
    LiveAnswer,
    LiveEffects,
)
from app.live.predictions import predictions
from app.live.text import check_finite, note_of, texts_of, tokenised
from app.neurons.schemas import Histogram, NeuronPage
from app.schemas import Run

if TYPE_CHECKING:
    from indexer.interventions.attribute import Attribution


def higher_than(peaks: Histogram, peak: float) -> float | None:
    """The share of contexts that certainly peak below `peak`: those in lower bins of the histogram.

    None if the histogram is empty.
    """
    total = sum(peaks.counts)
    if not total:
        return None
    *others, last = peaks.counts
    below = sum(n for end, n in zip(peaks.edges[1:], others, strict=False) if end <= peak)
    # The last bin includes its upper edge, which float64 may have rounded.
    if peak > peaks.edges[-1] + 1e-9 * (peaks.edges[-1] - peaks.edges[0]):
        below += last
    return below / total


def answer(ready: Ready, run: Run, page: NeuronPage, text: str, most: int) -> LiveAnswer:
    """The neuron of `page` on a text of at most `most` tokens. Raises Invalid, TooLarge."""
    from indexer.interventions.ablate import effects
    from indexer.interventions.read import read_unit

    model = ready.model
    token_ids, first = tokenised(ready, run, text, most)
    reading = read_unit(model, page.layer, page.neuron, token_ids)
    values = reading.activations[first:]
    check_finite(values, run)
    mean = page.stats.mean
    ablation = effects(model, page.layer, page.neuron, token_ids, first=first, mean=mean)
    changed = (ablation.zero_ablated, ablation.mean_ablated)
    zero, mean_ablated = (None if one is None else predictions(ready, one) for one in changed)
    at = int(values.argmax())
    direct = ablation.attribution
    return LiveAnswer(
        model=page.model,
        layer=page.layer,
        neuron=page.neuron,
        hook_point=page.hook_point,
        run=run.id,
        dtype=run.dtype,
        tokens=texts_of(ready, run, token_ids, first),
        token_ids=token_ids,
        activations=[*[None] * first, *values.tolist()],
        peak=float(values[at]),
        peak_position=first + at,
        gate=None if reading.gate is None else float(reading.gate[first + at]),
        linear=None if reading.linear is None else float(reading.linear[first + at]),
        higher_than=higher_than(page.peak_histogram, float(values[at])),
        note=note_of(run.dtype),
        effects=LiveEffects(
            mean=mean,
            as_is=predictions(ready, ablation.as_is),
            zero_ablated=zero,
            mean_ablated=mean_ablated,
            no_ablation=ablation.no_ablation,
            attribution=None if direct is None else _attribution(ready, direct),
        ),
    )


def _attribution(ready: Ready, direct: Attribution) -> DirectAttribution:
    return DirectAttribution(
        token=ready.text(direct.token_id),
        token_id=direct.token_id,
        activation=direct.activation,
        logit_effect=direct.logit_effect,
        scale=direct.scale,
        value=direct.value,
    )
