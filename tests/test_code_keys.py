"""Which edit changes which keys: what a cell runs is in its key, and nothing else is."""

import ast
import importlib
import inspect
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

from analysis import code_keys, run, store
from analysis.cell import Cell, Kind, computed_with
from analysis.code_keys import ROOT, TOLD, apart, named_by, reached, source_of, tree_hash
from analysis.metrics.registry import METRICS
from analysis.study import Study, load_study
from analysis.worker import Job, compute
from probes.specs.repairs.registry import kinds as repair_kinds
from tests.studies import STUDY, with_needs

KINDS = get_args(Kind)
WORK = tuple(f"analysis.work_{kind}" for kind in KINDS)
EVERYTHING = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in code_keys.PACKAGES
    for path in (ROOT / package).rglob("*.py")
)
NAMES = {str(source_of(module)): module for module in EVERYTHING}
DECIDING = ("set_num_threads", "use_deterministic_algorithms", "PYTHONHASHSEED", "CUBLAS_WORKSPACE_CONFIG", "OMP_NUM")
UNCOUNTED = {"httpx", "huggingface_hub", "jaxtyping", "jinja2", "loguru", "lm_eval", "pydantic", "websocket", "yaml"}
UNCOUNTED |= {"xxhash"}
"""What fetches, checks or reads and adds up nothing; lm-eval's version is in the fields of the cells that it scores."""


def test_every_module_of_ours_that_cells_load_is_in_a_key():
    told = "import sys, importlib; [importlib.import_module(name) for name in sys.argv[1:]]; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", told, *WORK], check=True, capture_output=True, text=True, cwd=ROOT)
    ours = {name for name in loaded.stdout.split() if name.split(".")[0] in code_keys.PACKAGES}
    assert set(WORK) <= ours
    assert ours - TOLD <= reached((*WORK, *apart()))  # what only some repairs need is in the keys of their cells


def test_what_a_worker_sets_is_in_every_key():
    """Threads, repeatable sums and what libraries are told decide bits: nowhere else may they be set."""
    whole = code_keys.code_hash(("analysis.surroundings",))
    assert {computed_with(name, {})["surroundings"] for name in WORK} == {whole}
    assert Cell("tuned", "one", {}).description.items() >= computed_with("analysis.work_tuned", {}).items()
    for name in ("analysis.worker", "analysis.pool", "analysis.cluster", "analysis.engine"):
        source = source_of(name).read_text()
        assert not [word for word in DECIDING if word in source], name
    assert all(word in source_of("analysis.surroundings").read_text() for word in DECIDING)


