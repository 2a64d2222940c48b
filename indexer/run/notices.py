"""Lines that the user reads before a scan: what may be wrong, and which runs the new run takes over
the pages of."""

from __future__ import annotations

from sqlalchemy import Engine

from indexer.store.runs import list_runs
from indexer.store.units import NEURONS

FEW_TOKENS = 10_000
"""With fewer tokens the user is warned that statistics mean little."""


def few_tokens(tokens: int) -> list[str]:
    """A line for the user if a corpus is too small for statistics."""
    if tokens >= FEW_TOKENS:
        return []
    return [
        f"Warning: {tokens:,} tokens are too few for statistics: densities, histograms, "
        f"quantiles and correlations mean little under about {FEW_TOKENS:,}."
    ]


def left_over(unused: tuple[str, ...]) -> list[str]:
    """A line for the user if weights of the checkpoint are not used."""
    if not unused:
        return []
    named = ", ".join(unused[:3]) + (", …" if len(unused) > 3 else "")
    return [
        "Warning: the checkpoint has weights that its config.json leaves no place for, and they "
        f"are not used ({len(unused)}: {named}). Activations may not be those of the model that "
        "was trained: restore the config.json that belongs to it."
    ]


def namesakes(engine: Engine, name: str, model_id: str, set_name: str = NEURONS) -> list[str]:
    """Lines for the user about earlier runs of this name and set of units, whose pages the new run
    takes over."""
    runs = [run for run in list_runs(engine) if (run.model, run.set_name) == (name, set_name)]
    if not runs:
        return []
    numbers = ", ".join(str(run.id) for run in runs)
    earlier = f"run {numbers} stays" if len(runs) == 1 else f"runs {numbers} stay"
    if others := sorted({run.model_id for run in runs} - {model_id}):
        return [
            f"Note: {name} is also the name of another model here ({', '.join(others)}). Its pages "
            f"will show the new run, and {earlier} at ?run=; choose another name with --name."
        ]
    what = name if set_name == NEURONS else f"{name}/{set_name}"
    return [f"{what} is indexed again: {earlier} at ?run=, and may be deleted."]
