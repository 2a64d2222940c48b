"""Neurarium from Python: index a model, read what was indexed, show it.

    import neurarium

    store = neurarium.open("sqlite:///neurons.db")
    neuron = store.model("demo").neuron(1, 349)
    neuron.top[0].tokens

Importing this package imports no model, web or database library: each function imports what it
needs when it is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurarium.own import claim_names

claim_names()

from indexer.errors import NeurariumError  # noqa: E402 - only after the names are claimed

if TYPE_CHECKING:
    from indexer.models.dictionaries.dictionary import Dictionary
    from neurarium.objects import Model, Store
    from neurarium.serving import Server

    __version__: str

__all__ = [
    "NeurariumError",
    "__version__",
    "connect",
    "index",
    "index_sets",
    "open",
    "read_dictionary",
    "serve",
]


def open(database: str | Path | None = None) -> Store:
    """The runs in a database, read without a server.

    `database` is an SQLite file, `sqlite:///FILE` or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`;
    None: the command's default. Raises NeurariumError if there is no store.
    """
    from neurarium.local import local_store

    return local_store(database)


def connect(url: str) -> Store:
    """The runs that a Neurarium server serves, such as `http://127.0.0.1:8000`.

    Raises NeurariumError if no Neurarium answers there.
    """
    from neurarium.remote import remote_store

    return remote_store(url)


def index(
    model: Any,
    tokenizer: Any,
    texts: Iterable[Any],
    *,
    name: str,
    hook_point: str | None = None,
    database: str | Path | None = None,
    source: str | None = None,
    progress: bool = True,
    **options: Any,
) -> Model:
    """Index a model that is in memory, and return its run.

    Args:
        model: a transformers causal language model, or a TransformerBridge; it is not changed.
        tokenizer: its transformers tokenizer.
        texts: strings, dictionaries with `text` and perhaps `source`, arrays of token ids, or a
            `datasets` data set.
        name: the model's name in URLs.
        hook_point: where activations are captured; None: the model's default.
        database: as for `open`; it is made if it is not there.
        source: the source of every text that has none of its own.
        progress: whether to show a progress bar.
        options: those of `neurarium index`, such as `ctx_len=64`, except the ones that name a
            model or a corpus, or load one.

    Equal inputs give the same content hash as the command. `index_sets` indexes several sets of
    units at once. Raises NeurariumError.
    """
    from neurarium.indexing import index_in_memory, one_set

    given = one_set(options | {"hook_point": hook_point})
    (run,) = index_in_memory(
        model,
        tokenizer,
        texts,
        name=name,
        database=database,
        source=source,
        progress=progress,
        **given,
    )
    return run


def index_sets(
    model: Any,
    tokenizer: Any,
    texts: Iterable[Any],
    *,
    name: str,
    neurons: bool = False,
    heads: bool = False,
    dictionaries: Sequence[str] = (),
    database: str | Path | None = None,
    source: str | None = None,
    progress: bool = True,
    **options: Any,
) -> list[Model]:
    """Index several sets of units of a model that is in memory, captured in one forward pass where
    they can be, and return a run of each: neurons, dictionaries in their order, attention heads.

    Args:
        neurons: whether to index the MLP neurons.
        heads: whether to index the attention heads.
        dictionaries: files, folders or hub repositories of dictionaries, each as `--dictionary`
            takes it.

    The other arguments are those of `index`, and each run has the content hash that it has alone.
    Raises NeurariumError.
    """
    from neurarium.indexing import index_in_memory

    return index_in_memory(
        model,
        tokenizer,
        texts,
        name=name,
        neurons=neurons,
        dictionaries=dictionaries,
        database=database,
        source=source,
        progress=progress,
        options={**options, "heads": heads},
    )


def read_dictionary(reference: str, layer: int, hook_point: str | None = None) -> Dictionary:
    """A layer's sparse autoencoder, transcoder or directions, from a file, a folder or a hub
    repository `owner/name[:subfolder]` of any layout that can be indexed.

    Its `encode(activations)` gives every latent's activation, `decode(acts, activations)` what is
    reconstructed. `hook_point` is where it reads, for files that do not say. Raises NeurariumError.
    """
    from neurarium.dictionaries import dictionary_of_layer

    return dictionary_of_layer(reference, layer, hook_point)


def serve(store: Store | str | Path | None = None, *, port: int = 0, live: bool = False) -> Server:
    """Serve a store's pages from this process, beside what else runs in it.

    `port` 0 picks a free one; `live` lets visitors run the models on their own text. Raises
    NeurariumError.
    """
    from neurarium.serving import start

    return start(store, port=port, live=live)


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("neurarium")
    raise AttributeError(f"module 'neurarium' has no attribute {name!r}")
