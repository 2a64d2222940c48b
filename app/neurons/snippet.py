"""Code that reproduces a neuron's activation on its top example, with TransformerLens and from this
server."""

from __future__ import annotations

from app.drawing.numbers import exact
from app.neurons.schemas import NeuronPage

_LEGACY = ("NeelNanda/", "ArthurConmy/", "Baidicoot/")
"""Owners of models in TransformerLens's old format."""


def transformer_lens(page: NeuronPage) -> str:
    """Two lines of Python: load the model, and read the activation. Empty without a top example.

    Only the tokens up to the peak are in it: a decoder's activation depends on no later one.
    """
    if not (page.top_token_ids and page.examples.top):
        return ""
    run, top, group = page.run, page.examples.top[0], page.run.units.group
    place = ", ".join(map(str, divmod(page.neuron, group))) if group else str(page.neuron)
    ids = ", ".join(map(str, page.top_token_ids))
    imports = "import torch; from transformer_lens.model_bridge import TransformerBridge; "
    cached = f'model.run_with_cache(torch.tensor([[{ids}]]))[1]["{page.hook_point}"][0'
    remark = f"  # {_plain(top.peak)} in {run.dtype}"
    if page.dictionary is None:
        return f"{imports}model = {_boot(page)}\n{cached}, {top.peak_position}, {place}]{remark}"
    # Layouts of files differ, so Neurarium itself reads the dictionary and computes its formula.
    own = page.dictionary
    file = own.file if own.on_hub else f"path/to/{own.file}"
    read = f'read_dictionary("{file}", {page.layer}, "{own.hook_point}")'
    return (
        f"{imports}from neurarium import read_dictionary; model = {_boot(page)}\n"
        f"{read}.encode({cached}, {top.peak_position}])[{page.neuron}]{remark}"
    )


def from_json(page: NeuronPage, address: str) -> str:
    """A line of Python that reads the peak from this server. Empty without a top example."""
    if not page.examples.top:
        return ""
    return (
        "import json, urllib.request; "
        f'json.load(urllib.request.urlopen("{address}"))["examples"]["top"][0]["peak"]'
        f"  # {_plain(page.examples.top[0].peak)}"
    )


def _boot(page: NeuronPage) -> str:
    run = page.run
    if run.model_id.startswith(_LEGACY):
        return f'TransformerBridge.boot_tl_legacy("{run.model_id}")'
    # A model without a revision was on the indexer's machine: its path is the reader's to know.
    name = run.model_id if run.revision else f"path/to/{run.model_id}"
    revision = f', revision="{run.revision}"' if run.revision else ""
    return f'TransformerBridge.boot_transformers("{name}"{revision}, dtype=torch.{run.dtype})'


def _plain(value: float) -> str:
    return exact(value).replace("\N{MINUS SIGN}", "-")
