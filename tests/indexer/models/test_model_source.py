"""What a name means, and how every failure of a load is told."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import httpx2
import huggingface_hub.errors as hub_errors
import pytest
import torch
import transformers
from transformer_lens.tools.model_registry.registry_io import (
    load_supported_models_raw,
    resolve_model_alias,
)

from indexer.errors import NeurariumError
from indexer.models.pretrained import (
    load_causal_lm,
    load_config,
    load_tokenizer,
    one_line_errors,
    quiet,
)
from indexer.models.source import (
    ATTENTION_ONLY_MODELS,
    NEUROSCOPE_MODELS,
    ModelSource,
    resolve_model,
)
from tests.helpers.tiny_models import save_tiny_model, tiny_config, tiny_tokenizer

HUB = ModelSource("hub", "someone/model", None, "someone/model", "model", None, commit="a" * 40)


def hub_error(kind: type[Exception], status: int) -> Exception:
    """One of huggingface_hub's exceptions, made as the hub's answer would make it."""
    request = httpx2.Request("GET", "https://huggingface.co/someone/model")
    return kind("as the hub says", response=httpx2.Response(status, request=request))


def test_short_names_agree_with_transformer_lens() -> None:
    """Neuroscope's 25 names and those of four attention-only models are the ids that
    TransformerLens's registry gives them."""
    assert len(NEUROSCOPE_MODELS) == 25
    known = {entry["model_id"] for entry in load_supported_models_raw()["models"]}
    assert list(ATTENTION_ONLY_MODELS) == [f"attn-only-{n}l" for n in (1, 2, 3, 4)]
    for name, (location, _) in (NEUROSCOPE_MODELS | ATTENTION_ONLY_MODELS).items():
        assert (resolve_model_alias(name) or name) == location
        assert location.startswith("NeelNanda/") or location in known | {
            model.rpartition("/")[2] for model in known
        }


@pytest.mark.parametrize(
    ("name", "kind", "corpus"),
    [
        ("solu-8l", "legacy", "NeelNanda/c4-code-tokenized-2b"),
        ("gelu-1l", "legacy", "NeelNanda/c4-code-tokenized-2b"),
        ("attn-only-4l", "legacy", "NeelNanda/c4-code-tokenized-2b"),
        ("solu-10l-pile", "legacy", "NeelNanda/pile-small-tokenized-2b"),
        ("gpt2-xl", "hub", "NeelNanda/openwebtext-tokenized-9b"),
        ("pythia-350m", "hub", "NeelNanda/pile-tokenized-10b"),
    ],
)
def test_a_short_name_brings_its_corpus(name: str, kind: str, corpus: str) -> None:
    """A short name stays its name in URLs and has the corpus Neuroscope used, or for attention-only
    models the text they were trained on."""
    source = resolve_model(name)
    assert (source.kind, source.url_name, source.default_corpus) == (kind, name, corpus)


def test_a_hub_id_is_called_by_its_last_part() -> None:
    """A hub id needs no network to be resolved."""
    source = resolve_model("HuggingFaceTB/SmolLM2-135M", "main")
    assert source == ModelSource(
        "hub",
        "HuggingFaceTB/SmolLM2-135M",
        "main",
        "HuggingFaceTB/SmolLM2-135M",
        "SmolLM2-135M",
        None,
    )


@pytest.mark.parametrize("revision", ["3000", "step3000"])
def test_a_checkpoint_of_pythia_is_a_step(revision: str) -> None:
    """Pythia's checkpoints are branches called step…; the number alone will do."""
    assert resolve_model("pythia-70m", revision).revision == "step3000"


def test_a_checkpoint_of_a_toy_model_is_a_number() -> None:
    """The toy models' checkpoints are numbers, and nothing else."""
    assert resolve_model("solu-1l", "1000").revision == "1000"
    with pytest.raises(NeurariumError, match=r"'main' is not a number.*--revision 1000"):
        resolve_model("solu-1l", "main")


