"""Configurations, tokenizers and weights of any model source as plain transformers objects.

Needs no TransformerLens, and the tokenizer needs no weights, so a corpus is prepared before
anything heavy is read.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers

from indexer.corpus.special_tokens import special_token_id
from indexer.errors import NeurariumError
from indexer.models.adapters import (
    ADAPTER_CONFIG,
    adapter_alone,
    adapter_beside,
    check_no_adapter,
    check_none_inside,
)
from indexer.models.failures import one_line_errors, quiet, tokenizer_is_missing
from indexer.models.gguf_header import read_header
from indexer.models.hub import pin
from indexer.models.hub_failures import hub_is_down
from indexer.models.rope_config import check_rope
from indexer.models.sizes import (
    check_config,
    check_gguf,
    check_token_ids,
    check_total,
    read_json,
)
from indexer.models.source import HUB_ID, ModelSource
from indexer.models.stored import check_formats, check_scales, located, stored_shapes
from indexer.models.vocabulary import tokenizer_identity

_WITHOUT_EFFECT = frozenset(
    "transformers_version _name_or_path dtype torch_dtype use_cache license".split()
)
"""Entries of a config.json that do not change what the model computes; the dtype is chosen."""
_MOST_IN_BUFFER = 1 << 32
_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


@dataclass(frozen=True)
class LoadedTokenizer:
    """A tokenizer, and facts decided before other code could change it."""

    tokenizer: Any
    bos_token_id: int | None
    """None if there is no BOS in front of the model's contexts."""
    pad_token_id: int | None
    """The tokenizer's padding token, or None. Padding is masked, so any id will do."""
    identity: str
    """Class and hash: equal for tokenizers that give equal ids."""

    @property
    def name(self) -> str:
        """The hub id it was loaded from, or its class if it was loaded from this machine."""
        name = str(getattr(self.tokenizer, "name_or_path", "") or "")
        on_the_hub = HUB_ID.fullmatch(name) and not Path(name).exists()
        return name if on_the_hub else type(self.tokenizer).__name__


def pin_revision(source: ModelSource) -> ModelSource:
    """The same source with the commit its revision stands for now, so that everything loaded from
    it belongs together. This is the first step that may use the network. A source on this machine,
    or one with a commit, is returned unchanged. Raises `NeurariumError`.
    """
    with quiet(), one_line_errors(source):
        return pin(source)


def load_config(source: ModelSource, *, trust_remote_code: bool = False) -> Any:
    """The transformers configuration of a model that isn't legacy. Raises `NeurariumError`."""
    source = pin_revision(source)
    known = check_claims(source)
    with quiet(), one_line_errors(source):
        try:
            config = transformers.AutoConfig.from_pretrained(
                **_from_pretrained(source, trust_remote_code)
            )
        except OSError as error:
            without_config = source.kind == "hub" and "config.json" in str(error)
            if without_config and not hub_is_down(error) and _is_adapter(source):
                raise NeurariumError(adapter_alone(source.label)) from None
            raise
    if not known:
        check_claims(source)
    if located(source, ADAPTER_CONFIG) is not None:
        raise NeurariumError(adapter_beside(source.label, ADAPTER_CONFIG))
    return config


def check_claims(source: ModelSource) -> bool:
    """Compare what a model's files say about its sizes before a library believes it; False if they
    are not on this machine yet. Raises `NeurariumError`."""
    if source.kind == "gguf":
        check_gguf(read_header(Path(source.location), source.label), source.label)
        return True
    path = located(source, "config.json")
    if path is not None:
        facts = read_json(path, source.label)
        check_config(facts, stored_shapes(source), source.label)
        check_rope(facts, source.label)
    return path is not None


def _is_adapter(source: ModelSource) -> bool:
    """Whether a hub repository without a config.json is that of an adapter."""
    try:
        huggingface_hub.hf_hub_download(source.location, ADAPTER_CONFIG, revision=source.commit)
    except Exception:  # the first failure is the one to report
        return False
    return True


