"""What a model's name on the command line means: the demo, a short name, a folder, a GGUF file or a
hub id.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from indexer.demo import MODEL_DIR, bundled
from indexer.errors import NeurariumError
from indexer.models.adapters import adapter_alone, adapter_beside, adapter_in
from indexer.paths import absolute

C4_CODE = "NeelNanda/c4-code-tokenized-2b"
PILE_SMALL = "NeelNanda/pile-small-tokenized-2b"
PILE = "NeelNanda/pile-tokenized-10b"
OPENWEBTEXT = "NeelNanda/openwebtext-tokenized-9b"
_SOLU_WIDTHS = {1: 512, 2: 512, 3: 512, 4: 512, 6: 768, 8: 1024, 10: 1280, 12: 1536}
_SOLU_PILE_VERSIONS = {1: 9, 2: 10, 4: 11, 6: 13, 8: 21, 10: 22}
NEUROSCOPE_MODELS: dict[str, tuple[str, str]] = {
    **{
        f"solu-{n}l": (f"NeelNanda/SoLU_{n}L{w}W_C4_Code", C4_CODE) for n, w in _SOLU_WIDTHS.items()
    },
    **{f"gelu-{n}l": (f"NeelNanda/GELU_{n}L512W_C4_Code", C4_CODE) for n in (1, 2, 3, 4)},
    **{
        f"solu-{n}l-pile": (f"NeelNanda/SoLU_{n}L_v{v}_old", PILE_SMALL)
        for n, v in _SOLU_PILE_VERSIONS.items()
    },
    "gpt2-small": ("gpt2", OPENWEBTEXT),
    **{f"gpt2-{size}": (f"gpt2-{size}", OPENWEBTEXT) for size in ("medium", "large", "xl")},
    "pythia-70m": ("EleutherAI/pythia-70m", PILE),
    "pythia-160m": ("EleutherAI/pythia-160m", PILE),
    "pythia-350m": ("EleutherAI/pythia-410m", PILE),
}
"""Neuroscope's 25 names: hub id and default corpus. The corpora are those Neuroscope's own code
(`model_name_to_data_name`, `get_dataset`) read, tokenised with the model's tokenizer. C4 and code,
two data sets there, are one data set here, already mixed 4 to 1."""
ATTENTION_ONLY_MODELS = {
    f"attn-only-{n}l": (f"NeelNanda/Attn_Only_{n}L512W_C4_Code", C4_CODE) for n in (1, 2, 3, 4)
}
"""TransformerLens's names of attention-only models, trained on the same text: as above."""
LEGACY_PREFIXES = ("NeelNanda/", "ArthurConmy/", "Baidicoot/")
"""Owners of the repositories in TransformerLens's old format."""
HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
Kind = Literal["hub", "folder", "gguf", "legacy", "memory"]


@dataclass(frozen=True)
class ModelSource:
    """Where a model is, and what it is called."""

    kind: Kind
    location: str
    """A hub id, or an absolute path of a folder or a `.gguf` file."""
    revision: str | None
    """Branch, tag or commit of a hub repository; a checkpoint's number for a legacy one."""
    label: str
    """What the user typed."""
    url_name: str
    """Its name in URLs unless the user chooses another."""
    default_corpus: str | None
    commit: str | None = None
    """The commit of a hub or legacy repository, once `pin_revision` has resolved it."""

    @property
    def reference(self) -> str:
        """What finds the model again from any folder: its absolute path, or the name that was
        typed."""
        on_disk = self.kind in ("folder", "gguf") and not is_bundled(self.label)
        return self.location if on_disk else self.label

    @property
    def model_id(self) -> str:
        """The model's identity on any machine: its hub id (not the alias that was typed), or the
        name of its folder or file."""
        if self.kind in ("hub", "legacy"):
            return self.location
        return Path(self.location).name if self.kind == "gguf" else self.url_name

    @property
    def checkpoint(self) -> str | None:
        """The number of a legacy model's training checkpoint; None for its final weights."""
        return self.revision if self.kind == "legacy" else None


