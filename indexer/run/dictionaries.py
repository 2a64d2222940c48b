"""Refuses a dictionary that reconstructs far worse than it should, and names the cause: other ways
of reading it are tried, and the one that sets it right is the likeliest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from indexer.corpus.batches import Batch
from indexer.errors import NeurariumError
from indexer.models.dictionaries.dictionary import Dictionary
from indexer.models.latents import DictionaryLatents
from indexer.models.loaded import LoadedModel
from indexer.reporter import Reporter
from indexer.run.quality import Quality, Sums, batches_of, loss_of, meant, measure, watched
from indexer.scan.job import Job

FAR = 3.0
"""How many times as many or as few latents as declared may fire."""
_CLEARER = 0.5
"""A way of reading that leaves this share of the unexplained variance is the likelier."""


def check_dictionaries(job: Job, reporter: Reporter) -> tuple[Quality, ...]:
    """Measure the set's dictionaries and tell the user; nothing for other sets of units.

    Raises NeurariumError if one is far from what it declares, or worse than no dictionary, and
    --force was not given.
    """
    units = job.model.units
    if not isinstance(units, DictionaryLatents) or not units.any.reconstructs:
        return ()
    reporter.say("Measuring how well the dictionary reconstructs")
    qualities = measure(job.model, units, batches_of(job))
    for quality in qualities:
        reporter.say(quality_line(quality))
    bos = job.corpus.contexts_with_bos > 0
    for dictionary in units.dictionaries.values():
        if dictionary.prepend_bos not in (None, bos):
            made, these = ("with", "none has") if not bos else ("without", "some have")
            reporter.say(
                f"The dictionary {dictionary.label} was made on texts {made} a BOS in front, and "
                f"of these {these} one"
            )
    for quality in qualities:
        if (problem := problem_of(quality)) is not None and not job.config.force:
            dictionary = units.dictionaries[quality.layer]
            cause = likeliest(job.model, units, quality, batches_of(job)[0])
            raise NeurariumError(
                f"The dictionary {dictionary.label} {problem}. {cause} To go on all the same: "
                "--force."
            )
    return qualities


def quality_line(quality: Quality) -> str:
    """A layer's quality, a line for the user."""
    declared = "" if quality.declared_l0 is None else f" (declared {quality.declared_l0:g})"
    return (
        f"Layer {quality.layer}: {quality.fvu:.1%} of variance unexplained, {quality.l0:.1f} "
        f"latents active at a position{declared}; loss {quality.loss:.3f}, with the reconstruction "
        f"{quality.loss_with_reconstruction:.3f}, with zeros {quality.loss_with_zeros:.3f}"
    )


def problem_of(quality: Quality) -> str | None:
    """What is wrong, as the end of a sentence; None if nothing is."""
    if not quality.fvu <= 1:
        return (
            f"reconstructs worse than the mean vector does: {quality.fvu:.1%} of the variance is "
            "unexplained"
        )
    declared = quality.declared_l0
    if declared is None or declared / FAR <= quality.l0 <= declared * FAR:
        return None
    return f"has {quality.l0:.1f} latents active at a position, and declares {declared:g}"