def test_a_folder_is_called_by_its_name(tmp_path: Path) -> None:
    """A folder with a config.json is a model, by any spelling of its path."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    source = resolve_model(f"{tmp_path}/mine/../mine/")
    assert (source.kind, source.url_name) == ("folder", "mine")
    assert source.location == str(tmp_path / "mine")


def test_what_is_on_this_machine_has_no_revisions(tmp_path: Path) -> None:
    """A revision of a folder is refused, not ignored."""
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NeurariumError, match=r"no revision 'main'.*leave out --revision"):
        resolve_model(str(tmp_path), "main")


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    """The message says what a model's folder has in it."""
    with pytest.raises(NeurariumError, match=r"has no config\.json.*save_pretrained"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.symlink_to("gone"), "is a link that leads nowhere"),
        (lambda path: path.symlink_to(path.name), "is a link that leads nowhere"),
        (os.mkfifo, "is neither a folder nor a file"),
    ],
)
def test_what_is_here_is_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object], words: str
) -> None:
    """A link to nothing, a link to itself, a pipe."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "model")
    with pytest.raises(NeurariumError, match=words):
        resolve_model("model")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """Beside a model, where libraries may apply it or not, and alone: merge it first."""
    (tmp_path / name).write_text("{}")
    with pytest.raises(NeurariumError, match=r"is an adapter.* without its model.*Merge it into"):
        resolve_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NeurariumError, match=rf"adapter beside the model \({name}\).*Merge it"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize("model", ["./nowhere", "no/such/folder", "model.gguf", "two words"])
def test_a_path_that_is_not_there_is_no_hub_id(model: str) -> None:
    """A path that does not exist is not looked for on the hub."""
    with pytest.raises(NeurariumError, match="no such folder or file"):
        resolve_model(model)


def test_a_gguf_file_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    """A .gguf that is something else is refused before anything reads it."""
    good, bad, other = tmp_path / "a.gguf", tmp_path / "b.gguf", tmp_path / "c.txt"
    good.write_bytes(b"GGUF\x03\0\0\0")
    bad.write_bytes(b"<!doctype html>")
    other.write_text("text")
    assert resolve_model(str(good)).url_name == "a"
    with pytest.raises(NeurariumError, match="is not a GGUF file"):
        resolve_model(str(bad))
    with pytest.raises(NeurariumError, match=r"is not a model: name a folder.*\.gguf"):
        resolve_model(str(other))


def test_a_broken_gguf_file_is_refused(tmp_path: Path) -> None:
    """A GGUF file cut short gets one line, not a traceback."""
    path = tmp_path / "cut.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0" + bytes(16))
    with pytest.raises(NeurariumError, match=r"GGUF file .* cannot be read"):
        load_config(resolve_model(str(path)))


def test_a_gguf_of_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    """The architecture transformers cannot read from GGUF is named."""
    import gguf

    path = tmp_path / "odd.gguf"
    writer = gguf.GGUFWriter(path, "abacus")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(NeurariumError, match=r"GGUF file .* cannot be read.*abacus"):
        load_config(resolve_model(str(path)))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            hub_error(hub_errors.RepositoryNotFoundError, 401),
            "no model 'someone/model' on the Hugging Face hub",
        ),
        (hub_error(hub_errors.GatedRepoError, 403), "is gated: accept its terms"),
        (hub_error(hub_errors.RevisionNotFoundError, 404), "has no revision"),
        (hub_error(hub_errors.HfHubHTTPError, 500), "hub refused 'someone/model'"),
        (hub_errors.LocalEntryNotFoundError("no"), "cannot be reached"),
        (hub_errors.OfflineModeIsEnabled("no"), "cannot be reached"),
        (hub_errors.HFValidationError("no"), "is not a Hugging Face id"),
        (httpx.ConnectError("no"), r"cannot be reached \(ConnectError: no\).*check the network"),
        (httpx2.ConnectError("no"), r"cannot be reached \(ConnectError: no\).*check the network"),
        (httpx2.ReadTimeout("slow"), r"cannot be reached \(ReadTimeout: slow\)"),
        (httpx2.RemoteProtocolError("cut"), r"cannot be reached \(RemoteProtocolError: cut\)"),
        (httpx2.ProxyError("no"), r"cannot be reached \(ProxyError: no\)"),
        (httpx2.TooManyRedirects("no"), r"cannot be reached \(TooManyRedirects: no\)"),
        (TimeoutError("slow"), r"cannot be reached \(TimeoutError: slow\)"),
        (ConnectionResetError("cut"), r"cannot be reached \(ConnectionResetError: cut\)"),
        (hub_errors.XetDownloadError("cut"), r"cannot be reached \(XetDownloadError: cut\)"),
        (NotImplementedError("shortformer"), "cannot be loaded"),
        (OSError(12, "Cannot allocate memory"), "not enough memory"),
        (MemoryError(), "not enough memory .* try --dtype bfloat16"),
        (torch.OutOfMemoryError("CUDA out of memory"), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
        (
            ValueError("contains custom code. Pass the argument `trust_remote_code=True`"),
            "needs code from its own repository.*--trust-remote-code",
        ),
    ],
)
def test_every_failure_of_the_hub_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    """Whatever transformers wraps the hub's answer in, the user reads what to do."""

    def from_pretrained(*_: Any, **__: Any) -> None:
        raise OSError("as transformers wraps it\nin several lines") from error

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", from_pretrained)
    with pytest.raises(NeurariumError, match=message) as caught:
        load_config(HUB)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (httpx.ReadTimeout("slow"), "cannot be reached"),
        (httpx2.ConnectError("no"), "cannot be reached"),
        (httpx2.RemoteProtocolError("cut"), "cannot be reached"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), "not enough memory"),
        (NotImplementedError("NeelNanda/x uses shortformer embeddings"), "shortformer"),
    ],
)
@pytest.mark.parametrize("what", ["model", "tokenizer"])
def test_a_failure_that_nothing_wraps_is_one_line(
    error: Exception, message: str, what: str
) -> None:
    """The same exceptions raised bare, as by a download that breaks half way."""
    with pytest.raises(NeurariumError, match=message) as caught, one_line_errors(HUB, what):
        raise error
    assert "\n" not in str(caught.value)