def load_tokenizer(source: ModelSource, *, trust_remote_code: bool = False) -> LoadedTokenizer:
    """Load a model's tokenizer without its weights, so that a corpus can be prepared first.

    Whether there is a BOS is decided on the untouched tokenizer: a BOS that is not in the
    vocabulary, or has no row in the model's embedding, does not count. Raises `NeurariumError`.
    """
    source = pin_revision(source)
    check_claims(source)
    for file in ("tokenizer.json", "vocab.json") if source.kind != "gguf" else ():
        path = located(source, file)
        if path is not None:
            check_token_ids(read_json(path, source.label), source.label, file)
    with quiet(), one_line_errors(source, what="tokenizer"):
        if source.kind == "legacy":
            facts = legacy_config(source)
            rows = int(facts["d_vocab"])
            name = facts.get("tokenizer_name")
            if name is None:
                raise NeurariumError(f"The model {source.label!r} does not name its tokenizer.")
            tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        else:
            rows = _embedding_rows(source, trust_remote_code)
            arguments = _from_pretrained(source, trust_remote_code)
            tokenizer = _with_vocabulary(
                transformers.AutoTokenizer.from_pretrained(**arguments), arguments
            )
        return use_tokenizer(tokenizer, source, rows)


def use_tokenizer(tokenizer: Any, source: ModelSource, rows: int) -> LoadedTokenizer:
    """A tokenizer that is in memory, with what is decided on it; `rows` of the model's embedding, 0
    if unknown. Raises `NeurariumError` if it has no tokens."""
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


def _with_vocabulary(tokenizer: Any, arguments: dict[str, Any]) -> Any:
    """The tokenizer, or one like it that tells its tokens: mistral-common's, which transformers
    chooses where that library is installed, does not."""
    if isinstance(tokenizer.added_tokens_decoder, Mapping):
        return tokenizer
    roles = ("bos_token", "eos_token", "unk_token", "pad_token")
    named = {role: getattr(tokenizer, role, None) for role in roles}
    return transformers.PreTrainedTokenizerFast.from_pretrained(
        **arguments, **{role: str(token) for role, token in named.items() if token is not None}
    )


