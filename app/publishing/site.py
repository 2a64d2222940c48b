"""Writes a static site: pages, a compact index for the search, styles and one script."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.examples.lines import REACH
from app.export.choice import Choice, chosen
from app.export.files import Progress, new_folder
from app.export.lines import Notes
from app.export.scores import scores_of
from app.export.write import sorted_unique
from app.heads.queries import head as read_head
from app.heads.queries import heads as read_heads
from app.models import plot
from app.models import queries as models
from app.models.schemas import DEFAULT_AXES, NeuronList
from app.neurons.queries import neuron as read_neuron
from app.neurons.schemas import NeuronPage
from app.publishing.pages import Pages
from app.reading.neurons import neuron_row, rows_of
from app.reading.store import Reading
from app.reading.unit_names import has_names
from app.web import assets
from indexer.errors import NeurariumError
from indexer.store.units import HEADS

COLUMNS = (
    "layer",
    "neuron",
    "max",
    "min",
    "mean",
    "std",
    "density",
    "kurtosis",
    "lookup",
    "effect_kurtosis",
)
"""The statistics in the index of the search; of attention heads also their scores."""
_LISTED = ("max", "density", "kurtosis", "lookup", "effect_kurtosis")
_LISTED_OF_HEADS = ("induction", "previous_token", "duplicate_token", "effect", "copying")
"""The columns of the table of results."""
_SHOWN = 4
"""Peak tokens in a row of search results; the index has those of all top examples."""


def publish(
    reading: Reading,
    folder: Path,
    choice: Choice,
    notes: Notes | None,
    stage: Callable[[str, int | None, str], Progress],
) -> int:
    """Write a site of the chosen units with the notes on them, and return how many they are.

    Raises NeurariumError and AppError, and then writes nothing.
    """
    if str(folder) == "-":
        raise NeurariumError("A site is a folder of files: name one with --out.")
    indices = sorted_unique(chosen(reading, choice)).tolist()
    if not indices:
        raise NeurariumError(f"No {reading.units.noun} matches: there is nothing to publish.")
    places = [reading.places.of(index) for index in indices]
    known = set(places)
    model = models.model(reading)
    by_layer: dict[int, list[int]] = {}
    for index, (layer, _) in zip(indices, places, strict=True):
        by_layer.setdefault(layer, []).append(index)
    pages = Pages(
        model,
        set(by_layer),
        lambda layer, neuron: (layer, neuron) in known,
        pieces=reading.begins_words_with_space,
    )
    heads = reading.run.set_name == HEADS
    progress = stage("Publishing", len(indices), f"{reading.units.noun}s")
    with new_folder(folder) as made:
        index = _Index(reading)
        for number, (at, (layer, neuron)) in enumerate(zip(indices, places, strict=True), 1):
            page = read_neuron(reading, layer, neuron, REACH["peak"])
            (made / str(layer)).mkdir(exist_ok=True)
            unit_notes = (notes or {}).get((layer, neuron), ())
            html = (
                pages.head(read_head(reading, layer, neuron), unit_notes)
                if heads
                else pages.neuron(page, unit_notes)
            )
            _write(made / str(layer) / f"{neuron}.html", html)
            index.add(page, at)
            progress(number)
        for layer, mine in by_layer.items():
            _write(made / str(layer) / "index.html", _layer(reading, pages, layer, mine))
        first = (
            pages.heads(read_heads(reading), len(indices))
            if heads
            else pages.index(models.gallery(reading), len(indices), named=has_names(reading))
        )
        _write(made / "index.html", first)
        _assets(made / "static", index)
    return len(indices)


def _layer(reading: Reading, pages: Pages, layer: int, indices: list[int]) -> str:
    """The page of a layer with those of its units that the site has."""
    rows = rows_of(reading, indices)
    listed = sorted((neuron_row(row, reading) for row in rows.values()), key=lambda row: -row.max)
    page = models.layer(reading, layer, "max", "desc", 1, None)
    few = page.model_copy(update={"neurons": NeuronList(items=listed, next=None), "other_runs": []})
    plotted = models.scatter(reading, layer, *DEFAULT_AXES, 0)
    has = {row.neuron for row in listed}
    dots = [dot for dot in plotted.dots if dot.neuron in has]
    only = {
        "dots": dots,
        "outliers": plot.outliers(dots, DEFAULT_AXES, models.LABELLED),
        "n_dead": sum(row.dead for row in listed),
    }
    return pages.layer(few, plotted.model_copy(update=only))


class _Index:
    """What the browser searches: one short row a neuron, and the texts of their tokens."""

    def __init__(self, reading: Reading) -> None:
        self._vocabulary = reading.vocabulary
        self._noun = reading.units.noun
        self._scores = scores_of(reading)
        self._names: dict[int, str] = {}
        """By row, of units that have one."""
        self._tokens: dict[int, str] = {}
        self._rows: list[list[Any]] = []

    def add(self, page: NeuronPage, at: int) -> None:
        """Add a unit, which has the index `at` over all layers."""
        peaks = _peaks(page)
        promoted = [token.token_id for token in page.weights.logit_effects.top]
        for token_id in (*peaks, *promoted):
            self._tokens[token_id] = self._vocabulary[token_id]
        stats, effects = page.stats, page.weights.logit_effects
        values = {"layer": page.layer, "neuron": page.neuron, "effect_kurtosis": effects.kurtosis}
        row = [_short(values.get(name, getattr(stats, name, None))) for name in COLUMNS]
        scores = [_short(values[at]) for values in self._scores.values()]
        if page.name is not None:
            self._names[len(self._rows)] = page.name
        self._rows.append([*row, *scores, peaks, promoted])

    def script(self) -> str:
        """The index as a script: a page from a file's address can read nothing else."""
        content = {
            "columns": [*COLUMNS, *self._scores, "peaks", "promotes"],
            "listed": _LISTED_OF_HEADS if self._scores else _LISTED,
            "noun": self._noun,
            "shown": _SHOWN,
            "names": self._names,
            "tokens": self._tokens,
            "rows": self._rows,
        }
        text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
        return f"globalThis.NEURARIUM = {text};\n"


def _peaks(page: NeuronPage) -> list[int]:
    """The tokens that a neuron's top examples peak on, the most frequent first."""
    tops = page.examples.top
    counts = Counter(one.token_ids[one.peak_position - one.start] for one in tops)
    return [token_id for token_id, _ in counts.most_common()]


def _short(value: Any) -> Any:
    """A number in five significant digits."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _assets(folder: Path, index: _Index) -> None:
    folder.mkdir()
    static = assets.folder("static")
    own = (static / "publishing" / "search.css").read_bytes()
    (folder / "site.css").write_bytes(assets.style_sheet() + b"\n" + own)
    for name in ("base/favicon.svg", "publishing/search.js"):
        (folder / Path(name).name).write_bytes((static / name).read_bytes())
    _write(folder / "neurons.js", index.script())


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
