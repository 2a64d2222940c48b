"""Verifying runs of latents: clean ones pass, whatever decides that a latent fires, and each kind
of fault in what is stored of where they fire is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexer.store import schema
from tests.helpers.small_latents import LATENTS, save_dictionaries
from tests.helpers.verify_cases import (
    KIND,
    SmallRun,
    change,
    examples_of,
    lines_of,
    lists_of,
    make,
    only,
    put,
    save_llama,
    set_neuron,
    verified,
    with_value,
)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A run of latents that jump over a threshold, and of latents that must be the largest."""
    folder = tmp_path_factory.mktemp("latents")
    model = save_llama(folder / "llama")
    dictionary = save_dictionaries(folder / "own")
    return make(folder / "run", model, window=9, dictionary=dictionary, force=True)


@pytest.fixture
def small(clean: SmallRun, tmp_path: Path) -> SmallRun:
    """A copy of the run, to be damaged."""
    return clean.copy(tmp_path)


def test_a_clean_run_of_latents_passes(clean: SmallRun) -> None:
    """Everything is compared: lists that are short, empty and full."""
    findings = verified(clean)
    assert lines_of(findings) == []
    tallies = findings.tallies
    assert tallies["densities: positions at which units fire"].compared == 2 * LATENTS
    contexts = tallies["beyond maximum or minimum"].compared // (4 * LATENTS)
    assert tallies["contexts in which units fire"].compared == 2 * LATENTS * contexts
    lists = [lists_of(clean, (0, unit)) for unit in range(LATENTS)]
    counts = {len(kinds[KIND["top"]]) if KIND["top"] in kinds else 0 for kinds in lists}
    assert {0, 5} < counts
    assert lines_of(verified(clean, contexts=5, neurons=3)) == []


def test_where_latents_fire_is_checked(small: SmallRun, tmp_path: Path) -> None:
    """A context left out of the random list, a density, a peak, a context of the top list."""
    unit = next(
        unit
        for unit in range(LATENTS)
        if len(examples_of(small, (1, unit), "random")) == 15
        and len(examples_of(small, (1, unit), "top")) == 5
    )
    here, whole = f"layer 1, neuron {unit}", small
    random = examples_of(small, (1, unit), "random")
    put(small, (1, unit), "random", only(random, [*range(3), *range(4, 15)]))
    lines = "\n".join(lines_of(verified(small)))
    assert f"{here}, random: the list has 14 examples, not 15" in lines
    assert (
        f"{here}, random, context {random.context_ids[3]}: should be in the list and is not"
        in lines
    )
    assert f"{here}, band: these are not the first of its random examples in each band" in lines
    put(small, (1, unit), "random", only(random, [1, 0, *range(2, 15)]))
    assert f"{here}, random: it is not in hash order" in "\n".join(lines_of(verified(small)))
    put(small, (1, unit), "random", with_value(random, "peaks", 2, random.peaks[2] * 1.1))
    lines = "\n".join(lines_of(verified(small)))
    assert f"{here}, random, context {random.context_ids[2]}: the peak (stored" in lines
    put(small, (1, unit), "random", random)
    assert lines_of(verified(small)) == []
    set_neuron(whole, (1, unit), density=0.001)
    lines = "\n".join(lines_of(verified(whole)))
    assert f"{here}: it fires at " in lines
    assert "searches have its density as" in lines


def test_a_context_left_out_of_a_short_top_list_is_found(small: SmallRun) -> None:
    """A latent that fires in few contexts has them all; another context is no example of it."""
    unit, top = next(
        (unit, top)
        for unit in range(LATENTS)
        if (top := lists_of(small, (0, unit)).get(KIND["top"])) is not None and 1 < len(top) < 5
    )
    put(small, (0, unit), "top", only(top, list(range(len(top) - 1))))
    lines = "\n".join(lines_of(verified(small)))
    left = top.context_ids[-1]
    assert f"layer 0, neuron {unit}, top, context {left}: should be in the list and is not" in lines


def test_a_latent_that_never_fires_has_no_examples(small: SmallRun) -> None:
    """Its maximum is 0, and an example of it is a finding."""
    top = examples_of(small, (1, 0), "top")
    put(small, (1, 3), "top", top)
    table = schema.neurons
    change(small, lambda c: c.execute(table.update().where(table.c.dead).values(max=0.0)))
    lines = "\n".join(lines_of(verified(small)))
    assert "layer 1, neuron 3, top: the maximum is 0, the peak of its first example" in lines
    assert "layer 1, neuron 3, top, context" in lines
