"""What can be known from a model's weights, tried before the scan: what cannot is left out by name,
so that nothing fails when the scan is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from indexer.errors import NeurariumError
from indexer.models.loaded import LoadedModel
from indexer.models.units import Reader, Unknown
from indexer.weights.effects import logit_effects
from indexer.weights.inputs import input_tokens
from indexer.weights.units import ask_readers, write_vectors

_UNITS = 8
"""Units of the first layer whose logit effects are computed."""
_TOKENS = 64
"""Tokens whose inputs to the first layer are computed."""


@dataclass(frozen=True)
class Available:
    """Which facts the weights give, and why not the others."""

    writes: bool = True
    """What the units write. Without it there are no logit effects, cosines and links."""
    effects: bool = True
    """Logit effects."""
    reads: bool = True
    """What the units read: input tokens, cosines, links."""
    missing: tuple[str, ...] = ()
    """A sentence with the reason for each fact that is not available."""


def try_weights(model: LoadedModel) -> Available:
    """Try all that needs weights: the matrices of all layers, and the rest on a few units.

    Whatever fails is left out, for any reason, since the scan can do without it. What the set of
    units says is not known is not tried.
    """
    units = model.units.described
    writes = effects = reads = None
    unknown: list[str] = []
    if not units.no_writes:
        writes = _problem(lambda: _try_writes(model))
        effects = None if writes else _problem(lambda: _try_effects(model))
    if not units.no_reads:
        reads = _problem(lambda: unknown.extend(_try_reads(model)))
    missing = [
        f"{what} are not available because {_clause(reason)}"
        for what, reason in (
            ("Logit effects, cosines and connections", writes),
            ("Logit effects", effects),
            ("Input tokens, cosines and connections", reads),
            *((what, reason) for what, reason in _unread(unknown, model)),
        )
        if reason is not None
    ]
    return Available(writes is None, not (writes or effects), reads is None, tuple(missing))


def _problem(attempt: Callable[[], None]) -> str | None:
    """Why an attempt failed, a full sentence; None if it did not."""
    try:
        attempt()
    except NeurariumError as error:
        return str(error)
    except Exception as error:  # of any library, for any kind of module
        first = next(iter(str(error).splitlines()), "")[:200]
        return f"They cannot be computed from the weights ({type(error).__name__}: {first})."
    return None


@torch.inference_mode()
def _try_writes(model: LoadedModel) -> None:
    for layer, width in enumerate(model.units.widths):
        if not width:
            continue
        vectors = write_vectors(model, layer)
        if vectors.shape[0] != width:
            raise NeurariumError(
                f"Layer {layer} has {width} {model.units.noun}s and {vectors.shape[0]} write "
                "vectors."
            )
        _check_finite(vectors, f"what layer {layer} writes")


def _try_effects(model: LoadedModel) -> None:
    first = next(layer for layer, width in enumerate(model.units.widths) if width)
    logit_effects(model, first, units=slice(_UNITS))


@torch.inference_mode()
def _try_reads(model: LoadedModel) -> list[str]:
    """Why some layers' readers are not known, a reason for each."""
    unknown: list[str] = []
    tried = False
    for layer, reader in enumerate(ask_readers(model)):
        if not model.units.widths[layer]:
            continue
        if isinstance(reader, Unknown):
            unknown.append(reader.reason)
            continue
        _check_reader(reader, layer, model.units.widths[layer])
        if not tried:
            input_tokens(model, reader, vocab_size=_TOKENS)
            tried = True
    return unknown


def _check_reader(reader: Reader, layer: int, width: int) -> None:
    for part, matrix in reader.matrices.items():
        if matrix.shape != (reader.gain.shape[0], width):
            shape = " × ".join(map(str, matrix.shape))
            raise NeurariumError(f"The {part} matrix of layer {layer} is {shape}.")
        _check_finite(matrix, f"what layer {layer} reads")


def _check_finite(values: torch.Tensor, what: str) -> None:
    if not bool(torch.isfinite(values).all()):
        raise NeurariumError(f"There is a number that is not finite in {what}.")


def _unread(unknown: list[str], model: LoadedModel) -> list[tuple[str, str]]:
    """The reasons for layers that read in a way that is not known, and what is missing there."""
    layers = sum(width > 0 for width in model.units.widths)
    where = "" if len(unknown) == layers else f" of {len(unknown)} of {layers} layers"
    reasons = dict.fromkeys(unknown)
    return [(f"Input tokens, cosines and connections{where}", reason) for reason in reasons][:1]


def _clause(sentence: str) -> str:
    """A sentence as the end of another."""
    lower = sentence[:2].istitle() and not sentence[:1].isdigit()
    return sentence[:1].lower() + sentence[1:] if lower else sentence
