"""Command-line options made from the fields of a dataclass, so that each is declared only once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from indexer.config import option_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


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
        made.append(parameter(name, Annotated[hint, typer_option(declared)], declared.default))
    return made


def typer_option(declared: Field[Any]) -> Any:
    """Typer's description of the option that a field declares."""
    option = option_of(declared)
    # Given a name, Typer adds no --no-NAME, which would do nothing if the default is off.
    names = [f"--{declared.name.replace('_', '-')}"] if declared.default is False else []
    return typer.Option(*names, help=option.help if option else None)


def build(declaration: type[T], values: Mapping[str, Any]) -> T:
    """The dataclass from a command's values, without those that belong to none of its fields.

    Raises NeurariumError if the dataclass refuses a value.
    """
    given = {}
    for declared in fields(declaration):
        name, option = declared.name, option_of(declared)
        if option and name in values:
            value = values[name]
            given[name] = int(value * option.unit) if option.unit and value is not None else value
    return declaration(**given)
