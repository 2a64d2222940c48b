"""Each template is rendered with a frozen dataclass that names what it uses, and nothing else."""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import pytest
from jinja2 import meta, nodes

import app
from app.web import assets, site

ENVIRONMENT = site.templates()
ALWAYS = {"links", *ENVIRONMENT.globals}
"""Names that every template knows."""
EXTENDS = re.compile(r"{% extends \"([\w/]+\.html)\" %}")
DOCUMENTED = re.compile(r"What `([\w/]+\.html)` is rendered with\.")


@cache
def contexts() -> dict[str, Any]:
    """The context of each template: the dataclass whose docstring names it."""
    by_template: dict[str, Any] = {}
    for module in pkgutil.walk_packages(app.__path__, "app."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and value.__module__ == module.name:
                named = DOCUMENTED.match(value.__doc__ or "")
                if named:
                    assert named[1] not in by_template, named[1]
                    by_template[named[1]] = value
    return by_template


def names_used(template: str) -> set[str]:
    """The names that a template and the templates it includes or extends take from outside."""
    tree = ENVIRONMENT.parse((assets.folder("templates") / template).read_text())
    names = set(meta.find_undeclared_variables(tree))
    assigned = {
        name.name
        for node in tree.find_all((nodes.With, nodes.Assign, nodes.For))
        for target in (node.targets if isinstance(node, nodes.With) else [node.target])
        for name in [target, *target.find_all(nodes.Name)]
        if isinstance(name, nodes.Name)
    }
    imported = {node.target for node in tree.find_all(nodes.Import)}
    set_here = {
        node.target.name
        for node in tree.find_all(nodes.Assign)
        if isinstance(node.target, nodes.Name)
    }
    macros = {node.name for node in tree.find_all(nodes.Macro)}
    names -= imported | set_here | macros
    for node in tree.find_all((nodes.Include, nodes.Extends)):
        assert isinstance(node.template, nodes.Const)
        names |= names_used(node.template.value) - assigned - imported
    return names


def pages() -> list[str]:
    """The templates that are pages of their own: they extend another, and none extends them that
    has no context."""
    folder = assets.folder("templates")
    bases = {
        path.relative_to(folder).as_posix(): EXTENDS.search(path.read_text())
        for path in folder.rglob("*.html")
    }
    extended = {base[1] for base in bases.values() if base}
    abstract = extended - set(contexts())
    # A notebook's cards are no pages: neurarium/card.py renders them.
    return sorted(
        name
        for name, base in bases.items()
        if base and base[1] != "card.html" and name not in abstract
    )


def test_every_page_has_a_context_and_every_context_a_page() -> None:
    """No template is rendered with loose names, and no context is left over."""
    assert sorted(contexts()) == pages()


@pytest.mark.parametrize("template", pages())
def test_a_context_is_what_its_template_uses(template: str) -> None:
    """Frozen, with a frame; no name is missing, and no field is unused."""
    context = contexts()[template]
    assert is_dataclass(context)
    assert context.__dataclass_params__.frozen
    names = {field.name for field in fields(context)}
    assert "frame" in names
    assert names_used(template) - ALWAYS - {"alone"} == names
