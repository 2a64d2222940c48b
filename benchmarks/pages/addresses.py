"""What a server is asked for: addresses drawn at random from what its own JSON says is there."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from app.web import api_urls, urls
from indexer.store.schema import SORTABLE

SEARCHED = 400
"""Addresses of each kind of search and listing."""
_LISTED = 20
_STATISTICS = (
    *("max", "min", "mean", "std", "skewness", "kurtosis", "density", "density_over_tenth"),
    *("effect_kurtosis", "in_out_cosine"),
)
_WORD = re.compile(r"[^\W_]+")

Place = tuple[str, int, int]
"""Model, layer, neuron."""
Get = Callable[[str], Any]
"""Returns the JSON at a path."""


def draw(get: Get, count: int, seed: int) -> list[Place]:
    """Up to `count` of all neurons of a server: each once, in random order."""
    models = [item["model"] for item in get("/api/v1/models?limit=1000")["items"]]
    layers = [
        (model, layer["layer"], layer["neurons"])
        for model in models
        for layer in get(f"/api/v1/models/{quote(model)}")["layers"]
    ]
    total = sum(width for _, _, width in layers)
    chosen = random.Random(seed).sample(range(total), min(total, count))
    places: dict[int, Place] = {}
    first = 0
    for model, layer, width in layers:
        inside = (flat for flat in chosen if first <= flat < first + width)
        places |= {flat: (model, layer, flat - first) for flat in inside}
        first += width
    return [places[flat] for flat in chosen]


def searches(get: Get, places: list[Place], seed: int) -> dict[str, list[str]]:
    """Addresses of every search and listing page by name, one of each kind for every neuron in
    `places`: its model, tokens it promotes, words of its top example."""
    rng = random.Random(seed)
    paths: dict[str, list[str]] = {}
    for model, layer, neuron in places:
        page = get(api_urls.neuron(model, layer, neuron))
        example = rng.choice(page["examples"]["top"])
        text = "".join(
            token
            for token, activation in zip(example["tokens"], example["activations"], strict=True)
            if activation is not None  # a BOS is not part of the text
        )
        words = _WORD.findall(text) or ["nothing"]
        at = rng.randrange(max(1, len(words) - 1))
        prefix = rng.choice(words)[:3]
        promoted = rng.choice(page["weights"]["logit_effects"]["top"])
        one, two, three = rng.sample(_STATISTICS, 3)
        several = f"{one}>{rng.gauss(0, 0.3):.2f} {two}<{rng.gauss(1, 0.5):.2f} sort:-{three}"
        named = ["/".join(map(str, place)) for place in rng.choices(places, k=_LISTED)]
        other = f"{model}/{layer}/{max(0, neuron - 1)}"
        for name, path in {
            "neurons of a token": urls.search(model, token_id=promoted["token_id"]),
            "tokens by prefix": f"{api_urls.tokens(model)}?{urlencode({'prefix': prefix[:2]})}",
            "two words": urls.search(model, text=" ".join(rng.sample(words, min(2, len(words))))),
            "phrase": urls.search(model, text=f'"{" ".join(words[at : at + 2])}"'),
            "word prefix": urls.search(model, text=f"{prefix}*"),
            "neurons of a context": urls.context_neurons(model, example["context_id"]),
            "one statistic": urls.search_numbers(model, q=f"{one}>{rng.gauss(0.2, 0.5):.3f}"),
            "several statistics": urls.search_numbers(model, q=several),
            "two neurons compared": urls.compare(f"{model}/{layer}/{neuron}", other),
            "layer's page": urls.layer(model, layer, sort=rng.choice(SORTABLE)),
            "model's page": urls.model(model),
            "list of 20 neurons": urls.neuron_list(",".join(named)),
        }.items():
            paths.setdefault(name, []).append(path)
    return paths
