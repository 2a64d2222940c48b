"""What to load and from where: names to hub ids, folders, GGUF files and legacy repositories; their
configurations, tokenizers and weights as plain transformers objects.

It stands apart from `load` because none of this needs TransformerLens or the weights: a
corpus is prepared, and a mistaken name refused, before anything heavy is read.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import huggingface_hub
import torch
import transformers

from indexer.config import DTYPES
from indexer.errors import NeurariumError
from indexer.models.failures import quiet, tokenizer_is_missing, told_in_one_line
from indexer.models.hub import cached_path, commit_of
from indexer.models.vocabulary import special_token_id, tokenizer_identity

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
"""Neuroscope's 25 names: hub id and default corpus. The corpora are the ones Neuroscope's own code
(`model_name_to_data_name`, `get_dataset`) read, tokenised with the very tokenizer of the model;
only C4 and code, two sets there, are one here, already mixed 4 to 1."""

LEGACY_PREFIXES = ("NeelNanda/", "ArthurConmy/", "Baidicoot/")
"""Owners of the repositories in TransformerLens's old format."""

_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")

Kind = Literal["hub", "folder", "gguf", "legacy"]


@dataclass(frozen=True)
class ModelSource:
    """A model that can be loaded: where it is, and what it is called."""

    kind: Kind
    location: str
    """A hub id, or an absolute path of a folder or a `.gguf` file."""
    revision: str | None
    """Branch, tag or commit of a hub repository; a checkpoint's number for a legacy one."""
    label: str
    """What the user typed."""
    url_name: str
    """The name it gets in URLs unless the user chooses one."""
    default_corpus: str | None
    commit: str | None = None
    """The commit of a hub or legacy repository, once `pin_revision` has asked for it."""

    @property
    def model_id(self) -> str:
        """What the model is, on whichever machine: its hub id, whatever alias was typed, or the
        name of its folder or file."""
        if self.kind in ("hub", "legacy"):
            return self.location
        return Path(self.location).name if self.kind == "gguf" else self.url_name


@dataclass(frozen=True)
class LoadedTokenizer:
    """A tokenizer as it came, and the facts decided on it before anything could change it."""

    tokenizer: Any
    bos_token_id: int | None
    """None: the model's contexts have no BOS in front."""
    pad_token_id: int | None
    identity: str
    """Class and hash: equal for tokenizers that give equal ids."""

    @property
    def name(self) -> str:
        """The hub id it was loaded from, or its class where it came from this machine."""
        name = str(getattr(self.tokenizer, "name_or_path", "") or "")
        on_the_hub = _HUB_ID.fullmatch(name) and not Path(name).exists()
        return name if on_the_hub else type(self.tokenizer).__name__


def resolve_model(model: str, revision: str | None = None) -> ModelSource:
    """Tell what `model` means: `demo`, a Neuroscope name, a folder, a `.gguf` file or a hub id.

    Nothing is loaded and no network is used. Raises `NeurariumError` for what can't be a model, and
    for a `revision` where there are none.
    """
    if model == "demo":
        from indexer.demo import MODEL_DIR

        _refuse_revision(model, revision)
        return ModelSource("folder", str(MODEL_DIR), None, model, "demo", "demo")
    if model in NEUROSCOPE_MODELS:
        location, corpus = NEUROSCOPE_MODELS[model]
        return _on_the_hub(model, location, revision, url_name=model, corpus=corpus)
    path = Path(model).expanduser()
    if path.is_dir():
        _refuse_revision(model, revision)
        if not (path / "config.json").is_file():
            raise NeurariumError(
                f"The folder {model!r} has no config.json: name a folder written by transformers' "
                "save_pretrained (weights, config.json and tokenizer)."
            )
        path = path.resolve()
        return ModelSource("folder", str(path), None, model, path.name, None)
    if path.is_file():
        _refuse_revision(model, revision)
        _check_gguf(path)
        path = path.resolve()
        return ModelSource("gguf", str(path), None, model, path.stem, None)
    if not _HUB_ID.fullmatch(model) or model.endswith(".gguf"):
        raise NeurariumError(
            f"There is no model {model!r}: no such folder or file, and a Hugging Face id has the "
            "form owner/name."
        )
    return _on_the_hub(model, model, revision, url_name=model.rpartition("/")[2], corpus=None)


def pin_revision(source: ModelSource) -> ModelSource:
    """The same source at the commit its revision stands for now, so that all that is loaded from it
    is of one state. The first step that may use the network; what is on this machine, or is pinned,
    comes back as it is. Raises `NeurariumError`.
    """
    if source.kind not in ("hub", "legacy") or source.commit is not None:
        return source
    branch = source.revision if source.kind == "hub" else None  # a legacy one is a file's number
    with quiet(), told_in_one_line(source):
        return replace(source, commit=commit_of(source.location, branch))


def load_config(source: ModelSource, *, trust_remote_code: bool = False) -> Any:
    """The transformers configuration of a model that isn't legacy. Raises `NeurariumError`."""
    source = pin_revision(source)
    with quiet(), told_in_one_line(source):
        return transformers.AutoConfig.from_pretrained(
            **_from_pretrained(source, trust_remote_code)
        )


