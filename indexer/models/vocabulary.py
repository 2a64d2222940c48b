"""What a tokenizer's ids stand for: the exact bytes of every token, so that joined tokens give the
text back.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from indexer.corpus.special_tokens import control_tokens, special_token_id
from indexer.models.spelling import spellings


def token_bytes(tokenizer: Any, size: int) -> list[bytes]:
    """The bytes of the tokens 0 … size − 1.

    The bytes of an encoded text's tokens, joined, are what the tokenizer decodes: the text in
    UTF-8, up to the tokenizer's own normalisation (such as a space SentencePiece puts in front).
    Control tokens are their literal text. An id without a token (a padding row of the embedding)
    is `b""`.
    """
    added = {int(i): str(token) for i, token in tokenizer.added_tokens_decoder.items()}
    controls = control_tokens(tokenizer)
    names: dict[int, Any] = {i: name for name, i in tokenizer.get_vocab().items()} | added
    out = [b""] * size
    asked = []
    for i, name in names.items():
        if not 0 <= i < size:
            continue
        if isinstance(name, bytes):
            out[i] = name
        elif i in controls:
            out[i] = name.encode()
        else:
            asked.append(i)
    texts = {i: name for i, name in names.items() if isinstance(name, str)}
    for i, content in zip(asked, spellings(tokenizer, asked, texts, frozenset(added)), strict=True):
        out[i] = content
    return out


def known_tokens(tokenizer: Any, size: int) -> int:
    """How many of the first `size` ids can be a token: one more than the highest the tokenizer
    knows."""
    return min(size, 1 + max(tokenizer.get_vocab().values(), default=-1))


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