def load_causal_lm(
    source: ModelSource,
    config: Any,
    *,
    dtype: torch.dtype | None,
    trust_remote_code: bool = False,
) -> tuple[Any, tuple[str, ...]]:
    """The plain transformers model, on the CPU, in eval mode, and the names of the checkpoint's
    weights that it does not use; `dtype` None is the checkpoint's own.

    Raises `NeurariumError`, also if weights are missing or have another shape, which transformers
    would initialise at random.
    """
    source = pin_revision(source)
    quantised = getattr(config, "quantization_config", None) is not None
    if not trust_remote_code:
        _check_total(source, config, quantised or source.kind == "gguf")
    with quiet(), one_line_errors(source):
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            **_from_pretrained(source, trust_remote_code),
            config=config,
            dtype="auto" if dtype is None else dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
        )
    unused = tuple(sorted(report.get("unexpected_keys", ())))
    check_no_adapter(unused, source.label)
    missing = sorted(report.get("missing_keys", ()))
    if missing:
        raise NeurariumError(
            f"The checkpoint of {source.label!r} lacks {len(missing)} of the model's weights "
            f"({missing[0]}, …): it is incomplete, or made for another architecture."
        )
    mismatched = sorted(report.get("mismatched_keys", ()), key=str)
    if mismatched:
        name, stored, expected = mismatched[0]
        raise NeurariumError(
            f"The weights of {source.label!r} do not fit its config.json: {name} is "
            f"{_shape(stored)} in the checkpoint and {_shape(expected)} by the configuration"
            + (f", and so for {len(mismatched) - 1} more" if len(mismatched) > 1 else "")
            + ". Restore the config.json that belongs to them."
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise NeurariumError(adapter_beside(source.label, ADAPTER_CONFIG))
    if quantised and dtype is not None:
        _same_format(model, dtype)
    check_scales(source, unused)
    if not quantised:
        check_formats(source, (name for name, _ in model.named_parameters()))
    check_none_inside(unused, model, source.label)
    return model.eval(), unused


def _check_total(source: ModelSource, config: Any, packed: bool) -> None:
    """Refuse a configuration whose model is far larger than the checkpoint, which would be made up
    at random in memory before anyone notices. Raises `NeurariumError`."""
    shapes = stored_shapes(source)
    with quiet(), one_line_errors(source), torch.device("meta"):  # allocates no memory
        model = transformers.AutoModelForCausalLM.from_config(config)
    if shapes:
        parameters = sum(parameter.numel() for parameter in model.parameters())
        check_total(parameters, shapes, packed, source.label)
    for name, buffer in model.named_buffers():
        if buffer.numel() > _MOST_IN_BUFFER:
            raise NeurariumError(
                f"The configuration of {source.label!r} asks for {buffer.numel():,} numbers in "
                f"{name}: its number of positions cannot be right."
            )


def _same_format(model: Any, dtype: torch.dtype) -> None:
    """Weights that were stored quantised, and are plain numbers now, in the dtype asked for:
    transformers leaves them in the one they were dequantised to."""
    plain = all(
        type(p) is torch.nn.Parameter and p.is_floating_point() and p.element_size() > 1
        for p in model.parameters()
    )
    if plain:
        torch.nn.Module.to(model, dtype)  # the model's own refuses models that were quantised


def _shape(shape: Iterable[int]) -> str:
    return " × ".join(str(size) for size in shape)


def hash_weights(source: ModelSource, model: Any) -> str:
    """SHA-256 over the SHA-256 of each weight file, in order of name. Raises `NeurariumError`."""
    total = hashlib.sha256()
    for path in _weight_files(source, model):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def hash_config(source: ModelSource, model: Any) -> str | None:
    """SHA-256 over what beside the weights makes a model what it is: its config.json, without what
    changes no number, and the code that came with it. None for a GGUF file, whose weights' hash
    covers all."""
    path = None if source.kind == "gguf" else located(source, "config.json")
    if path is None:
        return None
    facts = json.loads(path.read_bytes())
    kept = {key: value for key, value in facts.items() if key not in _WITHOUT_EFFECT}
    total = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    for code in _code_files(model):
        total.update(code.name.encode() + hashlib.sha256(code.read_bytes()).digest())
    return total.hexdigest()


def _code_files(model: Any) -> list[Path]:
    """The files of code from a model's repository that transformers has imported; usually none."""
    if not type(model).__module__.startswith("transformers_modules."):
        return []
    return sorted(Path(inspect.getfile(type(model))).parent.glob("*.py"))


def legacy_config(source: ModelSource) -> dict[str, Any]:
    """The config.json of a repository in TransformerLens's old format."""
    path = huggingface_hub.hf_hub_download(source.location, "config.json", revision=source.commit)
    facts: dict[str, Any] = json.loads(Path(path).read_text())
    return facts


def _from_pretrained(source: ModelSource, trust_remote_code: bool) -> dict[str, Any]:
    """The arguments of every `from_pretrained` call."""
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
    """Rows of the model's embedding; 0 for a GGUF file, whose tokenizer cannot disagree with them
    and whose configuration takes seconds to read."""
    if source.kind == "gguf":
        return 0
    config = transformers.AutoConfig.from_pretrained(**_from_pretrained(source, trust_remote_code))
    return int(getattr(config.get_text_config(), "vocab_size", 0) or 0)


def _weight_files(source: ModelSource, model: Any) -> list[Path]:
    """The files the weights came from: a single file, or those an index lists, in transformers' own
    order of preference. Raises `NeurariumError`."""
    if source.kind == "gguf":
        return [Path(source.location)]
    named = getattr(model.config, "transformers_weights", None)
    for name in [named] if named else _WEIGHT_FILES:
        path = located(source, name)
        if path is None:
            continue
        if not name.endswith(".index.json"):
            return [path]
        shards = sorted(set(json.loads(path.read_text())["weight_map"].values()))
        paths = [located(source, shard) for shard in shards]
        if None not in paths:
            return [path for path in paths if path is not None]
    where = "the hub's local cache" if source.kind == "hub" else source.location
    raise NeurariumError(
        f"The weights of {source.label!r} were loaded but are no longer in {where}, so they "
        "cannot be hashed: was it being cleared? Try again."
    )