def is_bundled(reference: str) -> bool:
    """Whether a name, or the path that an older version stored, is of a bundled model."""
    return reference == "demo" or bundled(reference) is not None


def in_memory(name: str) -> ModelSource:
    """The source of a model that a program holds in memory."""
    return ModelSource("memory", name, None, name, name, None)


def resolve_model(model: str, revision: str | None = None) -> ModelSource:
    """The source that `model` names: `demo`, a short name such as `gelu-1l`, a folder, a
    `.gguf` file or a hub id.

    Loads nothing and uses no network. Raises `NeurariumError` for a name that cannot be a model,
    and for a `revision` of a model that has no revisions.
    """
    if is_bundled(model):
        _refuse_revision(model, revision)
        folder = bundled(model) or MODEL_DIR
        if not folder.is_dir():
            raise NeurariumError(f"{model!r} is a dictionary: name it with --dictionary.")
        name = "demo" if folder == MODEL_DIR else folder.name
        return ModelSource("folder", str(folder), None, model, name, "demo")
    named = (NEUROSCOPE_MODELS | ATTENTION_ONLY_MODELS).get(model)
    if named is not None:
        location, corpus = named
        return _on_the_hub(model, location, revision, url_name=model, corpus=corpus)
    path = absolute(Path(model))
    if path.is_dir():
        _refuse_revision(model, revision)
        adapter = adapter_in(path)
        if adapter is not None:
            alone = not (path / "config.json").is_file()
            raise NeurariumError(adapter_alone(model) if alone else adapter_beside(model, adapter))
        if not (path / "config.json").is_file():
            raise NeurariumError(
                f"The folder {model!r} has no config.json: name a folder written by transformers' "
                "save_pretrained (weights, config.json and tokenizer)."
            )
        return ModelSource("folder", str(path), None, model, path.name, None)
    if path.is_file():
        _refuse_revision(model, revision)
        _check_gguf(path)
        return ModelSource("gguf", str(path), None, model, path.stem, None)
    if os.path.lexists(path):  # a local path is never looked up on the hub
        what = "a link that leads nowhere" if path.is_symlink() else "neither a folder nor a file"
        raise NeurariumError(
            f"{str(path)!r} is {what}: name a folder with config.json, or a .gguf file."
        )
    if not HUB_ID.fullmatch(model) or model.endswith(".gguf"):
        raise NeurariumError(
            f"There is no model {model!r}: no such folder or file, and a Hugging Face id has the "
            "form owner/name."
        )
    return _on_the_hub(model, model, revision, url_name=model.rpartition("/")[2], corpus=None)


def _on_the_hub(
    label: str, location: str, revision: str | None, *, url_name: str, corpus: str | None
) -> ModelSource:
    if location.startswith(LEGACY_PREFIXES):
        if revision is not None and not revision.isdecimal():
            raise NeurariumError(
                f"The revision {revision!r} is not a number: {label!r} keeps its training "
                "checkpoints under numbers, such as --revision 1000."
            )
        return ModelSource("legacy", location, revision, label, url_name, corpus)
    if revision is not None and revision.isdecimal() and location.startswith("EleutherAI/pythia"):
        revision = f"step{revision}"
    return ModelSource("hub", location, revision, label, url_name, corpus)


def _refuse_revision(model: str, revision: str | None) -> None:
    if revision is not None:
        raise NeurariumError(
            f"{model!r} is on this machine and has no revision {revision!r}: leave out --revision."
        )


def _check_gguf(path: Path) -> None:
    if path.suffix.lower() != ".gguf":
        raise NeurariumError(
            f"{str(path)!r} is not a model: name a folder with config.json, or a .gguf file."
        )
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise NeurariumError(
                f"{str(path)!r} is not a GGUF file despite its name: it does not begin with "
                "'GGUF'. Is the download complete?"
            )
