"""What is installed is exactly what is named, and nothing is imported that is not."""

import ast
import re
import sys
from importlib.metadata import packages_distributions, version

from analysis.code_keys import ROOT

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.+!]*)$")
OURS = {"analysis", "app", "benchmarks", "data", "probes", "tests"}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    found = [PIN.match(line) for line in lines if line.strip() and not line.startswith("#")]
    assert all(found), "every requirement is one exact version"
    assert len({plain(one[1]) for one in found if one}) == len(found), "every requirement stands once"
    return {plain(one[1]): one[2] for one in found if one}


def test_every_pin_is_exact_and_is_what_is_installed():
    found = pins()
    assert len(found) > 20
    for name, pinned in found.items():
        assert version(name).split("+")[0] == pinned, name


def test_every_library_that_is_imported_is_pinned():
    imported = set()
    folders = [ROOT / name for name in OURS - {"app"}]
    for path in [ROOT / "app.py", *(path for folder in folders for path in folder.rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    libraries = imported - OURS - set(sys.stdlib_module_names)
    providers = packages_distributions()
    unpinned = {name for name in libraries if not {plain(one) for one in providers.get(name, [name])} & set(pins())}
    assert unpinned == set()
