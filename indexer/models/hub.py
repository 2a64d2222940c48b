"""The commit that a branch or tag of a hub repository stands for, and its files in the local cache.

A revision is resolved once, before anything is read, so a branch that moves meanwhile cannot mix
two states of a model.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from dataclasses import replace
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from indexer.errors import NeurariumError
from indexer.models.hub_failures import hub_is_down, hub_message
from indexer.models.source import ModelSource

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PATIENCE = 30.0
"""Seconds to wait for the hub's answer; its library has no limit."""


def pin(source: ModelSource) -> ModelSource:
    """The same source with the commit its revision stands for now, so that everything loaded from
    it belongs together. A source on this machine, or one with a commit, is returned unchanged.

    Raises `NeurariumError` for errors of the hub, and what huggingface_hub raises otherwise.
    """
    if source.kind not in ("hub", "legacy") or source.commit is not None:
        return source
    branch = source.revision if source.kind == "hub" else None  # legacy revisions are file numbers
    try:
        return replace(source, commit=commit_of(source.location, branch))
    except Exception as error:
        message = hub_message(error, source)
        if message is None:
            raise
        raise NeurariumError(message) from error


def commit_of(repository: str, revision: str | None) -> str | None:
    """The commit that a branch, tag or commit stands for now; `revision` None is the main branch.

    The hub is asked once. If it does not answer, this is the commit that the local cache last knew.
    The answer is written to the cache for that purpose, since files fetched by commit leave no
    record of the branch. None if the hub answers without a commit. Raises what huggingface_hub
    raises.
    """
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    try:
        info = huggingface_hub.HfApi().model_info(repository, revision=revision, timeout=_PATIENCE)
    except Exception as error:
        known = cached_commit(repository, revision)
        if known is None or not hub_is_down(error):
            raise
        return known
    commit: str | None = info.sha
    remember_commit(repository, revision, commit)
    return commit


def remember_commit(repository: str, revision: str | None, commit: str | None) -> None:
    """Write into the local cache which commit a branch or tag stands for."""
    if commit is not None and commit != cached_commit(repository, revision):
        with contextlib.suppress(OSError):  # a read-only cache is no error
            _write(_ref(repository, revision), commit)


def cached_commit(repository: str, revision: str | None) -> str | None:
    """The commit of a branch or tag when the local cache last asked the hub; None if unknown."""
    try:
        commit = _ref(repository, revision).read_text().strip()
    except OSError:
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def cached_path(repository: str, commit: str | None, name: str) -> Path | None:
    """The path of one file of a repository at a commit in the local cache, or None. Uses no network
    and needs no other file."""
    path = huggingface_hub.try_to_load_from_cache(repository, name, revision=commit)
    return Path(path) if isinstance(path, str) else None


def _ref(repository: str, revision: str | None) -> Path:
    home = repo_folder_name(repo_id=repository, repo_type="model")
    return Path(constants.HF_HUB_CACHE, home, "refs", revision or constants.DEFAULT_REVISION)


def _write(ref: Path, commit: str) -> None:
    ref.parent.mkdir(parents=True, exist_ok=True)
    complete = ref.with_name(f"{ref.name}.{uuid.uuid4().hex[:8]}.tmp")
    complete.write_text(commit)
    os.replace(complete, ref)  # a reader never sees a partial file
