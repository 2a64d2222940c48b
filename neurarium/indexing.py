"""Indexes a model that is in memory: the command's runs, with the model and the texts given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from app.sets import name_of
from app.settings import from_environment
from indexer.config import Execution, IndexConfig, check_name
from indexer.corpus.in_memory import open_in_memory
from indexer.corpus.rows import RequestedColumns
from indexer.errors import NeurariumError
from indexer.models.given import borrowed
from indexer.run.index import index_sets
from indexer.scan.choice import InMemory, choose_given
from indexer.several import settings_of_sets
from neurarium.local import Local, database_url
from neurarium.objects import Model
from neurarium.progress import Quiet, reporter_here

_LOADING = {
    "model": "the model is given",
    "corpus": "the texts are given",
    "revision": "the model is in memory",
    "split": "choose the split of your data set before",
    "dtype": "the model is used in its own: model.to(dtype) changes it",
    "device": "the model is used where it is: model.to(device) moves it",
    "trust_remote_code": "the model is in memory",
    "workers": "a model in memory runs in this process",
    "ray_address": "a model in memory runs in this process",
}
"""Options of the command that `neurarium.index` does not take, and why."""


def one_set(options: Mapping[str, Any]) -> dict[str, Any]:
    """What `index_in_memory` takes for one set of units. Raises NeurariumError if `options` name
    several."""
    dictionary = options.get("dictionary")
    listed = dictionary is not None and not isinstance(dictionary, str)
    if listed or "neurons" in options or (dictionary is not None and options.get("heads")):
        raise NeurariumError(
            "neurarium.index makes one run: name several sets of units to neurarium.index_sets."
        )
    rest = {name: value for name, value in options.items() if name != "dictionary"}
    dictionaries = () if dictionary is None else (dictionary,)
    return {"neurons": False, "dictionaries": dictionaries, "options": rest}


def index_in_memory(
    model: Any,
    tokenizer: Any,
    texts: Iterable[Any],
    *,
    name: str,
    neurons: bool,
    dictionaries: Sequence[str],
    database: str | Path | None,
    source: str | None,
    progress: bool,
    options: Mapping[str, Any],
) -> list[Model]:
    """As `neurarium.index_sets`. Raises NeurariumError before anything is computed for what it
    can."""
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    check_name(name)
    if "dictionary" in options:
        raise NeurariumError("dictionary is no option here: name all in dictionaries=[…].")
    of_run, of_execution = _split(options)
    sets = settings_of_sets(
        {"state": of_execution.get("state"), **of_run}, neurons=neurons, dictionaries=dictionaries
    )
    known = {field.name for field in fields(IndexConfig)}
    configs = [
        IndexConfig(model=name, **{key: value for key, value in each.items() if key in known})
        for each in sets
    ]
    execution = Execution(**of_execution)
    wanted = RequestedColumns(configs[0].text_column, configs[0].source_column)
    corpus = open_in_memory(texts, wanted, source)
    url, cache = database_url(database), from_environment().cache_dir
    with borrowed(model, name) as plain, reporter_here() if progress else Quiet() as reporter:
        given = InMemory(plain, tokenizer, corpus)
        choices = [choose_given(config, given) for config in configs]
        outcomes = index_sets(choices, url, cache, reporter, execution)
    reader = Local(url)
    found = [(str(name_of(name, outcome.set_name)), outcome.run_id) for outcome in outcomes]
    return [Model(reader, reader.model(full, run), full, run) for full, run in found]


def _split(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of the run and those of its execution. Raises NeurariumError for others."""
    of_run = {field.name for field in fields(IndexConfig)} - _LOADING.keys() - {"name"}
    of_execution = {field.name for field in fields(Execution)} - _LOADING.keys()
    for name in options:
        if name in _LOADING:
            raise NeurariumError(f"{name} is no option here: {_LOADING[name]}.")
        if name not in of_run | of_execution:
            known = ", ".join(sorted(of_run | of_execution - {"hook_point"}))
            raise NeurariumError(f"There is no option {name!r}: choose {known}.")
    return (
        {name: value for name, value in options.items() if name in of_run},
        {name: value for name, value in options.items() if name in of_execution},
    )
