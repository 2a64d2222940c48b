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
from app.export.write import sorted_unique
from app.models import queries as models
from app.neurons.queries import neuron as read_neuron
from app.neurons.schemas import NeuronPage
from app.publishing.pages import Pages
from app.reading.neurons import neuron_row, rows_of
from app.reading.store import Reading
from app.reading.unit_names import has_names
from app.web import assets
from indexer.errors import NeurariumError

COLUMNS = ("layer", "neuron", "max", "min", "mean", "std", "density", "kurtosis", "effect_kurtosis")
"""The statistics in the index of the search."""
_SHOWN = 4
"""Peak tokens beside a neuron that was found; the index has all of its top examples."""


def publish(
    reading: Reading,
    folder: Path,
    choice: Choice,
    stage: Callable[[str, int | None, str], Progress],
) -> int:
    """Write a site of the chosen neurons, and return how many pages of neurons it has.

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
    said = f"This site was made of run {model.run.id} by Neurarium."
    pages = Pages(model, said, lambda layer, neuron: (layer, neuron) in known)
    progress = stage("Publishing", len(indices), f"{reading.units.noun}s")
    counts: dict[int, int] = {}
    with new_folder(folder) as made:
        index = _Index(reading)
        for number, (layer, neuron) in enumerate(places, 1):
            page = read_neuron(reading, layer, neuron, REACH["peak"])
            counts[layer] = counts.get(layer, 0) + 1
            (made / str(layer)).mkdir(exist_ok=True)
            _write(made / str(layer) / f"{neuron}.html", pages.neuron(page))
            index.add(page)
            progress(number)
        for layer in counts:
            mine = [at for at, place in zip(indices, places, strict=True) if place[0] == layer]
            rows = rows_of(reading, mine)
            listed = [neuron_row(rows[at], reading) for at in mine]
            _write(made / str(layer) / "index.html", pages.layer(layer, listed))
        _write(made / "index.html", pages.index(counts, named=has_names(reading)))
        _assets(made / "static", index)
    return len(indices)


class _Index:
    """What the browser searches: one short row a neuron, and the texts of their tokens."""

    def __init__(self, reading: Reading) -> None:
        self._vocabulary, self._noun = reading.vocabulary, reading.units.noun
        self._names: dict[int, str] = {}
        self._tokens: dict[int, str] = {}
        self._rows: list[list[Any]] = []

    def add(self, page: NeuronPage) -> None:
        """Add a neuron."""
        peaks = _peaks(page)
        promoted = [token.token_id for token in page.weights.logit_effects.top]
        for token_id in (*peaks, *promoted):
            self._tokens[token_id] = self._vocabulary[token_id]
        stats, effects = page.stats, page.weights.logit_effects
        values = {"layer": page.layer, "neuron": page.neuron, "effect_kurtosis": effects.kurtosis}
        row = [_short(values.get(name, getattr(stats, name, None))) for name in COLUMNS]
        if page.name is not None:
            self._names[len(self._rows)] = page.name
        self._rows.append([*row, peaks, promoted])

    def script(self) -> str:
        """The index as a script: a page from a file's address can read nothing else."""
        content = {
            "columns": [*COLUMNS, "peaks", "promotes"],
            "shown": _SHOWN,
            "noun": self._noun,
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
