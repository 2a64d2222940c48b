"""Runs a custom text and reads one head: patterns of its layer, ablation, patching, direct
effects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.errors import Invalid
from app.heads.schemas import HeadPage
from app.live.head.schemas import HeadAnswer, HeadEffects, HeadPattern, HeadText, LogitParts
from app.live.models import Ready
from app.live.predictions import predictions
from app.live.text import check_finite, note_of, texts_of, tokenised
from app.schemas import Run
from indexer.store.packing.pattern import pack_pattern, unpack_pattern

TEXT, OTHER = "The text", "The text to patch from"
"""The names of the two texts in errors."""


def answer(
    ready: Ready,
    run: Run,
    page: HeadPage,
    sent: HeadText,
    contexts: Sequence[tuple[list[int], list[int]]],
    most: int,
) -> HeadAnswer:
    """The head of `page` on a text of at most `most` tokens.

    `contexts` are those that its mean output is over: token ids, included positions. Raises
    Invalid, TooLarge.
    """
    from indexer.heads.text import head_effects_on_text, mean_output, read_donor, read_layer

    model, layer, head = ready.model, page.layer, page.head
    token_ids, first = tokenised(ready, run, sent.text, most, TEXT)
    other, donor = None, None
    if sent.patch is not None:
        other, _ = tokenised(ready, run, sent.patch, most, OTHER)
        if len(other) != len(token_ids):
            raise Invalid(
                f"{OTHER} has {len(other) - first:,} tokens and the text has "
                f"{len(token_ids) - first:,}: a head is patched position by position, so both need "
                "as many."
            )
        donor = read_donor(model, layer, head, other)
    mean = mean_output(model, layer, head, contexts)
    effects = head_effects_on_text(
        model, layer, head, token_ids, first=first, mean=mean, donor=donor
    )
    predicted_id = effects.as_is.token_ids[0]
    read = read_layer(model, layer, token_ids, predicted_id)
    check_finite(read.patterns, run)
    changed = (effects.zero_ablated, effects.mean_ablated)
    zero, mean_ablated = (predictions(ready, predicted) for predicted in changed)
    patched = [
        None if predicted is None else predictions(ready, predicted)
        for predicted in (effects.pattern_patched, effects.output_patched)
    ]
    return HeadAnswer(
        model=page.model,
        layer=layer,
        head=head,
        run=run.id,
        dtype=run.dtype,
        tokens=texts_of(ready, run, token_ids, first),
        token_ids=token_ids,
        included_from=first,
        patched_from=None if other is None else texts_of(ready, run, other, first),
        heads=[_pattern(number, pattern) for number, pattern in enumerate(read.patterns)],
        direct_effects=None if read.effects is None else read.effects[:, head].tolist(),
        logit=_parts(ready, token_ids, predicted_id),
        predicted=ready.text(predicted_id),
        predicted_id=predicted_id,
        mean_contexts=len(contexts),
        effects=HeadEffects(
            as_is=predictions(ready, effects.as_is),
            zero_ablated=zero,
            mean_ablated=mean_ablated,
            pattern_patched=patched[0],
            output_patched=patched[1],
        ),
        note=note_of(run.dtype),
    )


def _parts(ready: Ready, token_ids: list[int], target: int) -> LogitParts | None:
    """What every part of the model adds to the logit of `target` at the end of the text."""
    from indexer.heads.decompose import decompose_text
    from indexer.heads.effects import heads_of

    parts = decompose_text(ready.model, token_ids, target)
    if parts is None:
        return None
    logit, remainder = float(parts.logit[-1]), float(parts.remainder[-1])
    widths = heads_of(ready.model).widths
    rows = zip(parts.heads[-1].tolist(), widths, strict=True)
    return LogitParts(
        embedding=float(parts.embedding[-1]),
        positions=None if parts.positions is None else float(parts.positions[-1]),
        heads=[row[:width] for row, width in rows],
        attention_biases=parts.attention_biases[-1].tolist(),
        mlps=parts.mlps[-1].tolist(),
        biases=float(parts.biases[-1]),
        sum=logit - remainder,
        logit=logit,
        remainder=remainder,
    )


def _pattern(head: int, pattern: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> HeadPattern:
    kept = unpack_pattern(pack_pattern(pattern))
    return HeadPattern(head=head, rows=kept.rows(), left_out=kept.left_out.tolist())
