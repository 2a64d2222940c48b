"""What the units of notes are called: notes are kept by index, names are in the runs."""

from __future__ import annotations

from dataclasses import replace

from app.errors import NotFound
from app.notes.service import NotesRead
from app.reading.runs import units_ref
from app.reading.store import Store
from app.reading.unit_names import name_at
from app.schemas import Note
from app.sets import ModelSet
from indexer.store.notes import Place


def label_of(store: Store, place: Place, run: int | None) -> str:
    """A unit's noun, index and name in a run, by default the default one. Raises NotFound."""
    with store.reading(ModelSet.parse(place.model), run) as reading:
        reading.index_of(place.layer, place.neuron)
        name = name_at(reading, place.layer, place.neuron)
        return units_ref(reading.run).label(place.neuron, name)


def named(store: Store, read: NotesRead) -> NotesRead:
    """Notes with the names that their units have in their sets' default runs."""
    found: dict[tuple[str, int, int], str | None] = {}
    for model in {note.model for note in read.items}:
        places = {(note.layer, note.neuron) for note in read.items if note.model == model}
        found |= {(model, *place): name for place, name in _names(store, model, places).items()}
    items = [_called(note, found.get((note.model, note.layer, note.neuron))) for note in read.items]
    return replace(read, items=items)


def _names(store: Store, model: str, places: set[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """The names of a set's units at `places`; nothing for units that are in no run any more."""
    names = {}
    try:
        with store.reading(ModelSet.parse(model), None) as reading:
            for layer, unit in places:
                try:
                    reading.index_of(layer, unit)
                except NotFound:
                    continue
                if (name := name_at(reading, layer, unit)) is not None:
                    names[layer, unit] = name
    except NotFound:
        return {}
    return names


def _called(note: Note, name: str | None) -> Note:
    return note if name is None else note.model_copy(update={"name": name})
