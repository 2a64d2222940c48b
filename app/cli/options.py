"""Command-line options made from the fields of a dataclass, so that each is declared only once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from indexer.config import option_of
from indexer.errors import NeurariumError, quoted

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
LARGEST = 2**63 - 1
"""The largest whole number that an option may have, as in databases and tensors."""
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?(e[+-]?[0-9]{1,2})?", re.IGNORECASE)


def parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> Any:
    """A parameter of a command, for the signature that Typer reads."""
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def parameters(declaration: type[DataclassInstance]) -> list[inspect.Parameter]:
    """The parameters for the fields that declare an option, in their order. A field without a
    default becomes an argument."""
    hints = get_type_hints(declaration)
    made = []
    for declared in fields(declaration):
        name, option = declared.name, option_of(declared)
        if option is None:
            continue
        if declared.default is MISSING:
            made.append(parameter(name, Annotated[hints[name], typer.Argument(help=option.help)]))
            continue
        hint = float | None if option.unit else hints[name]
        whole = hint in (int, int | None)
        typer_info = typer_option(declared, whole=whole)
        made.append(parameter(name, Annotated[hint, typer_info], declared.default))
    return made


def typer_option(declared: Field[Any], *, whole: bool = False) -> Any:
    """Typer's description of the option that a field declares; `whole`: of a whole number."""
    option = option_of(declared)
    # Given a name, Typer adds no --no-NAME, which would do nothing if the default is off.
    own, also = f"--{declared.name.replace('_', '-')}", option.also if option else ""
    names = [own, *filter(None, [also])] if declared.default is False or also else []
    number = whole_number() if whole else {}
    return typer.Option(*names, help=option.help if option else None, **number)


def build(declaration: type[T], values: Mapping[str, Any]) -> T:
    """The dataclass from a command's values, without those that belong to none of its fields.

    Raises NeurariumError if the dataclass refuses a value.
    """
    given = {}
    for declared in fields(declaration):
        name, option = declared.name, option_of(declared)
        if option and name in values:
            value = values[name]
            if option.unit and value is not None:
                value = _in_units(name, value, option.unit)
            given[name] = value
    return declaration(**given)


def _in_units(name: str, value: float, unit: int) -> int:
    """A number of units as a whole number. Raises NeurariumError for a number that cannot be a
    size."""
    if not 0 < value < LARGEST / unit:
        raise NeurariumError(
            f"{name} is {value:g}: it must be a number above 0 and below {LARGEST // unit:,} "
            f"(--{name.replace('_', '-')})."
        )
    return int(value * unit)


def whole_number(least: int | None = None) -> Any:
    """Typer's settings for an option or argument that is a whole number, which may be written as
    1e6, 2.5e6, 1_000_000 or 1,000,000. `least` is the smallest number allowed."""

    def parse(value: str | int) -> int:
        number = value if isinstance(value, int) else parse_whole(value)
        if number is None:
            raise typer.BadParameter(
                f"{quoted(value)} is not a whole number: write 1000000 or 1e6."
            )
        if least is not None and number < least:
            raise typer.BadParameter(f"{quoted(number)} is too small: it must be {least} or more.")
        if abs(number) > LARGEST:
            raise typer.BadParameter(f"{quoted(number)} is too large: it must be below 2^63.")
        return number

    return {"parser": parse, "metavar": "INTEGER"}


def parse_whole(text: str) -> int | None:
    """The whole number a text means; None for anything else."""
    plain = text.strip()
    if re.search(r"[0-9][_,][0-9]", plain):
        if not re.fullmatch(r"[+-]?[0-9]{1,3}(_[0-9]{3})+|[+-]?[0-9]{1,3}(,[0-9]{3})+", plain):
            return None
        plain = plain.replace("_", "").replace(",", "")
    match = _NUMBER.fullmatch(plain)
    if match is None:
        return None
    if not match[1] and not match[2]:
        return int(plain) if len(plain) <= 30 else None
    digits, _, power = plain.lower().partition("e")
    before, _, after = digits.partition(".")
    shift = int(power or 0) - len(after)
    number = int(before + after)
    if shift >= 0:
        return number * int(10**shift)
    whole, rest = divmod(number, int(10**-shift))
    return None if rest else whole
