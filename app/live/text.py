"""A visitor's text before a model reads it: its tokens, its length, what they lack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from app.errors import Invalid, TooLarge
from app.live.models import Ready
from app.reading.vocabulary import without_first_space
from app.schemas import Run

OnLayer = Callable[[int, Float32[np.ndarray, "pos n"]], None]
"""Called once a layer, in order, with all its neurons' activations at the included positions."""


@dataclass(frozen=True)
class OpenText:
    """A text of a visitor's, as a loaded model takes it in."""

    tokens: list[str]
    token_ids: list[int]
    first: int
    """The first included position."""
    each_layer: Callable[[OnLayer], None]
    """One forward pass. Raises Invalid where activations are no numbers."""


def tokenised(
    ready: Ready, run: Run, text: str, most: int, name: str = "The text"
) -> tuple[list[int], int]:
    """A text's token ids, and the first included position. Raises Invalid, TooLarge."""
    from indexer.interventions.read import read_text
    from indexer.models.reload import bos_of

    bos = bos_of(ready.model, run.provenance)
    token_ids = read_text(ready.model, text, bos)
    first = 0 if bos is None else 1
    _check_length(len(token_ids), first, min(most, ready.model.layout.max_context or most), name)
    return token_ids, first


def check_finite(values: Float32[np.ndarray, "..."], run: Run) -> None:
    if not np.isfinite(values).all():
        raise Invalid(f"In {run.dtype} this text gives activations that are no numbers.")


def opened(ready: Ready, run: Run, text: str, most: int, name: str) -> OpenText:
    from indexer.interventions.read import read_layers

    token_ids, first = tokenised(ready, run, text, most, name)

    def each_layer(on_layer: OnLayer) -> None:
        def give(layer: int, activations: Float32[np.ndarray, "pos n"]) -> None:
            check_finite(activations, run)
            on_layer(layer, activations)

        read_layers(ready.model, token_ids, first, give)

    return OpenText(texts_of(ready, run, token_ids, first), token_ids, first, each_layer)


def texts_of(ready: Ready, run: Run, token_ids: list[int], first: int) -> list[str]:
    """The texts of one context's tokens, as pages of the run have them."""
    texts = list(map(ready.text, token_ids))
    tokenizer = run.provenance.get("tokenizer", {})
    dropped = tokenizer.get("first_space") == "dropped" and not first
    return without_first_space(texts) if dropped else texts


def _check_length(length: int, first: int, most: int, name: str) -> None:
    if length <= first:
        raise Invalid(f"{name} gives no tokens: type something.")
    if length > most:
        bos = ", the BOS counted" if first else ""
        raise TooLarge(f"{name} has {length:,} tokens{bos}: {most:,} are the most.")


def note_of(dtype: str) -> str | None:
    """How far values may be from the indexed ones, where they may be far."""
    if dtype == "float32":
        return None
    return (
        f"The model runs in {dtype}, where a value depends on what it is computed together with: "
        "these may differ from the indexed ones by some percent."
    )
