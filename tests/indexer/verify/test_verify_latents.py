"""Verifying runs of latents: clean ones pass, whatever decides that a latent fires, and each kind
of fault in what is stored of where they fire is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sqlalchemy import select
from torch import Tensor
from transformers import AutoModelForCausalLM

from indexer.corpus.prepared import open_prepared
from indexer.store import schema
from indexer.store.database import open_store
from tests.helpers.dictionary_files import save, some, weights
from tests.helpers.small_latents import LATENTS, SILENT, save_dictionaries
from tests.helpers.tiny_models import WIDTH
from tests.helpers.verify_cases import (
    KIND,
    SmallRun,
    change_histogram,
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

TOP = 30
"""Top examples: more than the contexts in which some latents fire."""


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A run of latents that jump over a threshold, and of latents that must be the largest."""
    folder = tmp_path_factory.mktemp("latents")
    model = save_llama(folder / "llama")
    dictionary = save_dictionaries(folder / "own")
    return make(folder / "run", model, window=9, top_k=TOP, dictionary=dictionary, force=True)


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
    histograms = tallies["histograms: positions at which units fire, by activation"]
    assert (histograms.compared, histograms.wrong) == (2 * LATENTS, 0)
    contexts = tallies["beyond maximum or minimum"].compared // (4 * LATENTS)
    assert tallies["contexts in which units fire"].compared == 2 * LATENTS * contexts
    lists = [lists_of(clean, (0, unit)) for unit in range(LATENTS)]
    counts = {len(kinds[KIND["top"]]) if KIND["top"] in kinds else 0 for kinds in lists}
    assert {0, TOP} < counts, "some latents fire in a few contexts"
    assert lines_of(verified(clean, contexts=5, neurons=3)) == []


def test_latents_of_circuit_tracer_are_zero_at_the_first_position_without_a_bos(
    tmp_path: Path,
) -> None:
    """Which is a text's first token then: their densities are those of a plain formula."""
    folder, w = save_llama(tmp_path / "llama"), weights(0, WIDTH, LATENTS)
    said = {
        "model_kind": "transcoder_set",
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "mlp.hook_out",
    }
    given = {**some(w, "b_enc", "b_dec", "W_dec"), "W_enc": w["W_enc"].T}
    file = save(tmp_path / "own", "layer_1.safetensors", given, ("config.yaml", said))
    small = make(tmp_path / "run", folder, dictionary=str(file.parent), force=True, bos=False)
    assert lines_of(verified(small)) == []

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    reads: list[Tensor] = []
    model.model.layers[1].mlp.register_forward_pre_hook(lambda _, args: reads.append(args[0][0]))
    (place,) = (path for path in (small.cache / "corpora").iterdir() if path.is_dir())
    corpus = open_prepared(place)
    with torch.no_grad():
        for context in range(corpus.contexts):
            model(torch.from_numpy(corpus.context(context).astype(np.int64))[None])
    acts = [torch.relu(read @ w["W_enc"] + w["b_enc"]) for read in reads]
    first = torch.stack([of_context[0] for of_context in acts])
    assert (first > 0).any(), "otherwise there is nothing to leave out"
    fires = torch.cat([of_context[1:] for of_context in acts]) > 0
    engine = open_store(small.url, create=False)
    with engine.connect() as connection:
        stored = connection.scalars(select(schema.neurons.c.density).order_by("id")).all()
    engine.dispose()
    positions = sum(map(len, acts))
    assert stored == pytest.approx((fires.sum(0) / positions).tolist(), abs=1.5 / positions)


def test_every_fault_in_where_latents_fire_is_found(small: SmallRun) -> None:
    """A context left out of a random list, one out of order, a wrong peak, a wrong density; a
    context left out of a short top list; examples of a latent that never fires."""
    full = [
        unit
        for unit in range(LATENTS)
        if len(lists_of(small, (1, unit)).get(KIND["random"], ())) == 15
    ]
    left_out, turned, wrong, rarer, moved, more = full[:6]
    random = {unit: examples_of(small, (1, unit), "random") for unit in full}
    put(small, (1, left_out), "random", only(random[left_out], [*range(3), *range(4, 15)]))
    put(small, (1, turned), "random", only(random[turned], [1, 0, *range(2, 15)]))
    peak = random[wrong].peaks[2] * 1.1
    put(small, (1, wrong), "random", with_value(random[wrong], "peaks", 2, peak))
    set_neuron(small, (1, rarer), density=0.001)
    change_histogram(small, (1, moved), lambda counts: np.roll(counts, 1))
    change_histogram(small, (1, more), lambda counts: counts + (counts == counts.max()))
    short, top = next(
        (unit, top)
        for unit in range(LATENTS)
        if (top := lists_of(small, (0, unit)).get(KIND["top"])) is not None and 1 < len(top) < TOP
    )
    put(small, (0, short), "top", only(top, list(range(len(top) - 1))))
    put(small, (1, SILENT), "top", only(examples_of(small, (1, left_out), "top"), [0]))

    lines = "\n".join(lines_of(verified(small), "latent"))
    missing = "should be in the list and is not"
    for expected in (
        f"layer 1, latent {left_out}, random: the list has 14 examples, not 15",
        f"layer 1, latent {left_out}, random, context {random[left_out].context_ids[3]}: {missing}",
        f"layer 1, latent {left_out}, band: these are not the first of its random examples",
        f"layer 1, latent {turned}, random: it is not in hash order",
        f"layer 1, latent {wrong}, random, context {random[wrong].context_ids[2]}: the peak (stor",
        f"layer 1, latent {rarer}: it fires at ",
        f"layer 1, latent {rarer}: searches have its density as",
        f"layer 1, latent {rarer}: its histogram counts ",
        f"layer 1, latent {moved}: its histogram counts ",
        f"layer 1, latent {more}: its histogram counts ",
        f"layer 0, latent {short}, top, context {top.context_ids[-1]}: {missing}",
        f"layer 1, latent {SILENT}, top: the maximum is 0, the peak of its first example",
        f"layer 1, latent {SILENT}, top, context",
    ):
        assert expected in lines
