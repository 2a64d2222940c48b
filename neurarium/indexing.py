"""Indexes a model that is in memory: the command's run, with the model and the texts given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from app.settings import Settings
from indexer.config import Execution, IndexConfig, check_name
from indexer.corpus.in_memory import open_in_memory
from indexer.corpus.rows import RequestedColumns
from indexer.errors import NeurariumError
from indexer.models.given import borrowed
from indexer.run.index import index_choice
from indexer.scan.choice import InMemory, choose_given
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
"""Options of the command that mean nothing here, and why."""


def index_in_memory(
    model: Any,
    tokenizer: Any,
    texts: Iterable[Any],
    *,
    name: str,
    hook_point: str | None,
    database: str | Path | None,
    source: str | None,
    progress: bool,
    options: Mapping[str, Any],
) -> Model:
    """As `neurarium.index`. Raises NeurariumError before anything is computed for what it can."""
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    check_name(name)
    of_run, of_execution = _split(options)
    config = IndexConfig(model=name, hook_point=hook_point, **of_run)
    execution = Execution(**of_execution)
    wanted = RequestedColumns(config.text_column, config.source_column)
    corpus = open_in_memory(texts, wanted, source)
    url, cache = database_url(database), Settings().cache_dir
    with borrowed(model, name) as plain, reporter_here() if progress else Quiet() as reporter:
        choice = choose_given(config, InMemory(plain, tokenizer, corpus))
        outcome = index_choice(choice, url, cache, reporter, execution)
    reader = Local(url)
    return Model(reader, reader.model(name, outcome.run_id), name, outcome.run_id)


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
