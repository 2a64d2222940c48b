"""A path or a hub repository becomes dictionaries: each file's content decides its layout."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants

from indexer.errors import NeurariumError
from indexer.memory import readable_bytes
from indexer.models.dictionaries.check import check_shapes, check_words
from indexer.models.dictionaries.dictionary import Dictionary
from indexer.models.dictionaries.files import SETTINGS, WeightsFile, few, read_file, weight_files
from indexer.models.dictionaries.names import WEIGHTS, local_path, repository_of
from indexer.models.dictionaries.own import is_own, read_own
from indexer.models.dictionaries.sae_lens import is_sae_lens, read_sae_lens
from indexer.models.dictionaries.scopes import (
    is_gemma_scope,
    is_llama_scope,
    is_qwen_scope,
    read_gemma_scope,
    read_llama_scope,
    read_qwen_scope,
)
from indexer.models.dictionaries.trainers import (
    is_circuit_tracer,
    is_dictionary_learning,
    is_sparsify,
    read_circuit_tracer,
    read_dictionary_learning,
    read_sparsify,
)
from indexer.models.hub import remember_commit
from indexer.models.hub_failures import hub_is_down

MOST_BYTES = 64 * 2**30
"""A repository with more in it needs a subfolder."""
_PATIENCE = 30.0
"""Seconds to wait for the hub's answer; its library has no limit."""


@dataclass(frozen=True)
class Layout:
    """A way in which dictionaries are written."""

    name: str
    is_it: Callable[[WeightsFile], bool]
    read: Callable[[WeightsFile, str | None], Dictionary]


LAYOUTS = (
    Layout("dictionary_learning", is_dictionary_learning, read_dictionary_learning),
    Layout("Llama Scope", is_llama_scope, read_llama_scope),
    Layout("circuit-tracer", is_circuit_tracer, read_circuit_tracer),
    Layout("sparsify", is_sparsify, read_sparsify),
    Layout("SAELens", is_sae_lens, read_sae_lens),
    Layout("Qwen-Scope", is_qwen_scope, read_qwen_scope),
    Layout("Gemma Scope", is_gemma_scope, read_gemma_scope),
    Layout("Neurarium", is_own, read_own),
)
"""The first layout whose content fits is used."""


def read_dictionaries(reference: str, hook_point: str | None = None) -> tuple[Dictionary, ...]:
    """The dictionaries of one reference: a file, a folder, or a hub repository
    `owner/name[:subfolder]`. In order of their layers, at most one a layer.

    `hook_point` is where they read, for files that do not say. Raises `NeurariumError`.
    """
    path, name = _local(reference)
    return in_order(
        [
            read_dictionary(
                read_file(file, f"{name}/{file.relative_to(path).as_posix()}".removesuffix("/.")),
                hook_point,
            )
            for file in weight_files(path)
        ]
    )


def read_dictionary(file: WeightsFile, hook_point: str | None = None) -> Dictionary:
    """One file's dictionary. Raises `NeurariumError`."""
    layout = next((layout for layout in LAYOUTS if layout.is_it(file)), None)
    if layout is None:
        tensors = few(file.tensors) or "none"
        beside = f" and {file.kind} beside it" if file.kind else ""
        raise file.wrong(
            f"is of no known layout (tensors: {tensors}{beside}): known are "
            f"{', '.join(layout.name for layout in LAYOUTS)}"
        )
    dictionary = layout.read(file, hook_point)
    check_shapes(dictionary)
    check_words(dictionary)
    return dictionary


