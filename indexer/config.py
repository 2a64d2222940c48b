"""The settings of an indexing run, validated before anything is loaded."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from indexer.errors import NeurariumError

RESERVED_NAMES = frozenset(
    "api compare docs favicon.ico go healthz help list openapi.json random robots.txt runs search "
    "static".split()
)
HOOK_PRE, HOOK_POST, HOOK_BEFORE_LN = "mlp.hook_pre", "mlp.hook_post", "mlp.ln.hook_in"
HOOK_POINTS = (HOOK_PRE, HOOK_POST, HOOK_BEFORE_LN)
"""Every hook point a user may ask for: before the activation function (in gated MLPs the gate
alone), after it, and after SoLU but before the LayerNorm that follows it."""
DTYPES = ("float32", "bfloat16", "float16")
MAX_CTX_LEN = 65_535  # positions are stored as 16-bit integers
_DEVICE = re.compile(r"cpu|cuda(:[0-9]+)?")
"""Statistics need float64, which only the CPU and CUDA are sure to have."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class IndexConfig:
    """The settings of one run, which are stored as part of its provenance."""

    model: str
    """What to load: `demo`, a Neuroscope name, a hub id, a local directory or a `.gguf` file."""
    corpus: str | None = None
    """What to read: a hub data set (`name[:config]`) or a local file or folder.
    None: the model's default corpus."""
    name: str | None = None
    """The model's name in URLs. None: the last part of its id."""
    revision: str | None = None
    """Branch, tag or training checkpoint. None: the newest."""
    hook_point: str | None = None
    """Where activations are captured. None: the model's default."""
    split: str = "train"
    """Split of a hub data set."""
    text_column: str | None = None
    """Column with the text. None: `text`, or the only column."""
    source_column: str | None = None
    """Column with the name of a document's sub-corpus. None: detected under its usual names."""
    ctx_len: int = 128
    """Tokens in a context, including the BOS."""
    max_tokens: int | None = None
    """Tokens to read from the corpus at most, without BOS tokens."""
    top_k: int = 20
    """Contexts with the highest peaks stored for each neuron."""
    bottom_k: int = 10
    """Contexts with the lowest troughs stored for each neuron."""
    sample: int = 1024
    """Contexts in the uniform sample, the same for every neuron."""
    window: int | None = None
    """Positions stored around an example's peak. None: the whole context."""
    batch_tokens: int = 4096
    """Positions in one forward pass, including padding."""
    dtype: str | None = None
    """None: float32 on CPU, the checkpoint's own elsewhere."""
    device: str | None = None
    """None: CUDA if there is a GPU, else the CPU."""
    seed: int = 0
    """Seed of the hash that chooses the sample."""
    connections: bool = True
    """Whether every neuron's weights are compared with every other's; the time grows with the
    square of their number."""
    trust_remote_code: bool = False
    """Whether code from the model's hub repository may run."""

    def __post_init__(self) -> None:
        """Raises `NeurariumError` for settings that cannot work."""
        if not self.model:
            raise NeurariumError("The model is empty: name a hub id, a folder or `demo`.")
        if self.name is not None:
            check_name(self.name)
        if self.hook_point is not None:
            _check_hook_point(self.hook_point)
        if self.dtype is not None and self.dtype not in DTYPES:
            raise NeurariumError(f"dtype {self.dtype!r} is not one of {', '.join(DTYPES)}.")
        if self.device is not None and not _DEVICE.fullmatch(self.device):
            raise NeurariumError(
                f"The device {self.device!r} cannot be used: choose cpu, cuda, or cuda:1 for the "
                "second GPU (--device)."
            )
        _at_least("ctx_len", self.ctx_len, 2)
        if self.ctx_len > MAX_CTX_LEN:
            raise NeurariumError(
                f"ctx_len is {self.ctx_len}: it can be at most {MAX_CTX_LEN:,}, and at most the "
                "model's number of positions (--ctx-len)."
            )
        _at_least("top_k", self.top_k, 1)
        _at_least("bottom_k", self.bottom_k, 0)
        _at_least("sample", self.sample, 2)
        _at_least("batch_tokens", self.batch_tokens, 2)
        if self.max_tokens is not None:
            _at_least("max_tokens", self.max_tokens, 2)
        if self.window is not None:
            _at_least("window", self.window, 1)

    def as_dict(self) -> dict[str, str | int | bool | None]:
        """The settings as plain values, by name."""
        return asdict(self)


@dataclass(frozen=True)
class Execution:
    """How a run is carried out. None of these settings changes a result."""

    restart: bool = False
    """Whether to start over instead of resuming an unfinished run."""
    state: Path | None = None
    """Folder of the run's checkpoints. None: a folder in the cache."""
    memory: int | None = None
    """Bytes the scan may hold beside the model. None: most of the free memory."""
    workers: int | None = None
    """Processes that scan, each with its own model. None: this process alone; on a cluster one per
    GPU, or one per machine without GPUs."""
    ray_address: str | None = None
    """Address of the Ray cluster whose workers scan. None: this machine alone."""
    checkpoint_seconds: float = 300.0
    """Seconds between two checkpoints."""


def check_name(name: str) -> None:
    """Raises `NeurariumError` for a model name that cannot be part of a URL."""
    if name.lower() in RESERVED_NAMES:
        raise NeurariumError(f"The name {name!r} is reserved: choose another with --name.")
    if not _NAME.fullmatch(name) or len(name) > 100:
        raise NeurariumError(
            f"The name {name!r} cannot be part of a URL: use up to 100 letters, digits, '.', '_' "
            "and '-', a letter or digit first (--name)."
        )


def _check_hook_point(hook_point: str) -> None:
    if hook_point not in HOOK_POINTS:
        raise NeurariumError(
            f"There is no hook point {hook_point!r}: choose {', '.join(HOOK_POINTS)} "
            "(--hook-point)."
        )


def _at_least(field: str, value: int, least: int) -> None:
    if value < least:
        option = "--" + field.replace("_", "-")
        raise NeurariumError(f"{field} is {value}: it must be {least} or more ({option}).")