def test_a_mistake_of_ours_is_not_told_as_theirs() -> None:
    """An exception nobody expects keeps its traceback."""
    with pytest.raises(ZeroDivisionError), one_line_errors(HUB):
        _ = 1 / 0


def test_remote_code_is_asked_for_not_run(tmp_path: Path) -> None:
    """A repository that brings its own code is refused until it is trusted."""
    config = {"model_type": "abacus", "auto_map": {"AutoConfig": "someone/code--config.Abacus"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(NeurariumError, match="--trust-remote-code"):
        load_config(resolve_model(str(tmp_path)))


@pytest.mark.parametrize("text", ["{}", "{", '{"model_type": "abacus"}'])
def test_a_config_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """A config.json that is broken, empty or of no known kind gets one line."""
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(NeurariumError, match="cannot be loaded"):
        load_config(resolve_model(str(tmp_path)))


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    """A folder with a configuration alone is no model."""
    config = tiny_config("gpt2")
    config.save_pretrained(tmp_path)
    with pytest.raises(NeurariumError, match="cannot be loaded"):
        load_causal_lm(resolve_model(str(tmp_path)), config, dtype=None)


def test_broken_weights_are_refused(tmp_path: Path) -> None:
    """A weight file cut short gets one line."""
    source = resolve_model(str(save_tiny_model(tmp_path, "gpt2")))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(NeurariumError, match=r"broken or incomplete|cannot be loaded"):
        load_causal_lm(source, load_config(source), dtype=None)


def test_weights_that_lack_a_layer_are_refused(tmp_path: Path) -> None:
    """Weights that transformers would make up at random are an error, not a warning."""
    source = resolve_model(str(save_tiny_model(tmp_path, "gpt2")))
    config = load_config(source)
    config.n_layer = 3
    with pytest.raises(
        NeurariumError, match=r"lacks 12 of the model's weights \(transformer\.h\.2"
    ):
        load_causal_lm(source, config, dtype=None)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    """Weights that do not fit the configuration get one line."""
    source = resolve_model(str(save_tiny_model(tmp_path, "gpt2")))
    config = load_config(source)
    config.n_inner = 99
    with pytest.raises(NeurariumError, match="do not fit its config"):
        load_causal_lm(source, config, dtype=None)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    """A model without a tokenizer says so."""
    tiny_config("gpt_neox").save_pretrained(tmp_path)
    with pytest.raises(NeurariumError, match="without a tokenizer"):
        load_tokenizer(resolve_model(str(tmp_path)))


@pytest.mark.parametrize(("bos", "bos_id"), [("<bos>", 1), (None, None)])
def test_a_bos_is_the_tokenizers_own(tmp_path: Path, bos: str | None, bos_id: int | None) -> None:
    """A model has a BOS exactly if its own tokenizer has one."""
    tiny_config("llama").save_pretrained(tmp_path)
    tiny_tokenizer(bos=bos).save_pretrained(tmp_path)
    loaded = load_tokenizer(resolve_model(str(tmp_path)))
    assert (loaded.bos_token_id, loaded.pad_token_id) == (bos_id, 0)


def test_a_tokenizer_that_does_not_tell_its_tokens_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mistral-common's has no table of added tokens: its file is read as a plain tokenizer, with
    the same BOS."""

    class Common:
        bos_token, eos_token, unk_token, pad_token = "<bos>", None, None, "<pad>"

        def added_tokens_decoder(self) -> None:
            raise NotImplementedError

    tiny_config("llama").save_pretrained(tmp_path)
    tiny_tokenizer(bos=None).backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: Common())
    loaded = load_tokenizer(resolve_model(str(tmp_path)))
    assert loaded.pad_token_id == 0
    assert loaded.tokenizer.decode(loaded.tokenizer("word").input_ids) == "word"


def test_a_bos_beyond_the_embedding_is_none(tmp_path: Path) -> None:
    """A BOS the model has no embedding for cannot be put in front."""
    tiny_config("llama", vocab_size=1).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert load_tokenizer(resolve_model(str(tmp_path))).bos_token_id is None


def test_a_load_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Bars and notices stay off the terminal, and come back afterwards."""
    source = resolve_model(str(save_tiny_model(tmp_path, "llama")))
    verbosity = transformers.utils.logging.get_verbosity()
    capfd.readouterr()
    with quiet():
        warnings.warn("not shown", stacklevel=1)
    load_tokenizer(source)
    load_causal_lm(source, load_config(source), dtype=torch.float32)
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.get_verbosity() == verbosity
    assert transformers.utils.logging.is_progress_bar_enabled()
