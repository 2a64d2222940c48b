"""The bundled model and corpus, so that everything can be tried at once and offline.

`train.py` made both; this module only says where they are, so importing it costs nothing.
"""

from pathlib import Path

MODEL_DIR: Path = Path(__file__).parent / "model"
"""A Hugging Face GPT-2 folder: config.json, model.safetensors, tokenizer.json, …"""

CORPUS_FILE: Path = Path(__file__).parent / "corpus.jsonl.gz"
"""The held-out text, one document a line: `{"text": …, "source": …, "title": …}`."""
