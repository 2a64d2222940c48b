"""How well a set's dictionaries reconstruct what they should, measured on a part of the sample
before the scan: a dictionary that is read wrongly shows here, not after hours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from indexer.corpus.batches import Batch, BatchPlan, fill_batch
from indexer.errors import NeurariumError
from indexer.models.dictionaries.dictionary import Dictionary
from indexer.models.hook_places import find_place
from indexer.models.latents import DictionaryLatents
from indexer.models.loaded import LoadedModel
from indexer.models.modules import first_tensor
from indexer.models.units import Place, first_of, present_place
from indexer.reporter import Reporter
from indexer.scan.job import Job

CONTEXTS = 128
"""Of the sample's first contexts, so many are measured."""
_POSITIONS = 2048
"""Positions in a forward pass: their logits are in memory."""
FAR = 3.0
"""How many times as many or as few latents as declared may fire."""
_CLEARER = 0.5
"""A way of reading that leaves this share of the unexplained variance is the likelier."""

How = Literal["reconstruction", "zeros"]


@dataclass(frozen=True)
class Quality:
    """What a layer's dictionary is worth on the contexts measured, at included positions."""

    layer: int
    positions: int
    fvu: float
    """Fraction of variance unexplained: squared error ÷ squared distance from the mean vector."""
    l0: float
    """Latents that fire at a position, on average."""
    declared_l0: float | None
    silent_share: float
    """Share of latents that fire at none of the positions."""
    loss: float
    """The model's own mean loss of the tokens at included positions, in nats."""
    loss_with_reconstruction: float
    """The same with what is reconstructed in place of what it should be."""
    loss_with_zeros: float
    """The same with zeros in its place."""


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
        reporter.say(_told(quality))
    for quality in qualities:
        if (problem := _problem(quality)) is not None and not job.config.force:
            dictionary = units.dictionaries[quality.layer]
            cause = _likeliest(job.model, units, quality, batches_of(job)[0], job.config.bos)
            raise NeurariumError(
                f"The dictionary {dictionary.label} {problem}. {cause} To go on all the same: "
                "--force."
            )
    return qualities


def as_provenance(job: Job, qualities: tuple[Quality, ...]) -> dict[str, Any]:
    """What a run's provenance says of its dictionaries; nothing for other sets of units."""
    units = job.model.units
    if not isinstance(units, DictionaryLatents):
        return {}
    one = units.any
    return {
        "dictionary": {
            "files": [dictionary.label for dictionary in units.dictionaries.values()],
            "hash": units.identity,
            "activation": one.function,
            "target": str(one.target) if one.target else None,
            "k": one.k,
            **(
                {"named": True} if any(found.names for found in units.dictionaries.values()) else {}
            ),
            "quality": [asdict(quality) for quality in qualities],
        }
    }


