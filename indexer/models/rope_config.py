"""Numbers for rotary position embeddings in a configuration that cannot be right: with them every
angle would be NaN or infinite, or a library would fail while it loads the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from indexer.errors import NeurariumError

_PARTS = ("rope_scaling", "rope_parameters")
_POSITIVE = (
    *("rope_theta", "rope_local_base_freq", "rotary_emb_base", "factor", "attention_factor"),
    *("original_max_position_embeddings", "beta_fast", "beta_slow", "low_freq_factor"),
    *("high_freq_factor", "short_factor", "long_factor", "global_rope_theta", "local_rope_theta"),
)
_AT_LEAST_0 = ("mscale", "mscale_all_dim")
_SHARES = ("partial_rotary_factor", "rotary_pct", "rotary_percent")
"""Shares of a head's width: above 1, angles are computed for dimensions that no head has."""
_RANGES: tuple[tuple[tuple[str, ...], str, Callable[[float], bool]], ...] = (
    (_POSITIVE, "a number above 0", lambda number: number > 0),
    (_AT_LEAST_0, "a number 0 or more", lambda number: number >= 0),
    (_SHARES, "a number from 0 to 1", lambda number: 0 <= number <= 1),
)
_ORDERED = (("beta_slow", "beta_fast"), ("low_freq_factor", "high_freq_factor"))
"""Pairs of which the first must be less."""


def check_rope(facts: Mapping[str, Any], label: str) -> None:
    """Raises NeurariumError for numbers in a config.json that no rotary embedding can have."""
    for where, entries in _entries(facts):
        for names, range_, is_inside in _RANGES:
            for name in names:
                value = entries.get(name)
                if value is None:
                    continue
                for number in value if isinstance(value, list) else [value]:
                    if not _is_number(number) or not is_inside(number):
                        raise _wrong(label, f"{where}{name} is {number!r}, not {range_}")
        for less, more in _ORDERED:
            low, high = entries.get(less), entries.get(more)
            if low is not None and high is not None and low >= high:
                raise _wrong(label, f"{where}{less} is {low}, not less than {more} {high}")


def _entries(facts: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The mappings with such numbers, each with its name: also those of kinds of layers, and of the
    text model in a larger one."""
    for where, owner in (("", facts), ("text_config.", facts.get("text_config"))):
        if not isinstance(owner, Mapping):
            continue
        yield where, owner
        for part in _PARTS:
            inner = owner.get(part)
            if not isinstance(inner, Mapping):
                continue
            yield f"{where}{part}.", inner
            for kind, own in inner.items():
                if isinstance(own, Mapping):
                    yield f"{where}{part}.{kind}.", own


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond what a float holds
        return False


def _wrong(label: str, what: str) -> NeurariumError:
    return NeurariumError(
        f"The config.json of {label!r} says {what} (rotary position embeddings): restore the one "
        "that belongs to the weights."
    )
