"""The commands `index`, `merge` (a run scanned in shards) and `verify` (a run already written)."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from app.cli.console import (
    Database,
    address_of,
    err,
    escaped,
    open_store_of,
    out,
    say,
    settings_of,
)
from app.cli.options import build, parameter, parameters, typer_option, whole_number
from app.settings import Settings
from indexer.config import Execution, IndexConfig
from indexer.errors import NeurariumError
from indexer.several import settings_of_sets

_MEMORY = typer_option(next(field for field in fields(Execution) if field.name == "memory"))
_Neurons = Annotated[
    bool,
    typer.Option(
        "--neurons",
        help="Index the MLP neurons beside the sets that --heads and --dictionary name: all are "
        "captured in one forward pass, and each is a run of its own.",
    ),
]
_Shard = Annotated[
    str | None,
    typer.Option(
        help="Scan only one of several shares: 2/8 is the second of eight. Needs --state. "
        "`neurarium merge` puts the shares together."
    ),
]


def index(**values: Any) -> None:
    """Index a model over a corpus: one page for each neuron, latent or head.

    If it is stopped or killed, the same command resumes from the last checkpoint.
    """
    configs = configs_of(values)
    execution = build(Execution, values)
    database: str | None = values["database"]
    settings = settings_of(database)
    _check(configs, execution, values["shard"], settings)
    if values["shard"] is not None:
        _scan_shard(configs[0], values["shard"], settings, execution)
        return
    run_index(configs, settings, execution)
    command = "Serve it with: [bold]neurarium serve[/]" + _database_option(database)
    out.print(command, highlight=False, soft_wrap=True)


def configs_of(values: Mapping[str, Any]) -> list[IndexConfig]:
    """The sets of units that a command names, a run each. Raises NeurariumError where an option
    could mean several."""
    dictionaries = list(values["dictionary"] or ())
    sets = settings_of_sets(values, neurons=bool(values["neurons"]), dictionaries=dictionaries)
    return [build(IndexConfig, settings) for settings in sets]


def _check(
    configs: list[IndexConfig], execution: Execution, shard: str | None, settings: Settings
) -> None:
    """Refuse mistakes in the arguments before the model libraries are imported, which takes
    seconds. Raises NeurariumError."""
    from indexer.reporter import waiting
    from indexer.run.shard import Shard, shared_folder
    from indexer.run.state_folder import check_writable
    from indexer.scan.choice import asking_hub, check_corpus, check_device, check_there, resolve
    from indexer.workers.needed import check_workers

    choices = [resolve(config) for config in configs]
    check_workers(execution)
    if execution.state is not None:
        check_writable(execution.state)
    with asking_hub(choices[0].source, say):
        check_there(choices[0])
    if shard is not None:
        Shard.parse(shard)
        shared_folder(execution.state)
    else:
        open_store_of(settings, create=True).dispose()
    with waiting(say, f"the corpus {choices[0].corpus}"):
        check_corpus(choices[0])
    check_device(choices[0])


def _index_parameters() -> list[inspect.Parameter]:
    """All options of a run, and those that only the command line has, in the order of --help."""
    options = [*parameters(IndexConfig), *parameters(Execution)]
    names = [option.name for option in options]
    dictionary = options[names.index("dictionary")]
    several = list[str] | None
    options[names.index("dictionary")] = dictionary.replace(
        annotation=Annotated[several, *dictionary.annotation.__metadata__]
    )
    options.insert(names.index("workers"), parameter("shard", _Shard, None))
    options.insert(names.index("seed"), parameter("database", Database, None))
    options.insert(names.index("heads"), parameter("neurons", _Neurons, False))
    return options


# Typer makes a command's options from the signature of its function.
cast("Any", index).__signature__ = inspect.Signature(_index_parameters())


def merge(
    state: Annotated[Path, typer.Argument(help="The folder that all shards had as --state.")],
    database: Database = None,
    memory: Annotated[float | None, _MEMORY] = None,
) -> None:
    """Put the shards of a run together and write the run to the database."""
    from app.cli.progress import ConsoleReporter
    from indexer.run.shard import count_of

    settings = settings_of(database)
    execution = build(Execution, {"memory": memory})
    count_of(state)
    open_store_of(settings, create=True).dispose()
    from indexer.run.shards import merge as merge_shards  # takes seconds

    with _stoppable(), ConsoleReporter(out) as reporter:
        outcome = merge_shards(
            state, settings.database_url, settings.cache_dir, reporter, execution
        )
    _print_summary(outcome, settings)
    out.print(f"{escaped(state)} can be deleted.", highlight=False, soft_wrap=True)


def verify(
    run: Annotated[
        int, typer.Argument(help="The run's number: see `neurarium runs`.", **whole_number(1))
    ],
    neurons: Annotated[
        int,
        typer.Option(
            help="How many random neurons to recompute the examples of.", **whole_number(1)
        ),
    ] = 200,
    contexts: Annotated[
        int,
        typer.Option(
            help="How many random contexts to check against the top and bottom examples of all "
            "neurons.",
            **whole_number(1),
        ),
    ] = 2000,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of the random choice. Default: a new one each time, which is printed.",
            **whole_number(0),
        ),
    ] = None,
    model_path: Annotated[
        Path | None, typer.Option(help="Where the run's model is now, if it was moved.")
    ] = None,
    corpus_path: Annotated[
        Path | None, typer.Option(help="Where the run's corpus is now, if it was moved.")
    ] = None,
    dictionary_path: Annotated[
        str | None,
        typer.Option(
            help="Where the run's dictionaries are now, separated by commas, if they were moved."
        ),
    ] = None,
    database: Database = None,
) -> None:
    """Recompute part of a run with its model. Exit code 1 if anything differs from the store."""
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    from app.cli.progress import ConsoleReporter
    from app.sets import name_of as address_name
    from app.web.urls import neuron as address
    from indexer.store.runs import list_runs
    from indexer.verify.report import report_lines

    settings = settings_of(database)
    given = [("--model-path", model_path), ("--corpus-path", corpus_path)]
    given += [("--dictionary-path", Path(part)) for part in (dictionary_path or "").split(",")]
    for option, path in given:
        if path is not None and not path.expanduser().exists():
            raise NeurariumError(f"{option} {path}: there is no such file or folder.")
    engine = open_store_of(settings, create=False)
    try:
        if run not in {listed.id for listed in list_runs(engine)}:
            raise NeurariumError(f"There is no run {run}: `neurarium runs` lists all runs.")
        from indexer.verify.run import verify as verify_run  # takes seconds

        with ConsoleReporter(out) as reporter:
            stored, findings = verify_run(
                engine,
                run,
                settings.cache_dir,
                reporter,
                neurons=neurons,
                contexts=contexts,
                seed=seed,
                model_path=model_path,
                corpus_path=corpus_path,
                dictionary_path=dictionary_path,
            )
    except KeyboardInterrupt:
        err.print("Stopped.")
        raise typer.Exit(130) from None
    finally:
        engine.dispose()
    link = partial(address, address_name(stored.model, stored.set_name), run=run)
    for line in report_lines(findings, stored.noun, link):
        out.print(escaped(line), highlight=False, soft_wrap=True)
    raise typer.Exit(1 if findings.count else 0)


@contextmanager
def _stoppable() -> Iterator[None]:
    """If the user stops the run: one line, and the exit code of an interrupt."""
    # Else transformers asks a hub service, in a thread, to convert weights in an old format.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    from indexer.run.stopping import Stopped

    try:
        yield
    except Stopped as stopped:
        err.print(escaped(stopped), highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None
    except KeyboardInterrupt:
        err.print(
            "Stopped: the database is unchanged. The same command resumes from the last "
            "checkpoint, or starts again if there is none yet.",
            soft_wrap=True,
        )
        raise typer.Exit(130) from None


def _scan_shard(config: Any, shard: str, settings: Settings, execution: Any) -> None:
    from app.cli.progress import ConsoleReporter
    from indexer.run.shard import Shard
    from indexer.run.shards import scan_shard

    with _stoppable(), ConsoleReporter(out) as reporter:
        parsed = Shard.parse(shard)
        folder = scan_shard(config, parsed, settings.cache_dir, reporter, execution)
    out.print(
        f"Shard {parsed.number} of {parsed.count} is done. When all shards are done, run "
        f"[bold]neurarium merge {escaped(folder)}[/]",
        highlight=False,
        soft_wrap=True,
    )


def run_index(
    configs: list[IndexConfig], settings: Settings, execution: Execution | None = None
) -> None:
    """Index one or several sets of units of a model and print a summary of each."""
    from app.cli.progress import ConsoleReporter
    from indexer.run.index import index_sets
    from indexer.scan.choice import resolve

    choices = [resolve(config) for config in configs]
    with _stoppable(), ConsoleReporter(out) as reporter:
        outcomes = index_sets(
            choices, settings.database_url, settings.cache_dir, reporter, execution
        )
    for outcome in outcomes:
        _print_summary(outcome, settings)


def _print_summary(outcome: Any, settings: Settings) -> None:
    from app.sets import name_of
    from indexer.memory import readable_bytes

    # A run that was killed after it was written is neither scanned nor written again.
    seconds = {"scan": 0.0, "write": 0.0} | outcome.seconds
    # For a resumed run the time covers only its last part.
    rate = outcome.plan.tokens / max(seconds["scan"], 1e-9)
    speed = "" if outcome.resumed else f" ({rate:,.0f} tokens/s)"
    out.print(
        f"Run {outcome.run_id}: {outcome.plan.neurons:,} {outcome.noun}s of "
        f"{escaped(outcome.model)} "
        f"over {outcome.plan.tokens:,} tokens. Prepared in {seconds['prepare']:.1f} s, scanned in "
        f"{seconds['scan']:.1f} s{speed}, written in {seconds['write']:.1f} s; "
        f"peak memory {readable_bytes(outcome.peak_memory)}.",
        highlight=False,
        soft_wrap=True,
    )
    name = name_of(outcome.model, outcome.set_name)
    page = f"First page: {address_of(settings)}/{name}/{outcome.first_layer}/0"
    out.print(page, highlight=False, soft_wrap=True)
    for warning in outcome.warnings:
        err.print(escaped(warning), highlight=False, soft_wrap=True)


def _database_option(database: str | None) -> str:
    return f" --database {escaped(database)}" if database else ""