def batches_of(job: Job) -> list[Batch]:
    """The contexts that are measured, in small batches."""
    chosen = job.shape.sample[:CONTEXTS]
    chosen = chosen[np.argsort(job.corpus.lengths[chosen], kind="stable")]
    rows = max(1, _POSITIONS // int(job.corpus.lengths[chosen].max()))
    return [
        fill_batch(BatchPlan("first_half", chosen[at : at + rows]), job.corpus, padding_id=0)
        for at in range(0, len(chosen), rows)
    ]


# --- Measuring ------------------------------------------------------------------------------------


class _Sums:
    """Sums over positions of one layer."""

    def __init__(self, dictionary: Dictionary, device: torch.device) -> None:
        self.error = torch.zeros((), dtype=torch.float64, device=device)
        self.squares = torch.zeros_like(self.error)
        self.total = torch.zeros(dictionary.d_out or 0, dtype=torch.float64, device=device)
        self.fired = torch.zeros_like(self.error)
        self.ever = torch.zeros(dictionary.latents, dtype=torch.bool, device=device)
        self.count = 0

    def add(
        self, dictionary: Dictionary, inputs: Float[Tensor, "n d"], target: Float[Tensor, "n e"]
    ) -> None:
        """Add positions."""
        acts = dictionary.encode(inputs)
        wrong = dictionary.decode(acts, inputs) - target.float()
        self.error += wrong.double().square().sum()
        self.squares += target.double().square().sum()
        self.total += target.double().sum(0)
        self.fired += (acts > 0).sum()
        self.ever |= (acts > 0).any(0)
        self.count += len(inputs)

    @property
    def fvu(self) -> float:
        """Fraction of variance unexplained."""
        variance = self.squares - self.total.square().sum() / self.count
        return float(self.error / variance)


@torch.inference_mode()
def measure(
    model: LoadedModel, units: DictionaryLatents, batches: list[Batch]
) -> tuple[Quality, ...]:
    """Measure every layer's dictionary: one pass of the model as it is, and two for each."""
    sums = {
        layer: _Sums(dictionary, model.device) for layer, dictionary in units.dictionaries.items()
    }
    losses: dict[tuple[int, str], float] = {}
    own, tokens = 0.0, 0
    for batch in batches:
        included = torch.from_numpy(batch.included).to(model.device)
        with _watched(model, units) as seen:
            loss, count = _loss(model, batch)
        own, tokens = own + loss, tokens + count
        for layer, dictionary in units.dictionaries.items():
            inputs, target = seen[layer]
            sums[layer].add(dictionary, inputs[included], target[included])
        for layer in units.dictionaries:
            for how in ("reconstruction", "zeros"):
                with _spliced(model, units, layer, how, included):
                    losses[layer, how] = losses.get((layer, how), 0.0) + _loss(model, batch)[0]
    return tuple(
        Quality(
            layer=layer,
            positions=sums[layer].count,
            fvu=sums[layer].fvu,
            l0=float(sums[layer].fired) / sums[layer].count,
            declared_l0=dictionary.l0,
            silent_share=1 - float(sums[layer].ever.double().mean()),
            loss=own / tokens,
            loss_with_reconstruction=losses[layer, "reconstruction"] / tokens,
            loss_with_zeros=losses[layer, "zeros"] / tokens,
        )
        for layer, dictionary in units.dictionaries.items()
    )


def _loss(model: LoadedModel, batch: Batch) -> tuple[float, int]:
    """The summed loss of the tokens at included positions, in nats, and their number."""
    tokens = torch.from_numpy(batch.tokens).to(model.device).long()
    attention = torch.from_numpy(batch.attention).to(model.device).long()
    out = model.root(input_ids=tokens, attention_mask=attention)
    logits = getattr(out, "logits", out)[:, :-1].float()
    counted = torch.from_numpy(batch.included).to(model.device)[:, 1:]
    loss = cross_entropy(logits[counted], tokens[:, 1:][counted], reduction="sum")
    return float(loss), int(counted.sum())


def _target(units: DictionaryLatents, layer: int) -> Place:
    """Where what a layer's dictionary reconstructs is. Raises NeurariumError."""
    target = units.dictionaries[layer].target
    if target is None:
        return present_place(units, layer)
    place = find_place(units.layout, units.root, target.layer, target.point)
    if place is None:
        raise NeurariumError(
            f"The dictionary {units.dictionaries[layer].label} approximates {target}, which cannot "
            f"be found in {units.layout.label!r} ({units.layout.architecture})."
        )
    return place


@contextlib.contextmanager
def _hooked(place: Place, hook: Any) -> Iterator[None]:
    """`hook(values)` is called with what is at a place; what it returns, if anything, goes on."""

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = first_tensor(args, kwargs)
        assert given is not None
        new = hook(given)
        if new is None:
            return None
        if args:
            return (new, *args[1:]), kwargs
        return args, kwargs | {next(iter(kwargs)): new}

    def after(_module: Any, _args: Any, output: Any) -> Any:
        new = hook(first_of(output))
        if new is None:
            return None
        return (new, *output[1:]) if isinstance(output, tuple) else new

    if place.side == "input":
        handle = place.module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = place.module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _watched(
    model: LoadedModel, units: DictionaryLatents
) -> Iterator[dict[int, tuple[Tensor, Tensor]]]:
    """Each layer's input and target, [batch, pos, width], once the model has run."""
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    reads: dict[int, Tensor] = {}
    with contextlib.ExitStack() as stack:
        for layer in units.dictionaries:

            def keep_input(values: Tensor, layer: int = layer) -> None:
                reads[layer] = values

            def keep_target(values: Tensor, layer: int = layer) -> None:
                seen[layer] = (reads[layer], values)

            stack.enter_context(_hooked(present_place(units, layer), keep_input))
            stack.enter_context(_hooked(_target(units, layer), keep_target))
        yield seen


@contextlib.contextmanager
def _spliced(
    model: LoadedModel,
    units: DictionaryLatents,
    layer: int,
    how: How,
    included: Bool[Tensor, "batch pos"],
) -> Iterator[None]:
    """A layer's target replaced at all included positions."""
    dictionary = units.dictionaries[layer]
    reads: list[Tensor] = []

    def keep(values: Tensor) -> None:
        reads.append(values)

    def instead(values: Tensor) -> Tensor:
        if how == "zeros":
            new = torch.zeros_like(values)
        else:
            inputs = reads.pop()
            new = dictionary.decode(dictionary.encode(inputs), inputs).to(values.dtype)
        return torch.where(included[:, :, None], new, values)

    with (
        _hooked(present_place(units, layer), keep),
        _hooked(_target(units, layer), instead),
    ):
        yield


# --- Judging --------------------------------------------------------------------------------------


def _told(quality: Quality) -> str:
    declared = "" if quality.declared_l0 is None else f" (declared {quality.declared_l0:g})"
    return (
        f"Layer {quality.layer}: {quality.fvu:.1%} of variance unexplained, {quality.l0:.1f} "
        f"latents active at a position{declared}; loss {quality.loss:.3f}, with the reconstruction "
        f"{quality.loss_with_reconstruction:.3f}, with zeros {quality.loss_with_zeros:.3f}"
    )


def _problem(quality: Quality) -> str | None:
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


def _likeliest(
    model: LoadedModel, units: DictionaryLatents, quality: Quality, batch: Batch, bos: bool
) -> str:
    """The likeliest cause, a sentence: another way of reading it that explains far more, tried on
    one batch."""
    dictionary = units.dictionaries[quality.layer]
    with torch.inference_mode(), _watched(model, units) as seen:
        _loss(model, batch)
    included = torch.from_numpy(batch.included).to(model.device)
    inputs, target = (values[included] for values in seen[quality.layer])

    def fvu_of(other: Dictionary) -> float:
        sums = _Sums(other, model.device)
        sums.add(other, inputs, target)
        return sums.fvu

    with torch.inference_mode():
        now = fvu_of(dictionary)
        tried = [(fvu_of(other), cause) for other, cause in _others(dictionary, inputs)]
    best = min(tried, default=(now, ""))
    if best[0] < _CLEARER * now:
        return f"{best[1]} ({best[0]:.1%} would be unexplained)."
    if dictionary.prepend_bos and (not bos or model.tokens.bos_token_id is None):
        return "It was made on texts with a BOS in front, and these have none."
    return (
        "The likeliest causes are another model or another hook point than it was made for, a BOS "
        "that is missing, or weights that were not folded."
    )


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
