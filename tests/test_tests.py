"""What the tests hold of themselves: they share through helpers only, and reach what they test by public names."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PRODUCT = ("analysis", "benchmarks", "data", "probes")
SAME_IN_A_LIBRARY = {"_attn_implementation", "_loglikelihood_tokens"}
"""Private names that a library's class has, and ours set or answer to: those of transformers and of lm-eval."""


def imported(tree: ast.Module) -> set[str]:
    """The modules that a module names in its imports, each name of a `from` among them."""
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def borrowed(source: str) -> set[str]:
    """The test modules that a source imports."""
    return {name for name in imported(ast.parse(source)) if name.startswith("tests.test_")}


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@cache
def privates() -> frozenset[str]:
    """Every private name that the product defines: functions, classes, variables, fields and attributes."""
    return frozenset(
        name
        for package in PRODUCT
        for path in (TESTS.parent / package).rglob("*.py")
        for name in defined(ast.parse(path.read_text()))
        if private(name)
    )


def defined(tree: ast.Module) -> Iterator[str]:
    """The names that a module gives to anything."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def ours(module: str | None) -> bool:
    return (module or "").split(".")[0] in PRODUCT


def reached(source: str) -> set[str]:
    """The private names of the product that a source imports, reads or replaces."""
    tree = ast.parse(source)
    found = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and ours(node.module)
        for alias in node.names
        if private(alias.name)
    }
    held = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and not on_self(node)}
    replaced = {told.rpartition(".")[2] for told in strings_of_calls(tree)}
    return found | (((held | replaced) & privates()) - SAME_IN_A_LIBRARY)


def on_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def strings_of_calls(tree: ast.Module) -> set[str]:
    """The strings, and what begins one that is put together, that name something to replace or to read."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node.func) in ("setattr", "getattr", "delattr", "patch", "object"):
            for told in (told for argument in node.args[:2] for told in ast.walk(argument)):
                if isinstance(told, ast.Constant) and isinstance(told.value, str):
                    found.add(told.value)
    return found


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def sources() -> dict[str, str]:
    found = {path.name: path.read_text() for path in sorted(TESTS.rglob("*.py"))}
    assert len(found) > 100
    return found


def test_no_module_imports_a_test_module():
    found = {name: borrowed(source) for name, source in sources().items()}
    assert not {name: names for name, names in found.items() if names}


def test_no_test_reaches_a_private_name_of_the_product():
    found = {name: reached(source) for name, source in sources().items()}
    assert not {name: names for name, names in found.items() if names}


def test_what_a_test_replaces_is_named_by_its_module_not_by_a_string():
    """A move of files mends an import and overlooks a string."""
    found = {
        name: {told for told in strings_of_calls(ast.parse(source)) if "." in told and ours(told)}
        for name, source in sources().items()
    }
    assert not {name: strings for name, strings in found.items() if strings}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("from tests.test_run import STUDY", {"tests.test_run", "tests.test_run.STUDY"}),
        ("def f():\n    import tests.test_run as run", {"tests.test_run"}),
        ("from tests import test_run", {"tests.test_run"}),
        ("from tests.studies import STUDY\nimport tests.studies", set()),
    ],
)
def test_every_form_of_import_is_seen(source, names):
    assert borrowed(source) == names


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("from analysis.locks import _is_gone", {"_is_gone"}),
        ("from analysis import locks\nlocks._is_gone(b'')", {"_is_gone"}),
        ("monkeypatch.setattr(locks, '_is_gone', None)", {"_is_gone"}),
        ("monkeypatch.setattr('analysis.locks._is_gone', None)", {"_is_gone"}),
        ("getattr(locks, '_is_gone')", {"_is_gone"}),
        ("layer._forward_hooks\nself._is_gone", set()),
        ("from analysis.locks import Locks", set()),
    ],
)
def test_every_reach_for_a_private_name_is_seen(source, names):
    assert reached(source) == names
