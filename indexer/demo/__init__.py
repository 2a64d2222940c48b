"""The bundled model and corpus, for trying everything offline.

Made by `train.py`; importing this module is cheap.
"""

from pathlib import Path

MODEL_DIR: Path = Path(__file__).parent / "model"
"""A Hugging Face GPT-2 folder: config.json, model.safetensors, tokenizer.json, …"""

CORPUS_FILE: Path = Path(__file__).parent / "corpus.jsonl.gz"
"""The held-out text, one document per line: `{"text": …, "source": …, "title": …}`."""
