"""What the tests hold of themselves: a test module stands alone, and shares through helper modules only."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent


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


def test_no_module_imports_a_test_module():
    found = {path.name: borrowed(path.read_text()) for path in sorted(TESTS.rglob("*.py"))}
    assert len(found) > 100
    assert not {name: names for name, names in found.items() if names}


def test_every_form_of_import_is_seen():
    assert borrowed("from tests.test_run import STUDY") == {"tests.test_run", "tests.test_run.STUDY"}
    assert borrowed("def f():\n    import tests.test_run as run") == {"tests.test_run"}
    assert borrowed("from tests import test_run") == {"tests.test_run"}
    assert not borrowed("from tests.studies import STUDY\nimport tests.studies")
