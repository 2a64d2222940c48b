"""What a tokenizer's ids stand for: the exact bytes of every token, so that joined tokens give the
text back, and which tokens are control tokens.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from indexer.models.spelling import spellings

ROLES = ("bos_token", "eos_token", "pad_token", "sep_token", "cls_token", "mask_token")
"""What a control token may be to a tokenizer. The unknown token stands for text."""


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


def control_tokens(tokenizer: Any) -> dict[int, str]:
    """The tokens that steer a model and are no text, by id.

    They are the tokens added as special, and words of the vocabulary with a role such as BOS. A
    tokenizer's list of special tokens can name ordinary text, such as line breaks, and is not
    believed. The unknown token is one only if it has a second role.
    """
    added = {int(i): token for i, token in tokenizer.added_tokens_decoder.items()}
    ids = (special_token_id(tokenizer, role) for role in ROLES)
    roles = {i for i in ids if i is not None}
    controls = {i for i, token in added.items() if token.special} | (roles - added.keys())
    unknown = special_token_id(tokenizer, "unk_token")
    if unknown is not None and unknown not in roles:
        controls.discard(unknown)
    names = {i: str(tokenizer.convert_ids_to_tokens(i)) for i in roles} | {
        i: str(token) for i, token in added.items()
    }
    return {i: names[i] for i in sorted(controls)}


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
