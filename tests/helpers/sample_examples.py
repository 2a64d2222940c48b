"""Examples as schema objects that look like a real run's, and the unkindest of tokens."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

import numpy as np

from app.examples.schemas import Example, SourceExamples

CTX_LEN = 128

TEXTS = {
    "bible": (
        "And the king said unto his servants, Bring me a sword; and they brought a sword before "
        "the king. And it came to pass in the seventh year, in the fifth month, the tenth day of "
        "the month, that certain of the elders came to enquire, and sat before me.\n"
        "Then came the word unto me, saying, Speak unto the elders, and say unto them: Are ye "
        "come to enquire of me? As I live, I will not be enquired of by you.\n"
    ),
    "wordnet": (
        "a small boat propelled by oars or by sails and used on inland waters; a shallow vessel. "
        "the quality of being easily understood, free of ambiguity; lucidity of thought and of "
        "expression.\nthe branch of biology that studies the relation of living things to one "
        "another and to the place in which they live; an interdisciplinary field of study.\n"
    ),
    "python": (
        'def parse_header(line, separator=\':\'):\n    """Split a line into name and value."""\n'
        "    name, found, value = line.partition(separator)\n    if not found:\n"
        "        raise ValueError(f'no {separator!r} in {line!r}')\n"
        "    return name.strip().lower(), value.strip()\n\n\nclass Reader:\n"
        "    def __init__(self, stream, size=4096):\n        self.stream = stream\n"
        "        self.size = size\n\tself.lines = 0\n"
    ),
}

HOSTILE = [
    "<script>alert(1)</script>",
    "\" onmouseover='alert(1)'",
    "</span></p>",
    "&amp;&#x3c;",
    "\u202eright to left\u202c",
    "\u2066\u200b\u200d\ufeff",
    "\x00\x1b[31m\x7f\x85",
    "שלום",
    "مرحبا",
    "\u0301\u0302\u0303",
    "Z" + "\u0335" * 40,
    "\ud800",
    "\u2028\u2029",
    "\r\n\t\n",
    "\\xff\\xfe",
    "\\xf0\\x9f",
    "\\x98",
    "\\x80",
    " \u00a0",
    "",
    "{{ page }}",
    "W" * 10_000,
]


def tokenise(text: str) -> list[str]:
    """Words with their leading space, digits and punctuation apart: near enough to a BPE."""
    return re.findall(r" ?[A-Za-z]{1,7}| ?\d| ?[^\sA-Za-z\d]|\n|[ \t]+", text)


def sharp(token: str, rng: random.Random) -> float:
    """Fires on few words, slightly negative elsewhere, as a GELU neuron."""
    if token.strip() in {"king", "sword", "elders", "Reader"}:
        return rng.uniform(2.0, 5.4)
    if token.strip() in {"the", "his", "my", "of"}:
        return rng.uniform(0.2, 1.9)
    return max(-0.17, rng.gauss(-0.1, 0.09))


def smooth(token: str, rng: random.Random) -> float:
    """Large in both directions, as a neuron before its activation function."""
    return rng.gauss(0.2, 1.1) + (3 if token.isspace() else 0)


def negative(token: str, rng: random.Random) -> float:
    """Never above zero."""
    return -abs(rng.gauss(0.09, 0.05)) - 1e-3


def example(
    tokens: Sequence[str],
    rank: int = 1,
    *,
    fires: Callable[[str, random.Random], float] = sharp,
    source: str | None = "bible",
    bos: bool = True,
    start: int = 0,
) -> Example:
    """One example whose activations come from `fires`; BOS, if any, is not included."""
    rng = random.Random(f"{rank} {source} {len(tokens)}")
    values: list[float | None] = [float(np.float32(fires(token, rng))) for token in tokens]
    shown = list(tokens)
    if bos:
        shown, values = ["<|endoftext|>", *shown], [None, *values]
    known = [(value, -i) for i, value in enumerate(values) if value is not None]
    peak, at = max(known)
    trough, low_at = min((value, -i) for value, i in known)
    return Example(
        rank=rank,
        peak=peak,
        peak_position=start - at,
        trough=trough,
        trough_position=start + low_at,
        context_id=17 * rank + 4,
        document_index=rank,
        source=source,
        gate=None,
        linear=None,
        start=start,
        tokens=shown,
        token_ids=[abs(hash_of(token)) % 4096 for token in shown],
        activations=values,
    )


def hash_of(token: str) -> int:
    return sum((i + 1) * ord(character) for i, character in enumerate(token[:50]))


def context(rank: int, *, length: int = CTX_LEN - 1) -> tuple[list[str], str]:
    """The tokens of one context of a mixed corpus, and its source."""
    source = list(TEXTS)[rank % len(TEXTS)]
    tokens = tokenise(TEXTS[source])
    offset = (rank * 37) % len(tokens)
    around = tokens * (2 + length // len(tokens))
    return around[offset : offset + length], source


def examples(
    count: int, fires: Callable[[str, random.Random], float] = sharp, *, lowest: bool = False
) -> list[Example]:
    made = [
        example(tokens, rank, fires=fires, source=source)
        for rank in range(1, count + 1)
        for tokens, source in [context(rank)]
    ]
    made.sort(key=lambda e: e.trough if lowest else -e.peak)
    return [one.model_copy(update={"rank": i}) for i, one in enumerate(made, 1)]


def sources(count: int, *, each: int = 3) -> list[SourceExamples]:
    """The examples of so many sources, each a little weaker than the one before; the ninth is the
    rest."""
    names = ["bible", "wordnet", "python", "austen", "wiki", "mail", "news", "law"]
    found = []
    for slot in range(count):
        name = names[slot] if slot < len(names) else None
        some = [
            example(context(31 * slot + rank)[0], rank, source=name) for rank in range(1, each + 1)
        ]
        some.sort(key=lambda one: -one.peak)
        ranked = [one.model_copy(update={"rank": i}) for i, one in enumerate(some, 1)]
        found.append(
            SourceExamples(source=name, other=name is None, mean_peak=0.9 / (slot + 1),
                           examples=ranked)
        )  # fmt: skip
    return found
