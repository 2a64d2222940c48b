"""One-line errors for every way in which loading a model can fail, and silence for the libraries'
notices. The only module that knows the exceptions of the three libraries involved.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import pickle
import re
import sysconfig
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import torch
import transformers
from transformers import modeling_gguf_pytorch_utils

from indexer.errors import NeurariumError
from indexer.models.hub_failures import at_revision, causes, first_line, hub_message
from indexer.models.source import ModelSource

_OWN = Path(__file__).parent.parent
"""Where this project's own code is."""
_WRONG_KIND = re.compile(
    r"Field '([^']+)' (?:with value (.+?) doesn't match|expected .+? \(value: (.+?)\)$)", re.M
)
"""How transformers says that an entry of a config.json is, say, a text instead of a number."""
_SHOWN = 30
"""Most characters of a value in a message."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the libraries' notices and progress bars; errors are still raised."""
    logging = transformers.utils.logging
    hub_logging = huggingface_hub.logging
    verbosity, hub_verbosity = logging.get_verbosity(), hub_logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.set_verbosity_error()
        hub_logging.set_verbosity_error()
        logging.disable_progress_bar()
        bar = modeling_gguf_pytorch_utils.tqdm  # this bar ignores the setting above
        modeling_gguf_pytorch_utils.tqdm = functools.partial(bar, disable=True)
        try:
            yield
        finally:
            modeling_gguf_pytorch_utils.tqdm = bar
            logging.set_verbosity(verbosity)
            hub_logging.set_verbosity(hub_verbosity)
            if bars:
                logging.enable_progress_bar()


@contextlib.contextmanager
def one_line_errors(source: ModelSource, what: str = "model") -> Iterator[None]:
    """Turn exceptions whose cause the user can act on into `NeurariumError`.

    They are known kinds of exception, and all that libraries raise. Exceptions of this project's
    own code pass unchanged, so that a bug does not look like the user's mistake.
    """
    try:
        yield
    except NeurariumError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not _is_panic(error):
            raise
        message = _explain(error, source, what)
        if message is None:
            if not _of_a_library(error):
                raise
            message = _unforeseen(error, source, what)
        raise NeurariumError(message) from error


def _is_panic(error: BaseException) -> bool:
    """Whether a library written in Rust gave up, which is not an `Exception`."""
    return type(error).__name__ == "PanicException"


def _of_a_library(error: BaseException) -> bool:
    """Whether an exception was raised in other code than this project's and its callers'."""
    if _is_panic(error) or type(error) is Exception:  # no Python code raises the latter
        return True
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    where = frames[-1].f_code.co_filename if frames else ""
    if Path(where).is_relative_to(_OWN):
        return False
    return "site-packages" in where or where.startswith(("<frozen", sysconfig.get_path("stdlib")))


def _unforeseen(error: BaseException, source: ModelSource, what: str) -> str:
    """The message for what a library raises where nothing is known about the cause."""
    why = f"{type(error).__name__}: {first_line(error)}"
    if what == "tokenizer":
        return f"The tokenizer of {source.label!r} cannot be used ({why}): check its files."
    return (
        f"The model {source.label!r} cannot be used ({why}): check that its config.json and "
        "weights are complete and belong together."
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory, of the machine or the GPU, ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    message = str(error)
    return isinstance(error, RuntimeError) and (
        "allocate memory" in message or "not enough mem" in message
    )


def tokenizer_is_missing(source: ModelSource) -> str:
    """The error message for a model without a tokenizer."""
    return (
        f"The model {source.label!r} comes without a tokenizer that transformers can read: save "
        "one beside its weights (tokenizer.json)."
    )


def _explain(error: BaseException, source: ModelSource, what: str) -> str | None:
    """The error message, or None where the cause is not known to be the user's to solve."""
    label, where = source.label, at_revision(source)
    chain = list(causes(error))
    messages = " ".join(str(link) for link in chain)

    def raised(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if any(out_of_memory(link) for link in chain):
        return (
            f"There is not enough memory for the model {label!r}: try --dtype bfloat16, or a "
            "smaller model."
        )
    if (message := hub_message(error, source)) is not None:
        return message
    if what != "tokenizer" and (wrong := _WRONG_KIND.search(messages)):
        value = wrong[2] or wrong[3]
        return (
            f"The config.json of {label!r} says {wrong[1]} is "
            f"{value if len(value) <= _SHOWN else f'{value[:_SHOWN]}…'}, which is another kind of "
            "value than it can have: restore the one that belongs to the weights."
        )
    if raised(pickle.UnpicklingError) or "weights_only" in messages:
        return (
            f"The weights of {label!r} are damaged, or hold more than tensors, and are not "
            "unpickled: download them again, or save them as safetensors."
        )
    if "trust_remote_code" in messages:
        return (
            f"The model {label!r} needs code from its own repository: read it, then allow it with "
            "--trust-remote-code."
        )
    if source.kind == "gguf" and isinstance(error, (ValueError, IndexError, OSError, KeyError)):
        return f"The GGUF file {label!r} cannot be read: {first_line(error)}"
    if source.kind == "legacy" and isinstance(error, (FileNotFoundError, ValueError, KeyError)):
        return f"The model {label!r}{where} cannot be loaded: {first_line(error)}"
    if what == "tokenizer":
        if isinstance(
            error, (OSError, ValueError, KeyError, TypeError, ImportError, NotImplementedError)
        ):
            return tokenizer_is_missing(source) + f" ({first_line(error)})"
        return None
    if isinstance(
        error, (ImportError, OSError, ValueError, KeyError, NotImplementedError)
    ) or raised(json.JSONDecodeError):
        return f"The model {label!r}{where} cannot be loaded: {first_line(error)}"
    if type(error).__name__ == "SafetensorError":
        return f"The weights of {label!r} are broken or incomplete: {first_line(error)}"
    if isinstance(error, RuntimeError) and "mismatch" in messages:
        return f"The weights of {label!r} do not fit its config.json: {first_line(error)}"
    return None
