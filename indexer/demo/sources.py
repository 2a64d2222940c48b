"""Reads the four texts the bundled model is trained on, from files of Debian packages and Python.

Each reader gives documents of natural size: a chapter, a page of glosses, a part of a module, a
passage of a novel.
"""

import ast
import re
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

PART_CHARS = 6000
"""Approximate most characters in a Python document."""

PASSAGE_CHARS = 3000
"""A passage of a novel ends with the paragraph that reaches this many characters."""

SHORTEST_CHARS = 100
"""Shorter documents (the last word of a novel, a lone import) are omitted."""

SYNSETS_PER_PAGE = 30
"""Neighbouring WordNet synsets in a document."""


class SourceMissing(Exception):
    """A source file is missing or has an unknown format; the message says what to do."""


@dataclass(frozen=True)
class Document:
    """A text with its sub-corpus and a title."""

    text: str
    source: str
    title: str


def read_all(root: Path, python_lib: Path) -> dict[str, list[Document]]:
    """The documents of each source in order, without repeated and very short texts.

    `root` is `/` if the Debian packages are installed, or the folder they were unpacked to.
    Raises SourceMissing with the name of the package to install.
    """
    readers: dict[str, Callable[[], Iterable[Document]]] = {
        "bible": lambda: bible_chapters(root),
        "wordnet": lambda: wordnet_pages(root),
        "python": lambda: python_parts(python_lib),
        "austen": lambda: austen_passages(root),
    }
    return {name: _distinct(reader()) for name, reader in readers.items()}


def _distinct(documents: Iterable[Document]) -> list[Document]:
    long_enough = (document for document in documents if len(document.text) >= SHORTEST_CHARS)
    return list({document.text: document for document in long_enough}.values())


def _bytes_of(root: Path, relative: str, package: str) -> bytes:
    path = root / relative
    if not path.is_file():
        raise SourceMissing(
            f"{path} does not exist. It is part of the Debian package {package}: install that, "
            f"or unpack it with `apt-get download {package} && dpkg -x {package}_*.deb DIR` "
            "and pass that DIR to --sources."
        )
    return path.read_bytes()


# --- The King James Bible -----------------------------------------------------------------------

BIBLE_BOOKS = (
    "Genesis|Exodus|Leviticus|Numbers|Deuteronomy|Joshua|Judges|Ruth|1 Samuel|2 Samuel|1 Kings|"
    "2 Kings|1 Chronicles|2 Chronicles|Ezra|Nehemiah|Esther|Job|Psalms|Proverbs|Ecclesiastes|"
    "Song of Solomon|Isaiah|Jeremiah|Lamentations|Ezekiel|Daniel|Hosea|Joel|Amos|Obadiah|Jonah|"
    "Micah|Nahum|Habakkuk|Zephaniah|Haggai|Zechariah|Malachi|Matthew|Mark|Luke|John|Acts|Romans|"
    "1 Corinthians|2 Corinthians|Galatians|Ephesians|Philippians|Colossians|1 Thessalonians|"
    "2 Thessalonians|1 Timothy|2 Timothy|Titus|Philemon|Hebrews|James|1 Peter|2 Peter|1 John|"
    "2 John|3 John|Jude|Revelation"
).split("|")


def bible_chapters(root: Path) -> Iterator[Document]:
    """One document per chapter: its name, then one line per verse, `chapter:verse text`."""
    packed = _bytes_of(root, "usr/lib/bible.data", "bible-kjv-text")
    verses = [
        match.groups()
        for line in _unpack_bible(packed).splitlines()
        if (match := re.fullmatch(r"(\w+?)(\d+):(\d+) (.+)", line))
    ]
    books = groupby(verses, key=lambda verse: verse[0])
    for name, (_, book) in zip(BIBLE_BOOKS, books, strict=True):
        for chapter, lines in groupby(book, key=lambda verse: verse[1]):
            body = "\n".join(f"{chapter}:{number} {text}" for _, _, number, text in lines)
            yield Document(f"{name} {chapter}\n{body}\n", "bible", f"{name} {chapter}")


