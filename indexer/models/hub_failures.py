"""What the Hugging Face hub's errors mean, as one line. Apart from `failures`, because it imports
neither PyTorch nor transformers: a mistyped name is refused before they are loaded."""

from __future__ import annotations

from collections.abc import Iterator

from huggingface_hub import errors as hub_errors

from indexer.models.source import ModelSource

_HTTP_CLIENTS = frozenset({"httpx", "httpx2", "requests", "urllib3", "aiohttp"})
"""Packages whose exceptions mean that a request failed. They are not imported, because which of
them the hub's library uses depends on its version."""


def hub_is_down(error: BaseException) -> bool:
    """Whether an exception means that the hub did not answer: no network, too slow, or broken."""
    chain = list(causes(error))
    answers = [link for link in chain if isinstance(link, hub_errors.HfHubHTTPError)]
    if answers:
        return all(getattr(link.response, "status_code", 0) >= 500 for link in answers)
    return _failed_request(chain) is not None


def hub_message(error: BaseException, source: ModelSource) -> str | None:
    """The line for an error of the hub, or of the way to it; None for any other error."""
    label, where = source.label, at_revision(source)
    chain = list(causes(error))

    def raised(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if raised(hub_errors.GatedRepoError):
        return (
            f"The model {label!r} is gated: accept its terms on huggingface.co/{source.location}, "
            "then log in with `hf auth login` (or set HF_TOKEN)."
        )
    if raised(hub_errors.RevisionNotFoundError):
        return f"The model {label!r} has no revision {source.revision!r}: check --revision."
    if raised(hub_errors.RepositoryNotFoundError):
        return (
            f"There is no model {label!r} on the Hugging Face hub, or it is private: check the "
            "name, or log in with `hf auth login`."
        )
    if raised(hub_errors.HFValidationError):
        return f"{label!r} is not a Hugging Face id (owner/name), a folder or a .gguf file."
    if raised(hub_errors.HfHubHTTPError):
        return f"The Hugging Face hub refused {label!r}{where}: {first_line(chain[-1])}"
    failed = _failed_request(chain)
    if failed is not None or raised(hub_errors.LocalEntryNotFoundError):
        why = f" ({type(failed).__name__}: {first_line(failed)})" if failed is not None else ""
        if source.kind == "legacy":
            return (
                f"The Hugging Face hub cannot be reached{why}, and {label!r}, a model in "
                "TransformerLens's old format, needs it at every load: check the network and try "
                "again."
            )
        return (
            f"The Hugging Face hub cannot be reached{why} and {label!r}{where} is not complete "
            "in the local cache: check the network and try again, or name a folder or a .gguf file."
        )
    return None


def at_revision(source: ModelSource) -> str:
    """The revision of a source for messages; empty without one."""
    return f" at revision {source.revision!r}" if source.revision else ""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says something, of bounded length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[0] if lines else type(error).__name__
    if line.endswith(":") and len(lines) > 1:
        line = f"{line} {lines[1]}"
    if isinstance(error, KeyError):  # its text is the key alone
        line = f"{line} is missing or not known"
    return line if len(line) <= 300 else line[:297] + "…"


def _failed_request(chain: list[BaseException]) -> BaseException | None:
    """The exception nearest to the root cause that means a request failed, or None."""

    def failed(link: BaseException) -> bool:
        return isinstance(link, (ConnectionError, TimeoutError)) or any(
            parent.__module__.partition(".")[0] in _HTTP_CLIENTS
            or parent.__name__ == "XetDownloadError"
            for parent in type(link).__mro__
        )

    return next((link for link in reversed(chain) if failed(link)), None)
