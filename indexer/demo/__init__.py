"""The bundled model and corpus, for trying everything offline.

Made by `train.py`; importing this module is cheap.
"""

from pathlib import Path, PurePath

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

BUNDLED: dict[str, Path] = {f"demo:{path.stem}": path for path in (*DICTIONARIES, ATTENTION_ONLY)}
"""What is bundled beside the model `demo`. Runs store these names, since the package may move."""
_ROOT = Path(__file__).parent.parent.parent


def bundled(reference: str) -> Path | None:
    """The file or folder of a name of `BUNDLED`, or of the path that a run stored before there were
    names, where nothing is at that path any more; None for anything else."""
    if (path := BUNDLED.get(reference)) is not None:
        return path
    parts = PurePath(reference).parts
    for path in BUNDLED.values():
        own = path.relative_to(_ROOT).parts
        if parts[-len(own) :] == own and not Path(reference).exists():
            return path
    return None


def bundled_name(path: Path) -> str | None:
    """The name in `BUNDLED` of a file or folder; None for anything else."""
    resolved = path.resolve()
    return next((name for name, own in BUNDLED.items() if own.resolve() == resolved), None)