def _unpack_bible(packed: bytes) -> str:
    """The text in Debian's `bible.data`: windows of 64 KiB, each packed by `compress`.

    From byte 88 on, big-endian: the number of windows, the offset of each, and the end of the last.
    Windows lack the three-byte header of `.Z` files.
    """
    if not packed.startswith(b"EC02"):
        raise SourceMissing("usr/lib/bible.data is not in the format of bible-kjv-text 4.38.")
    (count,) = struct.unpack_from(">I", packed, 88)
    ends = struct.unpack_from(f">{count + 1}I", packed, 92)
    windows = [packed[start:end] for start, end in pairwise(ends)]
    return b"".join(_uncompress(b"\x1f\x9d\x90" + window) for window in windows).decode("ascii")


def _uncompress(data: bytes) -> bytes:
    try:
        return subprocess.run(["gzip", "-dc"], input=data, capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise SourceMissing("The program gzip is needed to unpack the Bible's text.") from error
    except subprocess.CalledProcessError as error:
        raise SourceMissing(f"usr/lib/bible.data is damaged: {error.stderr.decode()}") from error


# --- WordNet ------------------------------------------------------------------------------------

PARTS_OF_SPEECH = {"noun": "nouns", "verb": "verbs", "adj": "adjectives", "adv": "adverbs"}


def wordnet_pages(root: Path) -> Iterator[Document]:
    """One document for every 30 neighbouring synsets of a part of speech, one per line.

    A line is `word, word: definition; "example"`, as in a dictionary.
    """
    for part, plural in PARTS_OF_SPEECH.items():
        raw = _bytes_of(root, f"usr/share/wordnet/data.{part}", "wordnet-base").decode("utf-8")
        synsets = [_synset(line) for line in raw.splitlines() if not line.startswith("  ")]
        for start in range(0, len(synsets), SYNSETS_PER_PAGE):
            page = synsets[start : start + SYNSETS_PER_PAGE]
            text = "".join(f"{', '.join(words)}: {gloss}\n" for words, gloss in page)
            yield Document(text, "wordnet", f"{plural}: {page[0][0][0]} – {page[-1][0][0]}")


def _synset(line: str) -> tuple[list[str], str]:
    """The words and gloss of a data line, whose format is described in wndb(5WN)."""
    fields, _, gloss = line.partition(" | ")
    columns = fields.split()
    count = int(columns[3], 16)
    words = [re.sub(r"\(\w+\)$", "", word) for word in columns[4 : 4 + 2 * count : 2]]
    return [word.replace("_", " ") for word in words], gloss.strip()


# --- The Python standard library ----------------------------------------------------------------

PYTHON_LEFT_OUT = {
    "test", "tests", "idlelib", "lib2to3", "ensurepip", "site-packages", "pydoc_data",
    "turtledemo", "encodings", "distutils", "__pycache__", "lib-dynload",
}  # fmt: skip
"""Folders with tests, tables, programs, deprecated modules or third-party packages."""


def python_parts(lib: Path) -> Iterator[Document]:
    """Modules cut at top-level statements into parts of at most about 6,000 characters. Raises
    SourceMissing.

    Files with a copyright notice other than the PSF's are omitted, so that Python's licence covers
    everything. Parts longer than 9,000 characters are tables and omitted.
    """
    if not (lib / "argparse.py").is_file():
        raise SourceMissing(
            f"{lib} has no argparse.py, so it is not a Python standard library. Pass the Lib "
            "folder of CPython 3.11 (Debian: libpython3.11-stdlib) to --python-lib."
        )
    for path in sorted(lib.rglob("*.py")):
        name = path.relative_to(lib)
        if any(part in PYTHON_LEFT_OUT or part.startswith("config-") for part in name.parts):
            continue
        text = path.read_text(encoding="utf-8")
        if not _has_other_notice(text):
            for number, part in enumerate(_cut_module(text), start=1):
                if len(part) <= 1.5 * PART_CHARS:
                    yield Document(part, "python", f"{name.as_posix()}, part {number}")


def _has_other_notice(text: str) -> bool:
    """Whether a line mentions a copyright or licence without naming the PSF."""
    notices = re.findall(r"(?i).*(?:copyright|licen[cs]e|spdx-).*", text)
    return any("Python Software Foundation" not in notice for notice in notices)


def _cut_module(text: str) -> list[str]:
    """The module cut before top-level statements; longer statements are also cut at blank lines."""
    lines = text.splitlines(keepends=True)
    starts = {0} | {_first_line(node) - 1 for node in ast.parse(text).body}
    blocks = ["".join(lines[a:b]) for a, b in _spans(sorted(starts), len(lines))]
    parts: list[str] = []
    for block in blocks:
        long = len(block) > PART_CHARS
        parts += re.split(r"(?<=\n\n)(?=\s*\S)", block) if long else [block]
    return _pack(parts, PART_CHARS)


def _first_line(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return int(min([node.lineno, *(decorator.lineno for decorator in decorators)]))


def _spans(starts: list[int], end: int) -> list[tuple[int, int]]:
    return list(zip(starts, [*starts[1:], end], strict=True))


def _pack(parts: Iterable[str], limit: int) -> list[str]:
    """Neighbouring parts joined while they fit in `limit` characters, without blank ones."""
    packed: list[str] = []
    for part in parts:
        if packed and len(packed[-1]) + len(part) <= limit:
            packed[-1] += part
        else:
            packed.append(part)
    return [part for part in packed if part.strip()]


# --- Jane Austen's novels -----------------------------------------------------------------------


def austen_passages(root: Path) -> Iterator[Document]:
    """Passages of a few paragraphs, with lines joined and a blank line between paragraphs."""
    relative = "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
    for lines in _r_string_vectors(_bytes_of(root, relative, "r-cran-janeaustenr")):
        title = lines[0].title().replace(" And ", " and ")
        paragraphs = "\n".join(line.strip() for line in lines).split("\n\n")
        passages = _passages(" ".join(paragraph.split()) for paragraph in paragraphs)
        for number, passage in enumerate(passages, start=1):
            yield Document(passage, "austen", f"{title}, passage {number}")


def _passages(paragraphs: Iterable[str]) -> Iterator[str]:
    passage: list[str] = []
    for paragraph in filter(None, paragraphs):
        passage.append(paragraph)
        if sum(map(len, passage)) >= PASSAGE_CHARS:
            yield "\n\n".join(passage) + "\n"
            passage = []
    if passage:
        yield "\n\n".join(passage) + "\n"


def _r_string_vectors(database: bytes) -> Iterator[list[str]]:
    """The character vectors in an R lazy-load database, in file order.

    Each record is its unpacked length (4 bytes, big-endian), then zlib data: R's serialisation,
    version 3, in XDR. Only character vectors are supported.
    """
    while database:
        unpacker = zlib.decompressobj()
        yield _r_strings(unpacker.decompress(database[4:]))
        database = unpacker.unused_data


def _r_strings(serialised: bytes) -> list[str]:
    name_length, *_ = struct.unpack_from(">i", serialised, 14)
    kind, count = struct.unpack_from(">ii", serialised, 18 + name_length)
    if not serialised.startswith(b"X\n") or kind & 0xFF != 16:
        raise SourceMissing("Rdata.rdb is not in the format of r-cran-janeaustenr 1.0.0.")
    strings: list[str] = []
    at = 26 + name_length
    for _ in range(count):
        (length,) = struct.unpack_from(">i", serialised, at + 4)
        strings.append(serialised[at + 8 : at + 8 + length].decode("utf-8"))
        at += 8 + length
    return strings
