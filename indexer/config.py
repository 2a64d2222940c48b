"""The options of an indexing run, declared once: `neurarium index` takes them from here."""

from __future__ import annotations

import re
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from indexer.errors import NeurariumError, quoted
from indexer.models.asked import Asked
from indexer.models.names import (
    DTYPES,
    HOOK_PATTERN,
    HOOK_POINTS,
    MLP_HOOK_POINTS,
    TENSOR_HOOK_POINTS,
)
from indexer.paths import absolute
from indexer.store.units import check_set_name

RESERVED_NAMES = frozenset(
    "api compare docs favicon.ico go healthz help list notes openapi.json random robots.txt runs "
    "search static".split()
)
MAX_CTX_LEN = 65_535  # positions are stored as 16-bit integers
_DEVICE = re.compile(r"cpu|cuda(:[0-9]+)?")
"""Statistics need float64, which only the CPU and CUDA are sure to have."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Option(NamedTuple):
    """How a field appears on the command line."""

    help: str
    least: int | None = None
    most: int | None = None
    unit: int | None = None
    """The command line takes multiples of this: 10**9 for a size in gigabytes."""
    also: str = ""
    """Another name of the option, such as `--dictionary-name`."""


def _option(help: str, **more: Any) -> dict[str, Option]:
    return {"option": Option(help, **more)}


def option_of(declared: Field[Any]) -> Option | None:
    """The option a field declares; None if it is not on the command line."""
    return declared.metadata.get("option")


@dataclass(frozen=True)
class IndexConfig:
    """What is indexed, and how. Every field that can change a number is part of its provenance."""

    model: str = field(
        metadata=_option(
            "demo, a Hugging Face id, a local folder, a .gguf file, or one of Neuroscope's "
            "names such as gelu-1l, solu-4l-pile, gpt2-small, pythia-70m."
        )
    )
    corpus: str | None = field(
        default=None,
        metadata=_option(
            "A Hugging Face dataset (name or name:config), a local file of plain text (.txt, .md, "
            ".py, …), .jsonl (also .gz, .zst), .csv, .tsv, .parquet or .arrow, or a folder of "
            "these. Default: the model's own corpus, if any."
        ),
    )
    name: str | None = field(
        default=None,
        metadata=_option("The model's name in URLs. Default: the last part of its id or path."),
    )
    revision: str | None = field(
        default=None,
        metadata=_option("Branch, tag or training checkpoint of the model. Default: the newest."),
    )
    hook_point: str | None = field(
        default=None,
        metadata=_option(
            "Where activations are captured, in TransformerLens's words without the block. MLP "
            f"neurons: {', '.join(MLP_HOOK_POINTS)}. Dimensions of a tensor: "
            f"{', '.join(TENSOR_HOOK_POINTS)}. Default: mlp.ln.hook_in for SoLU models, otherwise "
            "mlp.hook_post. With --dictionary, where its file does not say: a place such as "
            "blocks.3.hook_resid_post."
        ),
    )
    dictionary: str | None = field(
        default=None,
        metadata=_option(
            "Index the latents of sparse autoencoders or transcoders, or directions, in place of "
            "neurons: files, folders or hub repositories (owner/name[:subfolder]) of dictionaries, "
            "separated by commas, at most one a layer. Given several times, each is a set."
        ),
    )
    force: bool = field(
        default=False,
        metadata=_option(
            "Go on with a dictionary that names another model, or reconstructs far worse than it "
            "declares."
        ),
    )
    set_name: str | None = field(
        default=None,
        metadata=_option(
            "The name in URLs of the set of units. Default: what the dictionary's file says, or "
            "from the hook point, such as resid_post.",
            also="--dictionary-name",
        ),
    )
    heads: bool = field(
        default=False,
        metadata=_option(
            "Index the model's attention heads instead of its neurons: pairs of positions, scores, "
            "circuits."
        ),
    )
    split: str = field(default="train", metadata=_option("Split of a Hugging Face dataset."))
    text_column: str | None = field(
        default=None, metadata=_option("Column with the text. Default: detected.")
    )
    source_column: str | None = field(
        default=None,
        metadata=_option("Column with a document's source (its sub-corpus). Default: detected."),
    )
    ctx_len: int = field(
        default=128,
        metadata=_option(
            "Tokens per context, including BOS. No more than the model has positions.",
            least=2,
            most=MAX_CTX_LEN,
        ),
    )
    bos: bool = field(
        default=True,
        metadata=_option(
            "Put the tokenizer's BOS, if it has one, in front of each context. Rows of token ids "
            "stay as they are."
        ),
    )
    max_tokens: int | None = field(
        default=None,
        metadata=_option(
            "Stop reading the corpus after this many tokens, not counting BOS. Default: read all.",
            least=2,
        ),
    )
    top_k: int = field(default=20, metadata=_option("Top examples per neuron.", least=1))
    bottom_k: int | None = field(
        default=None,
        metadata=_option(
            "Bottom examples per unit. Default: 10, or as many as top examples for the dimensions "
            "of a tensor, whose two signs are alike.",
            least=0,
        ),
    )
    sample: int = field(
        default=1024,
        metadata=_option(
            "Contexts in the uniform sample, which is the same for every neuron.", least=2
        ),
    )
    window: int | None = field(
        default=None,
        metadata=_option(
            "Positions stored around an example's peak. Default: the whole context.", least=1
        ),
    )
    batch_tokens: int = field(
        default=4096, metadata=_option("Positions in one forward pass, including padding.", least=2)
    )
    dtype: str | None = field(
        default=None,
        metadata=_option(
            "float32, bfloat16 or float16. Default: float32 on CPU, otherwise the checkpoint's."
        ),
    )
    device: str | None = field(
        default=None,
        metadata=_option("cpu, cuda, cuda:1, … Default: cuda if available, otherwise cpu."),
    )
    seed: int = field(default=0, metadata=_option("Seed of the hash that draws the sample."))
    connections: bool = field(
        default=True,
        metadata=_option(
            "Compare the weights of every pair of neurons, to find similar, upstream and "
            "downstream neurons. The time grows with the square of the number of neurons."
        ),
    )
    trust_remote_code: bool = field(
        default=False, metadata=_option("Run code from the model's repository.")
    )

    def __post_init__(self) -> None:
        """Raises `NeurariumError` if a setting cannot work."""
        if not self.model:
            raise NeurariumError("The model is empty: name a Hugging Face id, a folder or `demo`.")
        if self.name is not None:
            check_name(self.name)
        known = self.dictionary is not None or self.hook_point in (None, *HOOK_POINTS)
        if not known:
            raise NeurariumError(
                f"There is no hook point {quoted(self.hook_point)}: choose "
                f"{', '.join(HOOK_POINTS)} (--hook-point)."
            )
        if self.heads and (self.hook_point or self.set_name):
            raise NeurariumError(
                "Attention heads have a place and a name of their own: leave out --hook-point and "
                "--set-name, or --heads."
            )
        if self.set_name is not None:
            check_set_name(self.set_name)
        if self.dtype is not None and self.dtype not in DTYPES:
            raise NeurariumError(
                f"dtype {quoted(self.dtype)} is not one of {', '.join(DTYPES)} (--dtype)."
            )
        if self.device is not None and not _DEVICE.fullmatch(self.device):
            raise NeurariumError(
                f"The device {quoted(self.device)} cannot be used: choose cpu, cuda, or cuda:1 for "
                "the second GPU (--device)."
            )
        _check_bounds(self)

    def asked(self) -> Asked:
        """The set of units that is asked for."""
        hook_point = HOOK_PATTERN if self.heads else self.hook_point
        dictionary = self.dictionary
        if dictionary is not None:  # absolute, so that the command works from any folder
            dictionary = ",".join(map(_absolute_file, dictionary.split(",")))
        return Asked(hook_point, dictionary, self.force)

    def as_dict(self) -> dict[str, str | int | bool | None]:
        """The settings as plain values, by name."""
        return asdict(self)


@dataclass(frozen=True)
class Execution:
    """How a run is carried out. None of these settings changes a result."""

    restart: bool = field(
        default=False,
        metadata=_option("Start again from the beginning instead of resuming an unfinished run."),
    )
    state: Path | None = field(
        default=None,
        metadata=_option("Folder for the run's checkpoints. Default: one in the cache."),
    )
    memory: int | None = field(
        default=None,
        metadata=_option(
            "Gigabytes the scan may use, not counting the model. If all layers do not fit at once, "
            "the corpus is read several times. Default: most of the free memory.",
            least=1,
            unit=10**9,
        ),
    )
    """In bytes."""
    workers: int | None = field(
        default=None,
        metadata=_option(
            "Processes that scan, each with its own copy of the model: one per GPU, or an equal "
            "share of the cores. Needs the extra ray. Default: 1; on a cluster, one per GPU, or "
            "one per machine without GPUs.",
            least=1,
        ),
    )
    ray_address: str | None = field(
        default=None,
        metadata=_option(
            "HOST:PORT of the Ray cluster to scan on, or auto on one of its machines. Default: "
            "this machine only."
        ),
    )
    checkpoint_seconds: float = 300.0
    """Time between two checkpoints."""

    def __post_init__(self) -> None:
        """Raises `NeurariumError` if a number is out of bounds."""
        _check_bounds(self)


def check_name(name: str) -> None:
    """Raises `NeurariumError` if the model name cannot be part of a URL."""
    if name.lower() in RESERVED_NAMES:
        raise NeurariumError(
            f"The name {quoted(name)} is reserved by the server: choose another with --name."
        )
    if not _NAME.fullmatch(name) or len(name) > 100:
        raise NeurariumError(
            f"The name {quoted(name)} cannot be used in URLs: use up to 100 letters, digits, '.', "
            "'_' and '-', starting with a letter or digit (--name)."
        )


def _absolute_file(reference: str) -> str:
    """The absolute path of a file or folder; a hub repository stays as it is."""
    path = Path(reference).expanduser()
    return str(absolute(path)) if reference and path.exists() else reference


def _check_bounds(config: IndexConfig | Execution) -> None:
    for declared in fields(config):
        option, name = option_of(declared), declared.name
        value = getattr(config, name)
        if option is None or value is None:
            continue
        flag = "--" + name.replace("_", "-")
        if option.least is not None and value < option.least:
            raise NeurariumError(f"{name} is {value}: it must be {option.least} or more ({flag}).")
        if option.most is not None and value > option.most:
            raise NeurariumError(f"{name} is {value}: it must be {option.most} or less ({flag}).")