def test_every_library_that_cells_import_is_in_a_key():
    imported = set()
    for name in reached((*WORK, *(metric.module for metric in METRICS.values()))):
        for node in ast.walk(ast.parse(source_of(name).read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    keyed = {name.replace("-", "_") for name in store.versions()}
    assert imported - set(sys.stdlib_module_names) - set(code_keys.PACKAGES) - keyed == UNCOUNTED


class Rewording(ast.NodeTransformer):
    """Puts another docstring at the head of everything that can have one, and texts between statements."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            said = [ast.Expr(ast.Constant(f"Said otherwise, {place}.")) for place in range(len(node.body) + 1)]
            node.body = [said[0], *(line for pair in zip(node.body, said[1:], strict=True) for line in pair)]
        return node


@pytest.mark.parametrize("module", EVERYTHING)
def test_words_change_no_hash_and_a_statement_does(module):
    text = source_of(module).read_text(encoding="utf-8")
    reworded = ast.unparse(ast.fix_missing_locations(Rewording().visit(ast.parse(text))))  # and no comment is left
    assert tree_hash(reworded) == tree_hash(text) == tree_hash(f"# A remark.\n{text}\n# Another.\n")
    assert tree_hash(f"{text}\nEDITED = 1\n") != tree_hash(text)


@pytest.fixture(scope="module")
def demo():
    """The demo's cells."""
    return run.prepare(load_study("atlas"))[0].cells


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of our code that keys are made from, to be edited."""
    folder = tmp_path_factory.mktemp("code")
    for package in code_keys.PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            (folder / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / path.relative_to(ROOT))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_keys, "ROOT", folder)
        yield folder
    code_keys.forget()


BANKED = {"scored": 20, "drift": 18, "tasks": 16, "lens": 6, "examples": 5}
ALL = {"compressed": 9, "tuned": 98, "scored": 219, "drift": 18, "lens": 6, "probed": 6, "intervened": 5}
ALL |= {"examples": 5, "tasks": 115}
WORDS = "words, pages, figures, hues and reports"
PREDICTION = "a statement in a prediction"
STATEMENT, REMARK, TEXT = "\nEDITED = 1\n", "\n# A remark.\n", '\n"""A text."""\n'
SELECTING = ["probes/selection/key.py", "probes/selection/router.py", "probes/specs/selectors.py"]
DRAWING = [
    "analysis/figures/drift.py",
    "analysis/figures/registry.py",
    "analysis/pages/catalogue.py",
    "analysis/look.py",
    "analysis/pages/evidence.py",
]
DRAWING += ["analysis/report_markdown.py", "analysis/report_page.py"]
EDITS: dict[str, tuple[list[tuple[str, str]], dict[str, int]]] = {
    "statements in selectors": ([(file, STATEMENT) for file in SELECTING], BANKED),
    "a statement in what every cell runs": ([("probes/tokens.py", STATEMENT)], ALL),
    "a statement in what the worker sets": ([("analysis/surroundings.py", STATEMENT)], ALL),
    "a statement in what compresses": ([("probes/oneshot.py", STATEMENT)], {"compressed": 9}),
    "a statement in a metric of drift": ([("analysis/attention.py", STATEMENT)], {"drift": 18}),
    "a statement in a metric that is not basic": ([("analysis/metrics/procrustes.py", STATEMENT)], {"drift": 6}),
    "a statement in a basic metric": ([("analysis/metrics/cosine.py", STATEMENT)], {"drift": 18}),
    "a statement in the list of metrics": ([("analysis/metrics/registry.py", STATEMENT)], {}),
    "a statement in a repair that the demo has not": ([("probes/prefix_tuning.py", STATEMENT)], {}),
    PREDICTION: ([("analysis/predictions/knockout.py", STATEMENT)], {}),
    WORDS: (
        [("probes/selection/key.py", REMARK), ("probes/tokens.py", TEXT), *((file, STATEMENT) for file in DRAWING)],
        {},
    ),
}


def codes(cells) -> dict[str, dict]:
    """What of each cell's own key its code decides, by the key that the cell had."""
    return {cell.key: computed_with(cell.module, cell.fields) for cell in cells}


@pytest.fixture(scope="module")
def before(demo, copied):
    """What the keys and the tables of the demo are made with, nothing edited."""
    code_keys.forget()
    return codes(demo), code_keys.code_hash(run.GATHERING)


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_changes_the_keys_of_the_cells_that_run_it_and_no_other(edit, demo, before, copied):
    edits, touched = EDITS[edit]
    for file, added in edits:
        (copied / file).write_text((copied / file).read_text() + added)
    try:
        code_keys.forget()
        after = codes(demo)
        assert Counter(cell.kind for cell in demo if after[cell.key] != before[0][cell.key]) == touched
        if edit == WORDS:  # and a finished run stays current
            assert code_keys.code_hash(run.GATHERING) == before[1]
        if edit == PREDICTION:  # it is judged from tables: verdicts are made anew from cells that stay
            assert code_keys.code_hash(run.GATHERING) != before[1]
    finally:
        for file, _ in edits:
            shutil.copy(ROOT / file, copied / file)


REPAIRS: list[dict[str, Any]] = [
    {"kind": "prompt", "length": 2, "learning_rate": 0.03},
    {"kind": "ptuning", "length": 2, "learning_rate": 0.03},
    {"kind": "prefix", "length": 1, "learning_rate": 0.03},
    {"kind": "lora", "rank": 1, "learning_rate": 0.01},
    {"kind": "idp", "lengths": [2, 2], "learning_rate": 0.03},
    {"kind": "idp", "lengths": [2], "bank": "relations", "learning_rate": 0.03, "selector": "router"},
    {"kind": "ensemble", "lengths": [2, 2], "learning_rate": 0.03},
    {"kind": "text", "text": "Answer in one word."},
    {"kind": "reinjected", "rank": 1},
    {"kind": "quantised", "of": {"kind": "prompt", "length": 2, "learning_rate": 0.03}, "bits": 4},
    {"kind": "sparse", "of": {"kind": "prefix", "length": 1, "learning_rate": 0.03}, "sparsity": 0.5},
]


MACHINERY = {"analysis.worker", "analysis.store", "analysis.cell", "analysis.code_keys", "analysis.processes"}
MACHINERY |= {"analysis.peak", "analysis.surroundings"}
"""What computes any cell: of it the key names what the worker sets."""


def everything_named() -> Study:
    """A small study with every kind of cell and of repair."""
    stored = STUDY.model_dump(mode="json")
    repairs = [one for one in REPAIRS if one.get("bank") != "relations"]
    stored |= {"repairs": repairs, "reported": ["prompt-2", "idp-2x2-attention", "lora-r1"], "controls": []}
    stored["compressions"] = stored["compressions"][:1]
    stored["drift"] = stored["drift"] | {"metrics": ["basic", "robust", "geometry", "direction", "heads"]}
    stored |= {"inside": {"interventions": {"items": 4, "step": 2}}, "tasks": {"files": "atlas", "items": 2}}
    return Study.model_validate(stored)


def test_every_repair_is_in_the_study_that_is_watched():
    kinds = {one["kind"] for one in REPAIRS}
    assert {one.name for one in repair_kinds() if not one.arm} - {
        "adapter"
    } <= kinds  # a folder of peft's is read as what it holds


def one_of_each(cells) -> list[Cell]:
    """For every kind of cell and every set of repairs in it one cell, and what those need, in order."""
    wanted = {(cell.kind, named_by(cell.fields)): cell for cell in reversed(cells)}
    needed = {need.key for cell in wanted.values() for need in with_needs(cell)}
    return [cell for cell in cells if cell.key in needed]


@pytest.mark.slow
def test_no_cell_runs_what_its_key_does_not_name(tmp_path):
    """Every function of ours that is called while a cell is computed lies in a module that the cell's key names."""
    plan, _ = run.prepare(everything_named())
    kept = store.Store(tmp_path)
    unnamed: set[str] = set()
    for module in WORK:  # what is called while a module is loaded belongs to no cell
        importlib.import_module(module)
    for cell in one_of_each(plan.cells):
        called: set[str] = set()

        def watch(frame, event, _, called=called) -> None:
            if event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED:  # no body of a module or class
                called.add(frame.f_code.co_filename)

        sys.setprofile(watch)
        try:
            compute(Job.of(cell, kept))
        finally:
            sys.setprofile(None)
        ours = {NAMES[file] for file in called if file in NAMES} - MACHINERY
        unnamed |= {f"{cell.label}: {name}" for name in ours - reached((cell.module,), named_by(cell.fields))}
        assert cell.module in ours  # it was watched
    assert not unnamed
    assert {cell.kind for cell in plan.cells} == set(KINDS)


def test_what_stands_apart_is_code_of_ours():
    assert set(EVERYTHING) >= apart()
    assert Path(source_of("data.facts")).name == "facts.py"  # a folder of the same name stands beside it