def in_order(dictionaries: list[Dictionary]) -> tuple[Dictionary, ...]:
    """Dictionaries of one set, in order of their layers. Raises `NeurariumError` if two are of one
    layer, or not all are of one kind."""
    ordered = sorted(dictionaries, key=lambda dictionary: dictionary.hook.layer)
    first = ordered[0]
    for one, other in itertools.pairwise(ordered):
        if one.hook.layer == other.hook.layer:
            raise NeurariumError(
                f"{one.label} and {other.label} are both of layer {one.hook.layer}: name one of "
                "them (--dictionary), and index the other as another set."
            )
    for other in ordered:
        if other.hook.point != first.hook.point:
            raise NeurariumError(
                f"{first.label} reads {first.hook} and {other.label} reads {other.hook}: a set "
                "has one place in all its layers, so index them as two sets (--dictionary)."
            )
        if other.is_directions != first.is_directions:
            raise NeurariumError(
                f"{first.label} and {other.label} are not of one kind: only one of them has a "
                "nonlinearity. Index them as two sets (--dictionary)."
            )
    return tuple(ordered)


def _local(reference: str) -> tuple[Path, str]:
    """Where a reference's files are on this machine, and their repository or folder by name."""
    path = local_path(reference)
    if path is not None:
        return path, path.resolve().as_posix()
    return _fetch(*repository_of(reference))


def _fetch(repository: str, subfolder: str | None) -> tuple[Path, str]:
    """A repository's dictionaries in the local cache; what is not there is fetched. The hub is not
    asked if the cache has all of them. Raises `NeurariumError`."""
    folder = f"{subfolder.strip('/')}/" if subfolder else ""
    label = f"{repository}/{folder}".rstrip("/")
    patterns = [f"{folder}**{ending}" for ending in WEIGHTS]
    patterns += [f"{folder}*{ending}" for ending in WEIGHTS]
    patterns += [f"{folder}**{name}" for name in SETTINGS] + [f"{folder}{n}" for n in SETTINGS]
    patterns += [f"{folder}**activation_scaler.json"]
    if subfolder and subfolder.endswith(WEIGHTS):
        patterns = [folder.rstrip("/"), *SETTINGS]
    if (cached := _cached(repository, folder, patterns, surely=True)) is not None:
        return cached, label
    try:
        info = huggingface_hub.HfApi().model_info(
            repository, files_metadata=True, timeout=_PATIENCE
        )
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        wanted = list(huggingface_hub.utils.filter_repo_objects(sizes, allow_patterns=patterns))
        if not any(name.endswith(WEIGHTS) for name in wanted):
            raise NeurariumError(
                f"The hub repository {label} has no dictionary: no file of it ends with "
                f"{', '.join(WEIGHTS)} (--dictionary)."
            )
        total = sum(sizes[name] for name in wanted)
        if total > MOST_BYTES:
            raise NeurariumError(
                f"The hub repository {label} has {readable_bytes(total)} of dictionaries: name a "
                f"subfolder, such as {repository}:{wanted[0].rsplit('/', 1)[0]} (--dictionary)."
            )
        fetched = huggingface_hub.snapshot_download(
            repository, revision=info.sha, allow_patterns=patterns
        )
        remember_commit(repository, None, info.sha)
    except NeurariumError:
        raise
    except Exception as error:  # whatever the hub's library raises, offline or refused
        down = hub_is_down(error) or constants.is_offline_mode()
        cached = _cached(repository, folder, patterns, surely=False) if down else None
        if cached is not None:
            return cached, label
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise NeurariumError(
            f"The dictionary {label} is not on this machine, and the hub did not give it "
            f"({reason}): check the name, or the connection (--dictionary)."
        ) from error
    return Path(fetched, folder), label


def _cached(repository: str, folder: str, patterns: list[str], *, surely: bool) -> Path | None:
    """A repository's dictionaries in the local cache, as it knew the repository last; None if there
    are none, or some are missing. `surely`: only if the cache knows which files there should be."""
    try:
        if surely:
            huggingface_hub.get_cached_repo_tree(repository)
        home = huggingface_hub.snapshot_download(
            repository, allow_patterns=patterns, local_files_only=True
        )
    except Exception:  # whatever the hub's library raises for what is not there
        return None
    path = Path(home, folder)
    names = [path] if path.is_file() else path.rglob("*")
    return path if any(file.suffix in WEIGHTS for file in names) else None
