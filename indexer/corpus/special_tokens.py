"""Which of a tokenizer's tokens are control tokens: they steer a model and are no text."""

from __future__ import annotations

from typing import Any

ROLES = ("bos_token", "eos_token", "pad_token", "sep_token", "cls_token", "mask_token")
"""What a control token may be to a tokenizer. The unknown token stands for text."""


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
