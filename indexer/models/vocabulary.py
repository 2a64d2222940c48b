"""The exact bytes of every token, so that joined tokens give the text back byte for byte. The kinds
of tokenizer spell bytes in three ways.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_LOW_LINE = "\u2581"  # SentencePiece's mark for a space


def token_bytes(tokenizer: Any, size: int) -> list[bytes]:
    """The bytes of the tokens 0 … size − 1.

    The bytes of an encoded text's tokens, joined, are the text in UTF-8, up to the tokenizer's own
    normalisation (such as a space SentencePiece puts in front). Added and special tokens are their
    literal text. An id without a token (a padding row of the embedding) is `b""`.
    """
    added = {int(i): str(token) for i, token in tokenizer.added_tokens_decoder.items()}
    names: dict[int, Any] = {i: name for name, i in tokenizer.get_vocab().items()}
    spell = _speller(tokenizer)
    out = []
    for i in range(size):
        if i in added:
            out.append(added[i].encode())
        elif i in names:
            name = names[i]
            out.append(name if isinstance(name, bytes) else spell(name))
        else:
            out.append(b"")
    return out


def known_tokens(tokenizer: Any, size: int) -> int:
    """How many of the first `size` ids can be a token: one more than the highest the tokenizer
    knows."""
    return min(size, 1 + max(tokenizer.get_vocab().values(), default=-1))


def special_token_id(tokenizer: Any, kind: str) -> int | None:
    """The id of a special token such as `bos_token`, or None.

    A class's default token that is not in the vocabulary does not count: transformers would return
    the unknown token's id.
    """
    token = getattr(tokenizer, kind, None)
    if token is None:
        return None
    i = tokenizer.convert_tokens_to_ids(str(token))
    if i is None or tokenizer.convert_ids_to_tokens(i) != str(token):
        return None
    return int(i)


def tokenizer_identity(tokenizer: Any) -> str:
    """Class name and a hash: equal for tokenizers that give equal ids, whatever files they came
    from and whatever padding a caller set on them since."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        facts = json.loads(backend.to_str())
        for state in ("padding", "truncation"):
            facts.pop(state, None)
    else:
        facts = sorted((str(name), int(i)) for name, i in tokenizer.get_vocab().items())
    facts = [facts, special_token_id(tokenizer, "bos_token")]
    text = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return f"{type(tokenizer).__name__}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _speller(tokenizer: Any) -> Callable[[str], bytes]:
    """The function from a name in this tokenizer's vocabulary to its bytes."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        if hasattr(tokenizer, "byte_decoder"):
            return _byte_level
        return _sentence_piece if hasattr(tokenizer, "sp_model") else str.encode
    facts = json.loads(backend.to_str())
    decoders = list(_parts(facts.get("decoder")))
    kinds = {part["type"] for part in decoders}
    if "ByteLevel" in kinds:
        return _byte_level
    if "WordPiece" in kinds:
        return _word_piece
    if "BPEDecoder" in kinds:
        suffix = next(part["suffix"] for part in decoders if part["type"] == "BPEDecoder")
        return lambda name: name.replace(suffix, " ").encode()
    if "Metaspace" in kinds or "ByteFallback" in kinds or "Replace" in kinds:
        return _sentence_piece
    if any(part["type"] == "ByteLevel" for part in _parts(facts.get("pre_tokenizer"))):
        return _byte_level
    return str.encode


def _parts(component: Any) -> Iterator[dict[str, Any]]:
    """A component of tokenizer.json, or each member of a sequence of components."""
    if not isinstance(component, dict):
        return
    if component.get("type") == "Sequence":
        for key in ("decoders", "pretokenizers", "normalizers"):
            for member in component.get(key, ()):
                yield from _parts(member)
    elif "type" in component:
        yield component


def _gpt2_alphabet() -> dict[str, int]:
    """GPT-2's one printable character per byte: printable Latin-1 stands for itself, the others
    are numbered from 256 up, in order."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in plain}
    others = [byte for byte in range(256) if byte not in set(plain)]
    return alphabet | {chr(256 + n): byte for n, byte in enumerate(others)}


_ALPHABET = _gpt2_alphabet()


def _byte_level(name: str) -> bytes:
    return b"".join(
        bytes([_ALPHABET[char]]) if char in _ALPHABET else char.encode() for char in name
    )


def _sentence_piece(name: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(name)
    if byte:
        return bytes([int(byte[1], 16)])
    return name.replace(_LOW_LINE, " ").encode()


def _word_piece(name: str) -> bytes:
    return name[2:].encode() if name.startswith("##") else b" " + name.encode()
