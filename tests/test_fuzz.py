"""Whatever a file of a user's holds: a plan, facts, items or one clear line, never a traceback; a damaged cell mended.

`pytest tests/test_fuzz.py --fuzz 2000` tries as many studies, fact files and task files, and a quarter as many damaged
stores; the suite tries few.
"""

import copy
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import cells, cells_inside, run
from analysis.cell import Plan
from analysis.engine import drop_damaged, missing, run_cells
from analysis.store import CELL, CHECKSUMS, Store
from analysis.study import SHIPPED, load_study
from data.errors import InputError
from data.facts import FactSet, load_csv
from data.task_files import SHAPES, read_items
from data.tasks import find_tasks
from probes import models
from tests.calling import require_line
from tests.studies import BASE
from tests.toy_cells import toy, toy_plan
from tests.toy_engine import Threads, silent

SHIPPED_STUDIES = [yaml.safe_load(path.read_text()) for path in sorted(SHIPPED.glob("*.yaml"))]
STUDIES = [BASE, *SHIPPED_STUDIES]
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 2**31, 2**63, -(2**70), 0.0, -0.5, 0.5, 1e-320, 1e308),
    *(float("nan"), float("inf"), "", " ", "atlas", "shipped", "pydoc", "a/b", "..", "../..", "../../etc/passwd"),
    *("/", "/etc/passwd", "/dev/null", "file:", "file:/etc", "file:../x", "world:", "world:/", "world:..", "hub:x/y"),
    *("~", "~nobody/x", "x\x00y", "x\ny", "é" * 300, "a" * 5000, "{subject}", "prompt-2", "lora-r1", "main", "\ud83d"),
    *([], {}, [[]], [None], {"kind": "prompt"}, {"method": "gptq"}, [1, 1], [0, 1, 2], ["open"], {"a": {"b": []}}),
]


def places(stored: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of nested dictionaries and lists."""
    found = [prefix] if prefix else []
    inner = stored.items() if isinstance(stored, dict) else enumerate(stored) if isinstance(stored, list) else ()
    for key, value in inner:
        found += places(value, (*prefix, key))
    return found


def mutate(stored: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Change, remove, add or move something somewhere, up to three times."""
    changed = copy.deepcopy(stored)
    for _ in range(draw.randint(1, 3)):
        if not changed:
            break
        where = draw.choice(places(changed))
        parent = changed
        for step in where[:-1]:
            parent = parent[step]
        act = draw.choice(["replace", "replace", "replace", "remove", "add", "move", "double"])
        if act == "replace":
            parent[where[-1]] = copy.deepcopy(draw.choice(ODD))
        elif act == "remove":
            del parent[where[-1]]
        elif act == "move":
            parent[where[-1]] = copy.deepcopy(_at(changed, draw.choice(places(changed))))
        elif act == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[where[-1]]))
        elif isinstance(parent, dict):
            parent[draw.choice(["odd", "kind", "method", "", "repairs", "lengths"])] = copy.deepcopy(draw.choice(ODD))
    return changed


def _at(stored: Any, where: tuple[Any, ...]) -> Any:
    for step in where:
        stored = stored[step]
    return stored


@pytest.fixture(scope="module")
def located():
    """Hash the atlas's files once: no study changes them."""
    bundled = {name: models.locate(name) for name in models.BUNDLED}
    with pytest.MonkeyPatch.context() as patch:
        for module in (cells, cells_inside):
            patch.setattr(module, "locate", lambda name, **told: bundled.get(name) or models.locate(name, **told))
        yield


def test_a_changed_study_is_a_plan_or_one_line(request, tmp_path, located):
    path, out, plans = tmp_path / "study.yaml", tmp_path / "runs", 0
    for seed in range(request.config.getoption("--fuzz")):
        draw = random.Random(seed)
        text = yaml.safe_dump(mutate(draw.choice(STUDIES), draw), allow_unicode=True)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            study = load_study(str(path))
            assert run.run_folder(study, False, out).parent == out
            here = run.is_here(study)
            plan, _ = run.prepare(study, absent=not here)
        except InputError as error:
            require_line(error)
        except Exception as error:
            raise AssertionError(f"study of seed {seed}:\n{text}") from error
        else:
            plans += 1
            assert len({cell.key for cell in plan.cells}) == len(plan.cells)
    assert plans, "no study was valid: the fuzzer proves nothing"
    assert not out.exists()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))))
def test_any_bytes_as_a_study_are_one_line(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_bytes(text)
    with pytest.raises(InputError) as caught:
        load_study(str(path))
    require_line(caught.value)


ROWS = [f"home,person {place},{('oslo', 'bern')[place % 2]}" for place in range(12)]
FACTS = "\n".join(["relation,subject,answer", *ROWS, ""])
PHRASINGS = """home:
  tune: ['{subject} lives in', 'the home of {subject} is']
  damage: '{subject} in'
  measure: '{subject} at'
"""
SNIPPETS = [
    *(
        b'"',
        b",",
        b"\n",
        b"\r",
        b"\x00",
        b"\xff",
        b"{",
        b"}",
        b"{0}",
        b"{subject}",
        b":",
        b"- ",
        b"''",
        b"no",
        b"07",
        b"<<",
    ),
    *(b"same_case: true\n", b"&a ", b"*a", *(one.encode() for one in "\u0301\u00a0\u200b\ufeff\u2019\ufb01\u212b")),
]


def scramble(text: bytes, draw: random.Random, snippets: Sequence[bytes] = SNIPPETS) -> bytes:
    """Flip, cut, repeat or insert bytes."""
    changed = bytearray(text)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(changed) + 1)
        act = draw.choice(["flip", "cut", "insert", "repeat"])
        if act == "flip" and place < len(changed):
            changed[place] ^= 1 << draw.randrange(8)
        elif act == "cut":
            del changed[place : place + draw.choice([1, 3, 1000])]
        elif act == "insert":
            changed[place:place] = draw.choice(snippets)
        else:
            changed[place:place] = changed[max(0, place - 20) : place]
    return bytes(changed)


