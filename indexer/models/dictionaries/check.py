"""Whether a dictionary can be used: its tensors fit each other, and a model."""

from __future__ import annotations

import re
from collections.abc import Callable
from unicodedata import category

from indexer.errors import NeurariumError, quoted
from indexer.models.dictionaries.dictionary import Dictionary, Hook

_NOUN = re.compile(r"[^\W\d_]+(?:[ -][^\W\d_]+)*")
_MOST_NOUN, _MOST_NAME = 40, 200
_NO_TEXT = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of control characters, halves of surrogate pairs, and line and paragraph
separators."""


def check_shapes(dictionary: Dictionary) -> None:
    """Refuse tensors that do not fit each other, and wrong facts. Raises `NeurariumError`."""
    words = (("model", dictionary.model, str), ("prepend_bos", dictionary.prepend_bos, bool))
    for what, value, kind in words:
        if value is not None and not isinstance(value, kind):
            needed = "a name" if kind is str else "true or false"
            raise _wrong(dictionary, f"says {what} is {quoted(value)}, and {needed} is needed")
    W_enc = dictionary.W_enc
    if W_enc.ndim != 2:
        raise _wrong(dictionary, f"has W_enc of shape {tuple(W_enc.shape)}, and it is a matrix")
    d_in, latents = W_enc.shape
    if not latents or not d_in:
        raise _wrong(dictionary, f"is empty: W_enc has the shape {tuple(W_enc.shape)}")
    if dictionary.function == "jumprelu" and dictionary.threshold is None:
        raise _wrong(dictionary, "is a jumprelu without thresholds")
    if dictionary.k is not None and not 1 <= dictionary.k <= latents:
        raise _wrong(dictionary, f"has k {quoted(dictionary.k)} for {latents} latents")
    k = dictionary.k or 1
    if dictionary.function == "groupmax" and (latents % k or latents == k):
        raise _wrong(dictionary, f"has {latents} latents, which are not {k} groups")
    W_dec = dictionary.W_dec
    if dictionary.target is not None and W_dec is None:
        raise _wrong(dictionary, "is a transcoder without W_dec")
    if W_dec is not None and (W_dec.ndim != 2 or W_dec.shape[0] != latents):
        raise _wrong(
            dictionary,
            f"has W_dec of shape {tuple(W_dec.shape)}, and ({latents}, d_model) belongs to W_enc "
            f"of shape {tuple(W_enc.shape)}",
        )
    d_out = None if W_dec is None else W_dec.shape[1]
    if d_out is not None and dictionary.target is None and d_out != d_in:
        raise _wrong(
            dictionary, f"reads a width of {d_in} and writes {d_out}, and is no transcoder"
        )
    gate = dictionary.gate
    expected = {
        "b_enc": (dictionary.b_enc, (latents,)),
        "threshold": (dictionary.threshold, (latents,)),
        "b_dec": (dictionary.b_dec, (d_out,)),
        "b_dec, which the input is less,": (dictionary.b_in, (d_in,)),
        "skip": (dictionary.skip, (d_in, d_out)),
        "the gate's scale": (None if gate is None else gate.scale, (latents,)),
        "the gate's bias": (None if gate is None else gate.bias, (latents,)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise _wrong(
                dictionary, f"has {name} of shape {tuple(tensor.shape)}, and {shape} belongs there"
            )


def check_words(dictionary: Dictionary) -> None:
    """Refuse what a file says of itself where pages could not show it. Raises `NeurariumError`."""
    noun = dictionary.noun
    if noun is not None and (len(noun) > _MOST_NOUN or not _NOUN.fullmatch(noun)):
        raise _wrong(
            dictionary,
            f"calls its units {quoted(noun)} (`noun`): write at most {_MOST_NOUN} letters, such as "
            "feature",
        )
    for latent, name in enumerate(dictionary.names):
        if len(name) > _MOST_NAME or any(category(letter) in _NO_TEXT for letter in name):
            raise _wrong(
                dictionary,
                f"has the name {quoted(name)} for {latent} (`names`): a name has at most "
                f"{_MOST_NAME} characters, and no line breaks or other control characters",
            )


def check_model(
    dictionary: Dictionary,
    *,
    label: str,
    n_layers: int,
    widths: dict[str, int | None],
    why_another: Callable[[str], str | None] | None = None,
) -> None:
    """Refuse a dictionary that was not made for a model: another one is named, a layer or a hook
    point is not there, or a width is another.

    `widths` are those of each of the model's hook points (None where it is not known yet);
    `why_another` tells why a model of a name is another, if that is certain; without it names are
    not compared. Raises `NeurariumError`.
    """
    named = dictionary.model
    if named is not None and why_another is not None and (reason := why_another(named)):
        raise _wrong(
            dictionary,
            f"was made for {quoted(named)}, and {reason}: name that model, or go on with --force",
        )
    for hook, width in ((dictionary.hook, dictionary.d_in), (dictionary.target, dictionary.d_out)):
        if hook is None:
            continue
        _check_hook(dictionary, hook, n_layers, widths, label)
        own = widths[hook.point]
        if own is not None and width is not None and own != width:
            turned = " (is it transposed?)" if own == dictionary.latents else ""
            raise _wrong(
                dictionary,
                f"has a width of {width} at {hook}, and {quoted(label)} has {own}{turned}",
            )


def _check_hook(
    dictionary: Dictionary,
    hook: Hook,
    n_layers: int,
    widths: dict[str, int | None],
    label: str,
) -> None:
    if hook.layer >= n_layers:
        raise _wrong(
            dictionary, f"is of {hook}, and {quoted(label)} has {n_layers} layers, from 0 on"
        )
    if hook.point not in widths:
        raise _wrong(
            dictionary,
            f"is of {hook}, and {quoted(label)} has no such place: it has "
            f"{', '.join(sorted(widths))}",
        )


def _wrong(dictionary: Dictionary, what: str) -> NeurariumError:
    return NeurariumError(f"The dictionary {dictionary.label} {what}.")
