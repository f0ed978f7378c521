"""Whatever a file of a user's holds: a plan, facts, or one clear line; never a traceback.

`pytest tests/test_fuzz.py --fuzz 2000` tries as many studies and fact files; the suite tries few.
"""

import copy
import random
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import run
from analysis.study import SHIPPED, load_study
from data.errors import InputError
from data.facts import FactSet, load_csv
from probes import models
from tests.test_keys import BASE

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
        where = draw.choice(places(changed) or [("name",)])
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


def require_line(error: InputError) -> None:
    """A user reads it as one line."""
    assert str(error).strip()
    assert "Traceback" not in str(error)


@pytest.fixture(scope="module")
def located():
    """Hash the atlas's files once: no study changes them."""
    bundled = {name: models.locate(name) for name in models.BUNDLED}
    with pytest.MonkeyPatch.context() as patch:
        for module in ("analysis.cells", "analysis.cells_inside"):
            patch.setattr(f"{module}.locate", lambda name, **told: bundled.get(name) or models.locate(name, **told))
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
SNIPPETS = [b'"', b",", b"\n", b"\x00", b"\xff", b"{", b"}", b"{0}", b"{subject}", b":", b"- ", b"''"]


def scramble(text: bytes, draw: random.Random) -> bytes:
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
            changed[place:place] = draw.choice(SNIPPETS)
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