def likeliest(model: LoadedModel, units: DictionaryLatents, quality: Quality, batch: Batch) -> str:
    """The likeliest cause, a sentence. Every other way of reading the dictionary is tried on one
    batch: of those after which nothing is wrong any more, the one that explains most; else one that
    explains far more."""
    dictionary = units.dictionaries[quality.layer]

    def measured(reads: Dictionary, values: tuple[Tensor, Tensor]) -> Quality:
        sums = Sums(reads, model.device)
        sums.add(reads, *values)
        return replace(quality, fvu=sums.fvu, l0=sums.l0)

    with torch.inference_mode():
        as_they_are = _values(model, units, quality.layer, batch)
        now = measured(dictionary, as_they_are)
        tried = [
            (measured(other, as_they_are), cause)
            for other, cause in _others(dictionary, as_they_are[0])
        ]
        for changed, cause in _other_starts(model, batch):
            tried.append(
                (measured(dictionary, _values(model, units, quality.layer, changed)), cause)
            )
    better = [(one, cause) for one, cause in tried if one.fvu < now.fvu]
    right = [pair for pair in better if problem_of(pair[0]) is None]
    clearer = [pair for pair in better if pair[0].fvu < min(1.0, _CLEARER * now.fvu)]
    for found in (right, clearer):
        if found:
            best, cause = min(found, key=lambda pair: pair[0].fvu)
            return (
                f"{cause} (then {best.fvu:.1%} of the variance would be unexplained and "
                f"{best.l0:.1f} latents active at a position)."
            )
    return (
        "Reading it without or with its b_dec, with other norms, and with or without a BOS sets "
        "nothing right: the likeliest cause is another model or another hook point than it was "
        "made for."
    )


def _values(
    model: LoadedModel, units: DictionaryLatents, layer: int, batch: Batch
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n e"]]:
    """A layer's input and target at a batch's included positions."""
    with watched(units, batch.tokens.shape) as seen:
        loss_of(model, batch)
    included = torch.from_numpy(batch.included).to(model.device)
    included = meant(units.dictionaries[layer], included)
    inputs, target = (values[included] for values in seen[layer])
    return inputs, target


def _other_starts(model: LoadedModel, batch: Batch) -> Iterator[tuple[Batch, str]]:
    """The batch with a BOS where there is none, or without one."""
    bos = model.tokens.bos_token_id
    if bos is None:
        bos = getattr(model.tokens.tokenizer, "bos_token_id", None)
    if bos is None:
        return
    begins = bool((batch.tokens[:, 0] == bos).all() and not batch.included[:, 0].any())
    if begins and batch.tokens.shape[1] > 1:
        without = replace(
            batch,
            tokens=batch.tokens[:, 1:],
            attention=batch.attention[:, 1:],
            included=batch.included[:, 1:],
        )
        yield without, "It was most likely made on texts without a BOS: try --no-bos"
    elif not begins:
        rows = len(batch.tokens)
        with_bos = replace(
            batch,
            tokens=np.concatenate([np.full((rows, 1), bos), batch.tokens], axis=1),
            attention=np.concatenate([np.ones((rows, 1), np.bool_), batch.attention], axis=1),
            included=np.concatenate([np.zeros((rows, 1), np.bool_), batch.included], axis=1),
        )
        yield with_bos, "It was most likely made on texts with a BOS in front, and these have none"


def _others(
    dictionary: Dictionary, inputs: Float[Tensor, "n d"]
) -> Iterator[tuple[Dictionary, str]]:
    """Other ways of reading a dictionary, with what they would mean."""
    b_dec, b_in = dictionary.b_dec, dictionary.b_in
    if b_in is not None:
        yield replace(dictionary, b_in=None), "Its b_dec is most likely not to be subtracted"
    elif b_dec is not None and len(b_dec) == dictionary.d_in:
        yield replace(dictionary, b_in=b_dec), "Its b_dec is most likely to be subtracted"
    if dictionary.norm == "none":
        cause = "It is most likely for normalised inputs"
        yield replace(dictionary, norm="layer_norm"), f"{cause}, by layer_norm"
        yield replace(dictionary, norm="constant_norm_rescale"), f"{cause}, by √d ÷ their length"
        scale = float(dictionary.d_in**0.5 / inputs.float().norm(dim=-1).mean())
        if dictionary.W_dec is not None and b_dec is not None:
            scaled = replace(
                dictionary,
                W_enc=dictionary.W_enc * scale,
                W_dec=dictionary.W_dec / scale,
                b_dec=b_dec / scale,
                b_in=None if b_in is None else b_in / scale,
            )
            yield scaled, f"{cause}, by a scalar of about {scale:.3g} that was not folded"
    else:
        yield replace(dictionary, norm="none"), "It is most likely for inputs as they are"
