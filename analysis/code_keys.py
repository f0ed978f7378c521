"""Which of our code computes a cell, hashed by its syntax: comments and docstrings are in no key.

1. A module's imports, wherever they stand, lead to every module of ours that it can reach.
2. What only some repairs need (`RepairKind.needs`) is left out of that, and put back by the cells whose repair names
   it, with all that it imports: a line in one selector gives new keys to the cells that use selectors and no other.
3. Each module is parsed, its docstrings are dropped, and the rest of its syntax tree is hashed.

What a cell ran and its key does not name would be a wrong number under a sound key: a test runs cells of every kind and
repair and compares every function that was called with the modules that the cell's key names.
"""

import ast
import hashlib
import importlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from probes.compression.registry import method_of, methods
from probes.specs.repairs.base import Asked
from probes.specs.repairs.registry import kind_of, kinds

ROOT = Path(__file__).parent.parent
PACKAGES = ("data", "probes", "analysis")


ASKING: dict[Asked, tuple[str, ...]] = {
    "bank": ("analysis.choices", "analysis.ensemble", "analysis.selection"),
    "every prompt": ("analysis.choices", "analysis.ensemble", "analysis.selection"),
}
"""By the way in which a variant is asked: modules of this room that no other way runs."""


@cache
def modules_of(package: str) -> tuple[str, ...]:
    """A package of ours and every module in it, so that a file which is added to it is named at once."""
    home = ROOT.joinpath(*package.split("."))
    return (package, *sorted(f"{package}.{path.stem}" for path in home.glob("*.py") if path.stem != "__init__"))


TOLD = frozenset({"analysis.metrics.registry", "probes.specs.repairs.registry"})
"""Lists of which a cell is told its own entries, in its fields: in no key, since the rest shapes nothing of it."""


def needed_by(kind: str) -> tuple[str, ...]:
    """Modules that make, open or ask a kind of repair, and that a cell without it does not run."""
    found = kind_of(kind)
    return tuple(one for name in (*found.needs, *ASKING.get(found.spec.asked, ())) for one in _spread(name))


def _spread(name: str) -> tuple[str, ...]:
    return modules_of(name.removesuffix(".*")) if name.endswith(".*") else (name,)


def applied_by(method: str) -> tuple[str, ...]:
    """The module that applies a method of compression: a line in one gives new keys to its copies alone."""
    return (method_of(method).apply.__module__,)


def apart() -> frozenset[str]:
    """Every module that only some cells run."""
    repairs = [module for kind in kinds() for module in needed_by(kind.name)]
    return frozenset([*repairs, *(module for one in methods() for module in applied_by(one.name))])


def named_by(fields: Any) -> frozenset[str]:
    """The modules apart that the repairs of a cell name, wherever in its description they stand.

    And those of its metrics, which no import leads to, and of the methods by which a compressed copy is made: a cell
    that reads a copy has the copy's key in its own.
    """
    made = fields.get("compression") or {}
    named = {made.get(name) for name in ("method", "then_method")}
    applied = [module for one in methods() if one.name in named for module in applied_by(one.name)]
    metrics = [metric["module"] for metric in fields.get("metrics", ())]
    return frozenset([*applied, *metrics, *(module for kind in set(_kinds(fields)) for module in needed_by(kind))])


def _kinds(value: Any) -> Iterator[str]:
    """The kind of every repair in a description; a share of a bank's text is a bank's."""
    if isinstance(value, dict):
        if isinstance(value.get("kind"), str):
            yield value["kind"]
        if "bank" in value:
            yield "idp"
        for inner in value.values():
            yield from _kinds(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _kinds(inner)


@cache
def code_hash(modules: tuple[str, ...], named: frozenset[str] | None = None) -> str:
    """Hash of modules of ours and of every module of ours that they reach; of those apart the named, or all."""
    digest = hashlib.sha256()
    for name in sorted(reached(modules, named)):
        digest.update(name.encode())
        digest.update(syntax_hash(name).encode())
    return digest.hexdigest()


@cache
def reached(modules: tuple[str, ...], named: frozenset[str] | None = None) -> frozenset[str]:
    """Modules of ours and everything of ours that they import, directly or not; of those apart the named, or all."""
    seen: set[str] = set()
    left_out = frozenset() if named is None else apart()
    waiting = [*modules, *(named or ())]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            # What stands apart is reached from what is named and stands apart itself, and from nowhere else.
            waiting += imports_of(name) - TOLD - (frozenset() if name in left_out else left_out)
    return frozenset(seen)


@cache
def syntax_hash(module: str) -> str:
    """Hash of what a module of ours does."""
    return tree_hash(source_of(module).read_text(encoding="utf-8"))


def tree_hash(source: str) -> str:
    """Hash of a module's syntax tree without docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for body in _bodies(node):
            body[:] = [line for line in body if not _is_docstring(line)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _bodies(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The lists of statements that a node holds."""
    for name in ("body", "orelse", "finalbody"):
        held = getattr(node, name, None)
        if isinstance(held, list):
            yield held


def _is_docstring(line: ast.stmt) -> bool:
    """Whether a statement is a text alone, which does nothing: of a module, a function, a class or a name above it."""
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def source_of(module: str) -> Path:
    """The file of one of our modules, or of one that added an entry to a list of ours in this process."""
    if module.split(".")[0] not in PACKAGES:
        return Path(str(importlib.import_module(module).__file__))
    path = ROOT.joinpath(*module.split("."))
    # A folder of the same name beside a module is not the module, as data/facts is not data/facts.py.
    package = path / "__init__.py"
    return package if package.is_file() else path.with_suffix(".py")


@cache
def imports_of(module: str) -> frozenset[str]:
    """Our modules that this one names in an import, wherever it stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source_of(module).read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {name for name in names if name.split(".")[0] in PACKAGES and source_of(name).is_file()}
    return frozenset(found | {package for name in found for package in _packages(name)})


def _packages(module: str) -> Iterable[str]:
    """The packages that a module lies in: their `__init__` runs before it does."""
    parts = module.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts)))


def forget() -> None:
    """Read every file again: for who changes them while this process lives."""
    for read in (code_hash, reached, syntax_hash, imports_of, modules_of):
        read.cache_clear()
