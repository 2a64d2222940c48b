"""Reads the bodies, forms and texts that visitors send, within bounds."""

from __future__ import annotations

import json
from typing import Any, TypeVar
from urllib.parse import parse_qs

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from app.errors import Invalid, TooLarge

MOST_BYTES = 1 << 16
"""The longest text, in bytes of UTF-8: quick to tokenise, and longer than any limit of tokens."""
MOST_BODY = 8 * MOST_BYTES
"""The largest body with one text, in bytes: JSON can spend six on each byte of the text."""
TOO_LONG = f"The request is too long: the maximum is {MOST_BYTES:,} bytes of text."
TEXT_EXAMPLE = '{"text": "…"}'
_MOST_FIELDS = 8

Sent = TypeVar("Sent", bound=BaseModel)


async def body_of(request: Request, most: int, refusal: str = TOO_LONG) -> bytes:
    """The request's body. Raises TooLarge with `refusal` once it exceeds `most` bytes."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 9 or int(length) > most):
        raise TooLarge(refusal)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise TooLarge(refusal)
    except ClientDisconnect:  # the visitor has gone, so this answer reaches nobody
        raise Invalid("The request broke off.") from None
    return bytes(body)


def json_as(schema: type[Sent], body: bytes, example: str = TEXT_EXAMPLE) -> Sent:
    """The object that a JSON body holds. Raises Invalid, with `example` in its message."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"The body is not UTF-8: byte {error.start} cannot be read.") from None
    try:
        return schema.model_validate(json.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        where, why = (f"{field!r} of the body" if field else "The body"), first["msg"]
    except (ValueError, RecursionError) as error:
        where, why = "The body", f"it is not JSON: {error}"
    raise Invalid(f"{where} cannot be used ({why}): send JSON such as {example}.")


def form_fields(body: bytes) -> dict[str, str]:
    """The first value of each field of a form. Raises Invalid."""
    return {name: values[0] for name, values in form_lists(body, _MOST_FIELDS).items()}


def form_lists(body: bytes, most: int) -> dict[str, list[str]]:
    """All values of each field of a form that has at most `most` of them. Raises Invalid."""
    try:
        fields = parse_qs(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=most
        )
    except UnicodeDecodeError:
        raise Invalid("The text is not UTF-8.") from None
    except ValueError:
        raise Invalid(f"The form has more than {most} fields.") from None
    # Browsers send line ends as CR LF.
    return {name: [v.replace("\r\n", "\n") for v in values] for name, values in fields.items()}


def checked(text: str, name: str = "The text") -> str:
    """The text, if it can be tokenised. Raises Invalid or TooLarge, with `name` in the message."""
    if not text:
        raise Invalid(f"{name} is empty: type something.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Invalid(f"{name} has half a character in it: a lone surrogate.") from None
    if size > MOST_BYTES:
        raise TooLarge(f"{name} has {size:,} bytes: the maximum is {MOST_BYTES:,}.")
    return text


def json_body(schema: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI description of a body that a route parses itself, for `openapi_extra`."""
    content = {"application/json": {"schema": schema.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}
