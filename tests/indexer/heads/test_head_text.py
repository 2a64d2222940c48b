"""One head on one text: ablated and patched, against plain transformers models changed by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from indexer.heads.decompose import decompose
from indexer.heads.effects import heads_of
from indexer.heads.text import Donor, head_effects_on_text, mean_output, read_donor, read_layer
from indexer.interventions.predict import Predicted
from indexer.models.loaded import LoadedModel
from tests.helpers.tiny_heads import Eager, eager, tiny_heads
from tests.helpers.tiny_models import some_tokens

LAYER, HEAD, LENGTH = 1, 2, 9


@pytest.fixture(scope="module", params=["gpt2", "gpt_neox", "llama"])
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, LoadedModel, Tensor, Eager]:
    """A tiny model's folder, the model, two texts, and what an eager model makes of them."""
    folder = tmp_path_factory.mktemp("text") / request.param
    model = tiny_heads(folder, request.param)
    tokens = some_tokens(2, LENGTH)
    return folder, model, tokens, eager(folder, model, tokens)


@torch.no_grad()
def by_hand(
    folder: Path, model: LoadedModel, tokens: Tensor, change: Callable[[Tensor], None]
) -> Tensor:
    """The last log-probabilities of a plain model whose head's outputs [pos, d_head] `change`
    changes."""
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    out = model.layout.component(plain, f"blocks.{LAYER}.attn.o")
    assert out is not None

    def hook(_: Any, args: tuple[Any, ...]) -> Any:
        outputs = args[0].clone()
        change(outputs.view(LENGTH, heads_of(model).widths[LAYER], -1)[:, HEAD])
        return (outputs,)

    out.register_forward_pre_hook(hook)
    logits = plain.eval()(input_ids=tokens[None], use_cache=False).logits[0, -1]
    found: Tensor = logits.double().log_softmax(-1)
    return found


def check(given: Predicted | None, log_p: Tensor, as_is: Tensor) -> None:
    """A prediction has these log-probabilities, and this divergence from `as_is`."""
    assert given is not None
    best, ids = log_p.topk(len(given.token_ids))
    assert list(given.token_ids) == ids.tolist()
    np.testing.assert_allclose(given.probabilities, best.exp(), rtol=1e-4)
    np.testing.assert_allclose(given.as_is, as_is.exp()[ids], rtol=1e-4)
    divergence = float((as_is.exp() * (as_is - log_p)).sum())
    assert given.divergence == pytest.approx(divergence, rel=1e-2, abs=1e-6)


def test_a_head_is_ablated_and_patched(
    saved: tuple[Path, LoadedModel, Tensor, Eager],
) -> None:
    """Zero, mean, another text's pattern over this text's values, another text's output."""
    folder, model, tokens, truth = saved
    text, other = tokens[0], tokens[1]
    outputs = [
        row.view(LENGTH, heads_of(model).widths[LAYER], -1)[:, HEAD] for row in truth.outputs[LAYER]
    ]
    values = truth.values(LAYER, LENGTH)[0, HEAD].float()
    pattern = truth.patterns[LAYER][1, HEAD]
    inside = [1, 2, 5, 6, 8]  # the others stand for special tokens of a tokenised row
    mean = torch.cat([outputs[0][1:], outputs[1][inside]]).mean(0)
    contexts = [(text.tolist(), list(range(1, LENGTH))), (other.tolist(), inside)]
    own = mean_output(model, LAYER, HEAD, contexts)
    torch.testing.assert_close(own, mean, rtol=1e-4, atol=1e-6)
    donor = read_donor(model, LAYER, HEAD, other.tolist())
    found = head_effects_on_text(
        model, LAYER, HEAD, text.tolist(), first=1, mean=own, donor=donor, k=5
    )
    as_is = by_hand(folder, model, text, lambda _: None)
    check(found.as_is, as_is, as_is)
    for given, value in (
        (found.zero_ablated, torch.zeros_like(mean)),
        (found.mean_ablated, mean),
    ):
        check(given, by_hand(folder, model, text, lambda z, v=value: z[1:].copy_(v)), as_is)
    patched = by_hand(folder, model, text, lambda z: z.copy_(pattern @ values))
    check(found.pattern_patched, patched, as_is)
    patched = by_hand(folder, model, text, lambda z: z.copy_(outputs[1]))
    check(found.output_patched, patched, as_is)
    assert found.output_patched is not None
    assert found.output_patched.divergence > 1e-6


def test_without_another_text_nothing_is_patched(
    saved: tuple[Path, LoadedModel, Tensor, Eager],
) -> None:
    """A head patched with itself changes nothing; without a donor there is no patch."""
    _, model, tokens, _ = saved
    text = tokens[0].tolist()
    own: Donor = read_donor(model, LAYER, HEAD, text)
    mean = torch.zeros(own.outputs.shape[1])
    same = head_effects_on_text(model, LAYER, HEAD, text, first=0, mean=mean, donor=own)
    for patched in (same.pattern_patched, same.output_patched):
        assert patched is not None
        assert patched.divergence < 1e-9
    alone = head_effects_on_text(model, LAYER, HEAD, text, first=0, mean=mean)
    assert alone.pattern_patched is None
    assert alone.output_patched is None
    assert alone.zero_ablated.divergence == pytest.approx(alone.mean_ablated.divergence, rel=1e-3)


def test_a_layer_is_read_as_an_eager_model_reads_it(
    saved: tuple[Path, LoadedModel, Tensor, Eager],
) -> None:
    """All patterns of a layer, and direct effects on next tokens and on the token asked for."""
    _, model, tokens, truth = saved
    text = tokens[0].tolist()
    found = read_layer(model, LAYER, text, 7)
    np.testing.assert_allclose(found.patterns, truth.patterns[LAYER][0], rtol=1e-4, atol=1e-6)
    parts = decompose(model, tokens[0], torch.tensor([*text[1:], 7]))
    assert parts is not None
    assert found.effects is not None
    np.testing.assert_allclose(found.effects, parts.heads[:, LAYER], rtol=1e-3, atol=1e-5)
