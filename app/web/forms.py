"""Bodies, forms and texts that visitors send, bounded and checked."""

from __future__ import annotations

import json
from typing import Any, TypeVar
from urllib.parse import parse_qs

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from app.errors import Invalid, TooLarge

MOST_BYTES = 1 << 16
"""The longest text, in UTF-8: many times what the tokens let through, and soon tokenised."""
MOST_BODY = 8 * MOST_BYTES
"""The largest body of one text: JSON may spell a byte with six."""
TOO_LONG = f"What was sent is too long: a text has {MOST_BYTES:,} bytes at most."
TEXT_EXAMPLE = '{"text": "…"}'
_FIELDS = 8

Sent = TypeVar("Sent", bound=BaseModel)


async def body_of(request: Request, most: int, refusal: str = TOO_LONG) -> bytes:
    """What was sent. Raises TooLarge with `refusal` as soon as it is more than `most` bytes."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 9 or int(length) > most):
        raise TooLarge(refusal)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise TooLarge(refusal)
    except ClientDisconnect:  # nobody will see this answer
        raise Invalid("What was sent broke off.") from None
    return bytes(body)


def json_as(schema: type[Sent], body: bytes, example: str = TEXT_EXAMPLE) -> Sent:
    """A body of JSON as the object it has to be. Raises Invalid, which names an `example`."""
    try:
        written = body.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"The body is not UTF-8: byte {error.start} cannot be read.") from None
    try:
        return schema.model_validate(json.loads(written))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        where, why = (f"{field!r} of the body" if field else "The body"), first["msg"]
    except (ValueError, RecursionError) as error:
        where, why = "The body", f"it is not JSON: {error}"
    raise Invalid(f"{where} cannot be used ({why}): send JSON such as {example}.")


def form_fields(body: bytes) -> dict[str, str]:
    """The first of each field of a form, line ends as they were typed. Raises Invalid."""
    try:
        fields = parse_qs(
            body.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_FIELDS,
        )
    except UnicodeDecodeError:
        raise Invalid("The text is not UTF-8.") from None
    except ValueError:
        raise Invalid("The form has more fields than this one has.") from None
    # A form sends line ends as CR LF, whatever was typed.
    return {name: values[0].replace("\r\n", "\n") for name, values in fields.items()}


def checked(text: str, name: str = "The text") -> str:
    """A text that can be read. Raises Invalid and TooLarge, with its `name` in them."""
    if not text:
        raise Invalid(f"{name} is empty: type something.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Invalid(f"{name} has half a character in it: a lone surrogate.") from None
    if size > MOST_BYTES:
        raise TooLarge(f"{name} has {size:,} bytes: {MOST_BYTES:,} are the most.")
    return text


def json_body(schema: type[BaseModel]) -> dict[str, Any]:
    """How OpenAPI describes a body that a route reads by itself: for `openapi_extra`."""
    content = {"application/json": {"schema": schema.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}