def load_tokenizer(source: ModelSource, *, trust_remote_code: bool = False) -> LoadedTokenizer:
    """Load a model's tokenizer alone, without its weights, so that a corpus can be prepared first.

    Whether there is a BOS is decided here, on the untouched tokenizer: a BOS that is not in the
    vocabulary, or has no row in the model's embedding, is none. Raises `NeurariumError`.
    """
    source = pin_revision(source)
    with quiet(), told_in_one_line(source, what="tokenizer"):
        if source.kind == "legacy":
            facts = legacy_config(source)
            rows = int(facts["d_vocab"])
            name = facts.get("tokenizer_name")
            if name is None:
                raise NeurariumError(f"The model {source.label!r} does not name its tokenizer.")
            tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        else:
            rows = _embedding_rows(source, trust_remote_code)
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                **_from_pretrained(source, trust_remote_code)
            )
    if not set(tokenizer.get_vocab().values()) - set(tokenizer.added_tokens_decoder):
        raise NeurariumError(tokenizer_is_missing(source))
    bos = special_token_id(tokenizer, "bos_token")
    pad = special_token_id(tokenizer, "pad_token")
    return LoadedTokenizer(
        tokenizer,
        bos if bos is None or not rows or bos < rows else None,
        pad if pad is None or not rows or pad < rows else None,
        tokenizer_identity(tokenizer),
    )


def load_causal_lm(
    source: ModelSource,
    config: Any,
    *,
    dtype: torch.dtype | None,
    trust_remote_code: bool = False,
) -> Any:
    """The plain transformers model, on the CPU, in eval mode; `dtype` None is the checkpoint's own.

    Raises `NeurariumError`, also where the checkpoint lacks weights that transformers would fill in
    at random.
    """
    source = pin_revision(source)
    with quiet(), told_in_one_line(source):
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            **_from_pretrained(source, trust_remote_code),
            config=config,
            dtype="auto" if dtype is None else dtype,
            output_loading_info=True,
        )
    missing = sorted(report.get("missing_keys", ()))
    if missing:
        raise NeurariumError(
            f"The checkpoint of {source.label!r} lacks {len(missing)} of the model's weights "
            f"({missing[0]}, …): it is incomplete, or made for another architecture."
        )
    return model.eval()


def choose_device(device: str | None) -> torch.device:
    """The device asked for, or CUDA where there is one. Raises `NeurariumError`."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        if chosen.type in ("cpu", "cuda"):
            torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise NeurariumError(
            f"There is no device {device!r} here: use cpu, or leave out --device."
        ) from error
    if chosen.type not in ("cpu", "cuda"):
        raise NeurariumError(
            f"The device {device!r} cannot be used: statistics are added up in float64, which only "
            "the CPU and CUDA are sure to have. Choose --device cpu or cuda."
        )
    return chosen


def choose_dtype(dtype: str | None, device: torch.device) -> torch.dtype | None:
    """The dtype asked for, or float32 on the CPU, or None: the checkpoint's own. Raises
    `NeurariumError`."""
    if dtype is None:
        return torch.float32 if device.type == "cpu" else None
    if dtype not in DTYPES:
        raise NeurariumError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}.")
    chosen: torch.dtype = getattr(torch, dtype)
    return chosen


def hash_weights(source: ModelSource, model: Any) -> str:
    """SHA-256 over the SHA-256 of each file the weights came from, in order of name."""
    total = hashlib.sha256()
    for path in _weight_files(source, model):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def legacy_config(source: ModelSource) -> dict[str, Any]:
    """The config.json of a repository in TransformerLens's old format."""
    path = huggingface_hub.hf_hub_download(source.location, "config.json", revision=source.commit)
    facts: dict[str, Any] = json.loads(Path(path).read_text())
    return facts


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
                f"{str(path)!r} is not a GGUF file, whatever its name: it does not begin with "
                "'GGUF'. Was it downloaded whole?"
            )


def _from_pretrained(source: ModelSource, trust_remote_code: bool) -> dict[str, Any]:
    """The arguments every `from_pretrained` shares."""
    arguments: dict[str, Any] = {
        "pretrained_model_name_or_path": source.location,
        "trust_remote_code": trust_remote_code,
    }
    if source.kind == "gguf":
        path = Path(source.location)
        arguments |= {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    revision = source.commit or source.revision
    if revision is not None:
        arguments["revision"] = revision
    return arguments


def _embedding_rows(source: ModelSource, trust_remote_code: bool) -> int:
    """Rows of the model's embedding, or 0: a GGUF file's are those of its own tokenizer, and its
    configuration takes seconds to read."""
    if source.kind == "gguf":
        return 0
    config = transformers.AutoConfig.from_pretrained(**_from_pretrained(source, trust_remote_code))
    return int(getattr(config.get_text_config(), "vocab_size", 0) or 0)


def _weight_files(source: ModelSource, model: Any) -> list[Path]:
    """The files the weights came from, those an index lists or the one there is, looked for in
    transformers' own order. Raises `NeurariumError`."""
    if source.kind == "gguf":
        return [Path(source.location)]
    named = getattr(model.config, "transformers_weights", None)
    for name in [named] if named else _WEIGHT_FILES:
        path = _located(source, name)
        if path is None:
            continue
        if not name.endswith(".index.json"):
            return [path]
        shards = sorted(set(json.loads(path.read_text())["weight_map"].values()))
        paths = [_located(source, shard) for shard in shards]
        if None not in paths:
            return [path for path in paths if path is not None]
    where = "the hub's local cache" if source.kind == "hub" else source.location
    raise NeurariumError(
        f"The weights of {source.label!r} were loaded but are no longer in {where}, so that their "
        "hash cannot be told: was it being cleared? Try again."
    )


def _located(source: ModelSource, name: str) -> Path | None:
    """One file of a folder's or, in the local cache, of a hub model's, or None."""
    if source.kind == "hub":
        return cached_path(source.location, source.commit or source.revision, name)
    path = Path(source.location) / name
    return path if path.is_file() else None
