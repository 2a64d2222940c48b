"""Reads a neuron: statistics, examples, what its weights say, and its whole contexts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Row, bindparam, select

from app.errors import NotFound
from app.examples.queries import NeuronExamples, examples_of, read_examples
from app.neurons.dictionary import aligned, dictionary_facts
from app.neurons.schemas import (
    ContextPage,
    Histogram,
    InputTokens,
    LogitEffects,
    NeuronLink,
    NeuronPage,
    Part,
    PeakQuantiles,
    SignCounts,
    SourceCount,
    SourcePeaks,
    Stats,
    TokenValue,
    Weights,
)
from app.reading.columns import finite
from app.reading.neurons import rows_at
from app.reading.runs import has_neuron, run_ref, sample_of
from app.reading.store import Reading
from app.reading.unit_names import name_at
from app.reading.vocabulary import text_of
from app.schemas import NeuronRef
from indexer.store import schema
from indexer.store.checksums import cover, missing
from indexer.store.packing.codec import unpack_arrays
from indexer.store.places import Places
from indexer.store.sizes import SOURCE_SLOTS
from indexer.store.units import Units

Array = np.ndarray[Any, Any]

_LINK_LISTS = ("together", "alike", "upstream", "downstream", "encoder")

# Built once: SQLAlchemy takes longer to put a statement together than SQLite to answer it.
_ARRAYS = cover(schema.neuron_arrays)
_PACKED = select(*_ARRAYS.selected).where(schema.neuron_arrays.c.neuron_id == bindparam("key"))


def neuron(reading: Reading, layer: int, neuron: int, reach: int | None = None) -> NeuronPage:
    """A neuron's page. `reach` is the number of positions of an example on either side of its peak;
    None: all stored positions. Raises NotFound."""
    run, places = reading.run, reading.places
    index = reading.index_of(layer, neuron)
    key = schema.neuron_key(run.id, index)
    arrays = read_arrays(reading, key)
    examples = read_examples(reading, key)
    others = aligned(reading, index, arrays)
    # One SELECT for all neurons that the page names: each further one costs as much as 30 rows.
    linked = {linked: schema.neuron_key(run.id, linked) for linked in _linked(arrays)}
    keys = {key, *linked.values(), *(key for other in others for key in other.keys)}
    rows = rows_at(reading.connection, sorted(keys))
    row = rows[key]
    links = _links(reading, arrays, {index: rows[key] for index, key in linked.items()})
    return NeuronPage(
        model=run.model,
        layer=layer,
        neuron=neuron,
        hook_point=reading.hook_point_of(layer),
        n_layers=len(run.widths),
        run=run_ref(run),
        sample=sample_of(run),
        scale=max(abs(row.max), abs(row.min)),
        stats=_stats(row, arrays),
        histogram=_histogram(arrays, "histogram"),
        peak_histogram=_histogram(arrays, "peak_histogram"),
        peaks_by_source=_peaks_by_source(reading, arrays),
        signs=_signs(arrays["sign_counts"]),
        examples=examples_of(examples, run, arrays, reach),
        top_token_ids=_top_token_ids(examples),
        found_in=_found_in(reading, examples),
        peak_tokens=examples.peak_tokens(),
        together=links["together"],
        weights=Weights(
            logit_effects=_logit_effects(reading, row, arrays),
            inputs=_inputs(reading, row, arrays),
            alike=links["alike"],
            upstream=links["upstream"],
            downstream=links["downstream"],
            not_available=" ".join(run.provenance.get("weights_not_available") or ()) or None,
        ),
        dictionary=dictionary_facts(reading, layer, arrays, links["encoder"]),
        aligned=[unit for other in others for unit in other.units(rows)],
        previous=_ref(places, index - 1),
        next=_ref(places, index + 1),
        layer_before=_in_layer(run.widths, layer - 1, neuron),
        layer_after=_in_layer(run.widths, layer + 1, neuron),
        other_runs=[run_ref(other) for other in reading.others if has_neuron(other, layer, neuron)],
    )


def context(reading: Reading, layer: int, neuron: int, context_id: int) -> ContextPage:
    """A whole context that is an example of a neuron. Raises NotFound."""
    key = schema.neuron_key(reading.run.id, reading.index_of(layer, neuron))
    extremes = rows_at(reading.connection, [key])[key]
    examples = read_examples(reading, key)
    whole = examples.whole(context_id)
    if whole is None:
        noun = Units.of(reading.run.units).noun
        raise NotFound(
            f"Context {context_id} is not an example of {noun} {neuron} in layer {layer} of "
            f"{reading.run.model}: its page lists those that are."
        )
    kinds, example, stored = whole
    stored_context = examples.contexts[context_id]
    return ContextPage(
        model=reading.run.model,
        layer=layer,
        neuron=neuron,
        name=name_at(reading, layer, neuron),
        hook_point=reading.hook_point_of(layer),
        run=run_ref(reading.run),
        scale=max(abs(extremes.max), abs(extremes.min)),
        max=extremes.max,
        min=extremes.min,
        kinds=kinds,
        text=reading.text_of(stored_context.included_ids, stored_context.included_from),
        length=len(example.tokens),
        stored_from=stored.start,
        stored_to=stored.stop,
        example=example,
    )


def read_arrays(reading: Reading, key: int) -> dict[str, Array]:
    """The small arrays of the neuron with this key, by name in `codec.NEURON_ARRAYS`. Raises
    Damaged."""
    row = reading.connection.execute(_PACKED, {"key": key}).one_or_none()
    if row is None:
        raise missing(schema.neuron_arrays, neuron_id=key)
    _ARRAYS.check([row])
    return unpack_arrays(bytes(row.packed))


def _ref(places: Places, index: int) -> NeuronRef | None:
    """The neuron at an index over all layers; None before the first and after the last."""
    if not 0 <= index < len(places):
        return None
    layer, neuron = places.of(index)
    return NeuronRef(layer=layer, neuron=neuron)


def _in_layer(widths: Sequence[int], layer: int, neuron: int) -> NeuronRef | None:
    """The neuron with the same index in another layer, or that layer's last neuron; None if it has
    none."""
    if not 0 <= layer < len(widths) or not widths[layer]:
        return None
    return NeuronRef(layer=layer, neuron=min(neuron, widths[layer] - 1))


def _linked(arrays: dict[str, Array]) -> set[int]:
    """The indices over all layers of the neurons in the lists of related neurons."""
    return {index for name in _LINK_LISTS for index in arrays[f"{name}_neurons"].tolist()}


def _links(
    reading: Reading, arrays: dict[str, Array], rows: dict[int, Row[Any]]
) -> dict[str, list[NeuronLink]]:
    """The lists of related neurons by name, each neuron with the token at its maximum. `rows` are
    the rows of the listed neurons by index over all layers."""
    vocabulary = reading.vocabulary
    tokens = {index: text_of(vocabulary, row.peak_token_id) for index, row in rows.items()}

    def link(index: int, value: float, part: int | None) -> NeuronLink:
        layer, neuron = reading.places.of(index)
        name: Part | None = None if part is None else "gate" if part else "in"
        return NeuronLink(
            layer=layer,
            neuron=neuron,
            name=name_at(reading, layer, neuron),
            value=value,
            part=name,
            peak_token=tokens[index],
        )

    def links(name: str) -> list[NeuronLink]:
        indices, values = arrays[f"{name}_neurons"].tolist(), arrays[f"{name}_values"].tolist()
        parts = [None] * len(indices)
        if f"{name}_parts" in arrays:
            parts = arrays[f"{name}_parts"].tolist()
        return [link(*entry) for entry in zip(indices, values, parts, strict=True)]

    return {name: links(name) for name in _LINK_LISTS}


def _histogram(arrays: dict[str, Array], name: str) -> Histogram:
    counts = arrays[f"{name}_counts"]
    if not len(counts):
        return Histogram(edges=[0.0, 0.0], counts=[0])
    start, width = arrays[f"{name}_range"]
    edges = start + width * np.arange(len(counts) + 1)
    return Histogram(edges=edges.tolist(), counts=counts.tolist())


def _peaks_by_source(reading: Reading, arrays: dict[str, Array]) -> list[SourcePeaks]:
    counts = arrays["source_peak_counts"].reshape(-1, max(1, len(arrays["peak_histogram_counts"])))
    return [
        SourcePeaks(
            source=None if slot == SOURCE_SLOTS else reading.run.sources[slot] or None,
            other=slot == SOURCE_SLOTS,
            counts=of_slot,
        )
        for slot, of_slot in enumerate(counts.tolist())
    ]


def _top_token_ids(examples: NeuronExamples) -> list[int]:
    top = examples.arrays("top")
    if top is None:
        return []
    context = examples.contexts[int(top.context_ids[0])]
    ids: list[int] = context.token_ids[: int(top.peak_positions[0]) + 1].tolist()
    return ids


def _found_in(reading: Reading, examples: NeuronExamples) -> list[SourceCount]:
    top = examples.arrays("top")
    contexts = [] if top is None else top.context_ids.tolist()
    indices = Counter(examples.contexts[context_id].source_index for context_id in contexts)
    corpus = reading.corpus_counts
    return [
        SourceCount(
            source=reading.run.sources[index],
            examples=number,
            share=corpus.share(index),
        )
        for index, number in indices.most_common()
        if reading.run.sources[index]
    ]


def _stats(row: Row[Any], arrays: dict[str, Array]) -> Stats:
    quantiles = arrays["peak_quantiles"].tolist()
    return Stats(
        max=row.max,
        min=row.min,
        mean=row.mean,
        std=row.std,
        skewness=row.skewness,
        kurtosis=finite(row.kurtosis),
        density=row.density,
        lookup=finite(row.lookup),
        density_over_tenth=row.density_over_tenth,
        tenth=row.tenth,
        dead=row.dead,
        peak_quantiles=PeakQuantiles(
            **dict(zip(PeakQuantiles.model_fields, quantiles, strict=True))
        ),
    )


def _signs(counts: Array) -> SignCounts | None:
    if not len(counts):
        return None
    return SignCounts(**dict(zip(SignCounts.model_fields, counts.tolist(), strict=True)))


def _tokens(
    reading: Reading, arrays: dict[str, Array], name: str
) -> tuple[list[TokenValue], list[TokenValue]]:
    """The two halves of a stored list of tokens: the highest values and the lowest."""
    ids, values = arrays[f"{name}_token_ids"].tolist(), arrays[f"{name}_values"].tolist()
    vocabulary, corpus = reading.vocabulary, reading.corpus_counts
    tokens = [
        TokenValue(
            token=vocabulary[token_id],
            token_id=token_id,
            value=value,
            corpus_count=corpus.occurrences(token_id),
        )
        for token_id, value in zip(ids, values, strict=True)
    ]
    return tokens[: len(tokens) // 2], tokens[len(tokens) // 2 :]


def _logit_effects(reading: Reading, row: Row[Any], arrays: dict[str, Array]) -> LogitEffects:
    top, bottom = _tokens(reading, arrays, "logit")
    mean, std = arrays["effect_moments"].tolist() or (None, None)
    return LogitEffects(
        top=top,
        bottom=bottom,
        mean=mean,
        std=std,
        kurtosis=finite(row.effect_kurtosis),
        histogram=_histogram(arrays, "effect_histogram"),
    )


def _inputs(reading: Reading, row: Row[Any], arrays: dict[str, Array]) -> list[InputTokens]:
    parts: tuple[tuple[Part, float | None], ...] = (
        ("gate", row.gate_out_cosine),
        ("in", row.in_out_cosine),
    )
    inputs = []
    for part, cosine in parts:
        top, bottom = _tokens(reading, arrays, part)
        if top or cosine is not None:
            inputs.append(InputTokens(part=part, top=top, bottom=bottom, cosine=cosine))
    return inputs
