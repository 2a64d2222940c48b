"""The bundled model and corpus, for trying everything offline.

Made by `train.py`; importing this module is cheap.
"""

from pathlib import Path

MODEL_DIR: Path = Path(__file__).parent / "model"
"""A Hugging Face GPT-2 folder: config.json, model.safetensors, tokenizer.json, …"""

DICTIONARIES: tuple[Path, ...] = tuple(
    Path(__file__).parent / "dictionaries" / f"{name}.safetensors"
    for name in ("residual-sae", "mlp-transcoder")
)
"""A sparse autoencoder of the model's residual stream and a transcoder of one of its MLPs, made by
`train_dictionaries.py`; each file has the name of its set of units."""

ATTENTION_ONLY: Path = Path(__file__).parent / "induction"
"""A model of two layers of attention without MLPs, with induction heads, and `checkpoints.json`,
the scores of its heads while it was trained. Made by `train_heads.py`."""

CORPUS_FILE: Path = Path(__file__).parent / "corpus.jsonl.gz"
"""The held-out text, one document per line: `{"text": …, "source": …, "title": …}`."""
