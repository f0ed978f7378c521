"""A cell's key knows all the code that computes it."""

import subprocess
import sys
from typing import get_args

from analysis import store
from analysis.cell import Kind


def test_every_module_of_ours_that_cells_run_is_in_a_key():
    modules = [f"analysis.work_{kind}" for kind in get_args(Kind)]
    told = "import sys, importlib; [importlib.import_module(name) for name in sys.argv[1:]]; print(*sys.modules)"
    command = [sys.executable, "-c", told, *modules]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True, cwd=store.ROOT).stdout.split()
    ours = {name for name in loaded if name.split(".")[0] in store.PACKAGES}
    assert set(modules) <= ours
    assert ours <= set().union(*(store._closure(module) for module in modules))


def test_a_changed_line_anywhere_below_changes_the_key(tmp_path, monkeypatch):
    for name, text in {
        "data/__init__.py": "",
        "data/facts/mine.csv": "",
        "data/facts.py": "ONE = 1\n",
        "probes/__init__.py": "",
        "probes/deep/__init__.py": "TWO = 2\n",
        "probes/deep/last.py": "from data import facts\n",
        "analysis/__init__.py": "",
        "analysis/work.py": "def work():\n    from probes.deep.last import facts\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(store, "ROOT", tmp_path)
    keys = [_fresh_hash()]
    for changed in ("data/facts.py", "probes/deep/__init__.py", "probes/deep/last.py", "analysis/work.py"):
        (tmp_path / changed).write_text((tmp_path / changed).read_text() + "# changed\n")
        keys.append(_fresh_hash())
    assert len(set(keys)) == len(keys)


def _fresh_hash() -> str:
    store._imports.cache_clear()
    store.code_hash.cache_clear()
    found = store.code_hash("analysis.work")
    store._imports.cache_clear()
    store.code_hash.cache_clear()
    return found
