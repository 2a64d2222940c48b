"""Tokenises a visitor's text and checks it, before and while a model reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from app.errors import Invalid, TooLarge
from app.live.models import Ready
from app.reading.vocabulary import as_decoded
from app.schemas import Run

OnLayer = Callable[[int, Float32[np.ndarray, "pos n"]], None]
"""Called for each layer in order, with its neurons' activations at the included positions."""


@dataclass(frozen=True)
class OpenText:
    """A visitor's text, ready for a forward pass."""

    tokens: list[str]
    token_ids: list[int]
    first: int
    """The first included position."""
    each_layer: Callable[[OnLayer], None]
    """Runs one forward pass. Raises Invalid if activations are not finite."""


def tokenised(
    ready: Ready, run: Run, text: str, most: int, name: str = "The text"
) -> tuple[list[int], int]:
    """A text's token ids, and the first included position. Raises Invalid, or TooLarge for more
    than `most` tokens; `name` is the text's name in messages."""
    from indexer.interventions.read import read_text
    from indexer.models.reload import bos_of

    bos = bos_of(ready.model, run.provenance)
    token_ids = read_text(ready.model, text, bos)
    _check_ids(ready, token_ids, name)
    first = 0 if bos is None else 1
    _check_length(len(token_ids), first, min(most, ready.model.layout.max_context or most), name)
    return token_ids, first


def check_finite(values: Float32[np.ndarray, "..."], run: Run) -> None:
    """Raises Invalid unless all activations are finite."""
    if not np.isfinite(values).all():
        raise Invalid(f"In {run.dtype} this text gives activations that are not finite.")


def opened(ready: Ready, run: Run, text: str, most: int, name: str) -> OpenText:
    """A text that the model is ready to read. Raises as `tokenised`."""
    from indexer.interventions.read import read_layers

    token_ids, first = tokenised(ready, run, text, most, name)

    def each_layer(on_layer: OnLayer) -> None:
        def checked(layer: int, activations: Float32[np.ndarray, "pos n"]) -> None:
            check_finite(activations, run)
            on_layer(layer, activations)

        read_layers(ready.model, token_ids, first, checked)

    return OpenText(texts_of(ready, run, token_ids, first), token_ids, first, each_layer)


def texts_of(ready: Ready, run: Run, token_ids: list[int], first: int) -> list[str]:
    """The texts of one context's tokens, as pages of the run have them."""
    texts = list(map(ready.text, token_ids))
    return as_decoded(texts, run.provenance.get("tokenizer", {}), first=not first, last=True)


def _check_ids(ready: Ready, token_ids: list[int], name: str) -> None:
    """Tokenizers may know more tokens than the model's embedding has rows. Raises Invalid."""
    rows = ready.model.d_vocab
    unknown = next((i for i in token_ids if not 0 <= i < rows), None)
    if unknown is not None:
        token = ready.model.tokens.tokenizer.convert_ids_to_tokens(unknown)
        raise Invalid(
            f"{name} has the token {token!r} (id {unknown}), and the model knows ids from 0 to "
            f"{rows - 1}: leave it out."
        )


def _check_length(length: int, first: int, most: int, name: str) -> None:
    if length <= first:
        raise Invalid(f"{name} gives no tokens: type something.")
    if length > most:
        bos = " including the BOS" if first else ""
        raise TooLarge(f"{name} has {length:,} tokens{bos}: the maximum is {most:,}.")


def note_of(dtype: str) -> str | None:
    """A note on how far values may differ from the indexed ones; None if they hardly can."""
    if dtype == "float32":
        return None
    return (
        f"The model runs in {dtype}, where a value depends on what it is computed together with: "
        "these may differ from the indexed ones by some percent."
    )
