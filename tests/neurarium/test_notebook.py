"""A notebook that does what docs/python.md says, executed from its first cell to its last."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]

CELLS = (
    "import neurarium\nstore = neurarium.open(DATABASE)\nstore",
    "neuron = store.model('demo').neuron(1, 349)\nneuron",
    "frame = store.model('demo').layer(1).to_pandas()\nassert len(frame) == 640\nframe.head()",
    "assert store.model('demo').layer(1).to_polars()['max'].to_list() == frame['max'].to_list()",
    "store.model('demo').search(token=' def')",
    "store.model('demo').find('max>3 density<20%')",
    "live = neuron.activations('def f(x):\\n    return x')\n"
    "assert len(live.tokens) == len(live.activations)\nlive.peak",
    "assert len(repr(live)) < 100 and len(repr(live.data)) <= 200\nlive",
    "server = neurarium.serve(store)\n"
    "there = neurarium.connect(server.url)\n"
    "assert there.model('demo').neuron(1, 349).to_dict() == neuron.to_dict()\n"
    "server.stop()",
    "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
    "from indexer.demo import MODEL_DIR\n"
    "model = AutoModelForCausalLM.from_pretrained(MODEL_DIR)\n"
    "tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)\n"
    "texts = [f'def f{i}(x):\\n    return x + {i}\\n' for i in range(300)]\n"
    "run = neurarium.index(model, tokenizer, texts, name='mine', database='mine.db', sample=32)\n"
    "run",
    "run.neuron(0, 0)",
)


def test_a_notebook_from_its_first_cell_to_its_last(
    demo_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every cell runs, neurons show as cards, and indexing shows a bar."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("NEURARIUM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    cells = [f"DATABASE = {demo_store!r}", *CELLS]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    client = NotebookClient(
        notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    shown = [
        output.get("data", {}).get("text/html", "")
        for cell in notebook.cells
        for output in cell.outputs
    ]
    assert sum(html.startswith("<iframe sandbox") for html in shown) == 2
    assert any("<progress" in html for html in shown)
    assert any("<table" in html and "peak_token" in html for html in shown)