def test_scrambled_facts_are_facts_or_one_line(request, tmp_path):
    path = tmp_path / "mine.csv"
    for seed in range(request.config.getoption("--fuzz")):
        draw = random.Random(seed)
        both = {path: FACTS.encode(), path.with_suffix(".yaml"): PHRASINGS.encode()}
        scrambled = draw.choice(list(both))
        for file, text in both.items():
            file.write_bytes(scramble(text, draw) if file == scrambled else text)
        try:
            found = load_csv(path)
            ask_all(found)
        except InputError as error:
            require_line(error)
        except Exception as error:
            raise AssertionError(f"facts of seed {seed}:\n{scrambled.read_bytes()!r}") from error


def ask_all(facts: FactSet) -> None:
    """Use the facts as cells do."""
    facts.items(facts.facts, "measure")
    facts.items(facts.facts, "damage")
    facts.statements([fact for fact in facts.facts if fact.split == "tune"])


WORDS = {"text": "who lives in oslo", "texts": ["ada", "bruno", "celia"], "names": ["ada", "bruno"]}
ITEMS = [{name: WORDS.get(kind, 1) for name, kind in shape.fields.items()} for shape in SHAPES]
"""An item of every shape."""
IN_LINES = (*SNIPPETS, b"[" * 5000, b"9" * 5000, b"\\ud83d", b"1e999", b"null", b"\r\n", b"\\u2028", b"\xef\xbb\xbf")


def test_scrambled_tasks_are_items_or_one_line(request, tmp_path):
    path, read = tmp_path / "mine.jsonl", 0
    for seed in range(request.config.getoption("--fuzz")):
        draw = random.Random(seed)
        items = [ITEMS[seed % len(ITEMS)]] * 4
        if by_value := draw.random() < 0.5:
            items[draw.randrange(4)] = mutate(items[0], draw)
        text = "\n".join(map(json.dumps, items)).encode()
        path.write_bytes(text if by_value else scramble(text, draw, IN_LINES))
        try:
            (source,) = find_tasks(None, str(tmp_path))
            _, found, _ = read_items(Path(source.file or ""))
            json.dumps(found, ensure_ascii=False, allow_nan=False).encode()  # as a tokenizer takes it
        except InputError as error:
            require_line(error)
        except Exception as error:
            raise AssertionError(f"task of seed {seed}:\n{path.read_bytes()!r}") from error
        else:
            read += 1
            assert found
    assert read, "no task was valid: the fuzzer proves nothing"


def test_damaged_cells_are_mended_to_the_same_bytes(request, tmp_path, monkeypatch):
    """Whatever became of some finished cells, the next run leaves the store as it was."""
    monkeypatch.setattr("gc.collect", lambda *_: 0)  # before every cell: most of a toy's time
    log, store = tmp_path / "begun.log", Store(tmp_path / "runs")
    roots = [toy(f"root{place}", log) for place in range(3)]
    middle = [toy(f"middle{place}", log, *roots[: place + 1]) for place in range(3)]
    plan = toy_plan(*roots, *middle, toy("last", log, *middle))
    run_cells(plan, store, Threads(), silent, silent)
    whole = kept_in(store)
    assert len(whole) == 2 * len(plan.cells)
    for seed in range(request.config.getoption("--fuzz") // 4):
        draw = random.Random(seed)
        harmed = [harm(store.folder(draw.choice(plan.cells).key), draw) for _ in range(draw.randint(1, 4))]
        mend(plan, store, found_on_the_way=draw.random() < 0.5)
        assert kept_in(store) == whole, (seed, harmed)
        assert not list(store.cells.glob(".*")), "drafts are left behind"


def harm(cell: Path, draw: random.Random) -> str:
    """Scramble, empty or remove a file of a cell, or take the whole cell away."""
    path = draw.choice([one for one in (cell, *sorted(cell.glob("*"))) if one.exists()] or [cell])
    act = draw.choice(["scramble", "scramble", "empty", "remove"])
    if path.is_dir():
        act = "remove"
        shutil.rmtree(path)
    elif path.exists():
        path.write_bytes(scramble(path.read_bytes(), draw) if act == "scramble" else b"")
        if act == "remove":
            path.unlink()
    return f"{act} {path.name}"


def mend(plan: Plan, store: Store, *, found_on_the_way: bool) -> None:
    """What `analysis/run.py` does with a store, or what happens where cells were damaged only after it had looked."""
    if not found_on_the_way:
        drop_damaged(plan, store, silent)
    while missing(plan, store) or found_on_the_way:
        run_cells(plan, store, Threads(), silent, silent)
        drop_damaged(plan, store, silent)
        found_on_the_way = False


def kept_in(store: Store) -> dict[str, Any]:
    """What every cell holds: its result's bytes, and its description; how long it took is no result."""
    found: dict[str, Any] = {}
    for path in sorted(store.cells.glob("*/*")):
        name = str(path.relative_to(store.cells))
        if path.name == CELL:
            stored = json.loads(path.read_text())
            found[name] = stored | {CHECKSUMS: stored[CHECKSUMS]["value.txt"]}
        elif path.name != "cost.json":
            found[name] = path.read_bytes()
    return found
