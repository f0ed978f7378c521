"""The form of a study: what it shows of one is that study, and what it asks is what `Study` and the registries say."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Literal

import pytest
import yaml
from pydantic import Field

from analysis import drafting
from analysis.asking import Asked, bare, compression_kinds, fields_of, plain, repair_kinds
from analysis.study import Drift, Study, Tuning, load_study, shipped_studies
from data.errors import InputError
from probes.compression import registry as compressions
from probes.compression.method import Method, Target
from probes.specs import selectors
from probes.specs.compression import CheckpointSpec, CompressionSpec
from probes.specs.repairs import registry as repairs
from probes.specs.repairs.base import Repair, RepairKind
from probes.specs.repairs.idp import IdpSpec
from probes.specs.repairs.prompt import PromptSpec
from probes.specs.selectors import SelectorKind
from tests.opened_pages import opened

KINDS = {one.name: one for one in (*compression_kinds(), *repair_kinds())}
COMPRESSION, REPAIR = "new atlas compression 0", "new atlas repair 2"
"""Their kinds' boxes; the others begin with the same words."""


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_RUNS", str(tmp_path))


def written(page) -> dict[str, Any]:
    """The study that the form writes."""
    assert not page.exception
    assert [one.value for one in page.warning] == []
    return yaml.safe_load(page.code[0].value)


def asked(spec, name: str) -> Asked:
    """What a form asks for one field."""
    return next(one for one in fields_of(spec) if one.name == name)


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_starts_as_one_that_a_study_takes(name):
    kind = KINDS[name]
    told = {kind.chosen_by: name} | {one.name: one.start for one in kind.asked if one.tells(one.start)}
    assert kind.read(told, "row").name
    assert kind.words


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_offered_and_every_field_of_it_asked(name):
    kind = KINDS[name]
    page, box = opened("new_study"), COMPRESSION if kind.chosen_by == "method" else REPAIR
    page.selectbox(key=box).set_value(name).run()
    drawn = {one.key.removeprefix(f"{box} {name} ") for one in controls(page) if f"{box} {name} " in (one.key or "")}
    assert drawn == set(kind.spec.model_fields) - {kind.chosen_by, *kind.leaves_out}
    row = written(page)["compressions" if kind.chosen_by == "method" else "repairs"][0 if box == COMPRESSION else 2]
    assert row[kind.chosen_by] == name


def controls(page) -> Iterator[Any]:
    """Every control of a page."""
    for sort in ("text_input", "number_input", "selectbox", "multiselect", "checkbox", "text_area"):
        yield from page.get(sort)


def test_what_is_another_methods_is_not_asked():
    names = {kind.name: {one.name for one in kind.asked} for kind in compression_kinds()}
    assert {"bits", "group_size", "samples"} < names["gptq"]
    assert not {"sparsity", "pattern", "then_bits"} & names["gptq"]
    assert {"sparsity", "pattern", "then_bits", "group_size"} < names["wanda"]
    assert "bits" not in names["wanda"]
    assert names["checkpoint"] == set(CheckpointSpec.model_fields) - {"method"}


def test_a_field_is_asked_by_its_type_its_bounds_and_its_words():
    length = asked(PromptSpec, "length")
    assert (length.control, length.low, length.required, length.start) == ("whole", 1, True, 8)
    assert (length.label, length.help) == ("Tokens", "number of soft tokens")
    steps = asked(PromptSpec, "steps")
    assert (steps.control, steps.default, steps.seen, steps.required) == ("whole", None, False, False)
    bits = asked(CompressionSpec, "bits")
    assert (bits.control, list(bits.values.values())) == ("choice", [None, 2, 3, 4, 8])
    assert (asked(IdpSpec, "per_token").control, asked(IdpSpec, "heads").control) == ("flag", "wholes")
    assert (asked(IdpSpec, "layers").control, asked(IdpSpec, "adapter").control) == ("written", "written")
    assert "looks at the answer" in asked(IdpSpec, "selector").help
    assert asked(CompressionSpec, "samples").help == "Number of calibration blocks."  # the docstring below it
    assert asked(Study, "controls").control == "several"
    assert (asked(Study, "placebos").low, asked(Study, "placebos").high) == (8, 1000)
    learning = asked(PromptSpec, "learning_rate")
    assert (learning.control, learning.low, learning.label) == ("number", 0, "Learning rate")


class HummedSpec(Repair):
    """A toy: a number of tunes."""

    kind: Literal["hummed"] = "hummed"
    tunes: int = Field(ge=2, examples=[3], description="tunes that are hummed")
    loud: bool = False
    """Hummed aloud."""

    @property
    def name(self) -> str:
        """As spoken."""
        return f"hummed-{self.tunes}" + ("-loud" if self.loud else "")


def leave(target: Target) -> None:
    """A toy: leaves the weights as they are."""


@pytest.fixture
def toys() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(compressions.registered(Method("sanded", "prunes", "a toy: sands", "nowhere", leave)))
        stack.enter_context(repairs.registered(RepairKind("hummed", HummedSpec, "a toy: hums")))
        stack.enter_context(selectors.registered(SelectorKind("loudest", "the loudest prompt", "none")))
        yield


def test_an_entry_added_to_a_list_is_in_the_form_and_in_the_study_it_writes(toys):
    page = opened("new_study")
    page.selectbox(key=COMPRESSION).set_value("sanded").run()
    page.number_input(key=f"{COMPRESSION} sanded sparsity").set_value(0.25).run()
    page.selectbox(key=REPAIR).set_value("hummed").run()
    page.number_input(key=f"{REPAIR} hummed tunes").set_value(5).run()
    page.checkbox(key=f"{REPAIR} hummed loud").check().run()
    page.selectbox(key="new atlas repair 1 idp selector").set_value("loudest").run()
    for box, words in ((COMPRESSION, "a toy: sands"), (REPAIR, "a toy: hums")):
        assert words in page.selectbox(key=box).help
    assert "the loudest prompt" in page.selectbox(key="new atlas repair 1 idp selector").help
    stored = written(page)
    assert stored["compressions"][0] == {"method": "sanded", "sparsity": 0.25}
    assert stored["repairs"][2] == {"kind": "hummed", "tunes": 5, "loud": True}
    study = Study.model_validate(stored)
    assert study.compressions[0].name == "sanded-25%"
    assert [one.name for one in study.repairs] == ["prompt-8", "idp-2x8-loudest", "hummed-5-loud"]
    # Each is called by its own name where repairs are named, and what was named before keeps its verdict.
    assert page.multiselect(key="new atlas reported prompt-8 idp-2x8-loudest hummed-5-loud").value == ["prompt-8"]
    assert Study.model_validate(bare(study)) == study


CHANGED: dict[str, Any] = {
    **{"fact_seed": 3, "candidates": 5, "relations": ["instrument"], "compress_controls": True, "template": "none"},
    **{"transfer": {"compressions": True}, "ablations": {"repairs": [{"kind": "prompt", "length": 3}]}},
    **{"budget": {"equal": ["steps"]}, "shape": {"model_type": "llama"}, "inside": {"lens": None}},
    "tasks": {"files": "atlas"},
}
"""A value other than the default of every field that is written as YAML."""


def test_every_field_of_a_study_is_asked_or_written():
    page = opened("new_study", **{"from": "damage-atlas"})
    keys = {(one.key or "").removeprefix("new damage-atlas ") for one in controls(page)}
    blocks = {name for name in ("tuning", "drift") if any(one.startswith(f"{name} ") for one in keys)}
    assert blocks == set(drafting.BLOCKS)
    for name, spec in (("tuning", Tuning), ("drift", Drift)):
        assert {f"{name} {one}" for one in spec.model_fields} <= keys
    drawn = {name for name in Study.model_fields if name in keys or any(one.startswith(f"{name} ") for one in keys)}
    rows = {"compressions", "repairs"}
    assert drawn | rows | set(CHANGED) == set(Study.model_fields)
    assert not (drawn | rows) & set(CHANGED)
    page.text_area(key="new damage-atlas further").set_value(yaml.safe_dump(CHANGED)).run()
    assert {name: written(page)[name] for name in CHANGED} == CHANGED


@pytest.mark.parametrize(
    ("kind", "field", "text", "says"),
    [
        ("quantised", "of", "{kind: prompt}", "repair 3: of.length: Field required"),
        ("quantised", "of", "[8]", "repair 3: of: a repair has keys and values, and names its kind"),
        ("quantised", "of", "{kind: [1]}", "repair 3: of: a repair has keys and values, and names its kind"),
        ("quantised", "of", "a: [", "not readable YAML"),
        ("idp", "lengths", "8", "repair 3: a bank of seeds is tuned: give two lengths or more"),
        ("idp", "lengths", "8, x", "write whole numbers with commas between them"),
        ("idp", "lengths", "", "repair 3: a bank of seeds is tuned: give two lengths or more"),
        ("idp", "adapter", "{kind: lora, rank: [4]}", "repair 3: adapter.rank: Input should be a valid integer"),
        ("text", "text", "", "repair 3: text: "),
    ],
)
def test_what_is_written_by_half_is_one_sentence_and_the_form_stays(kind, field, text, says):
    page = opened("new_study")
    page.selectbox(key=REPAIR).set_value(kind).run()
    page.text_input(key=f"{REPAIR} {kind} {field}").set_value(text).run()
    assert not page.exception
    assert not page.error
    (warning,) = page.warning
    assert says in warning.value
    assert page.number_input(key="new atlas tuning steps").value == 60
    page.selectbox(key=REPAIR).set_value("lora").run()
    assert written(page)["repairs"][2] == {"kind": "lora", "rank": 4, "learning_rate": 0.01}


@pytest.mark.parametrize("name", shipped_studies())
def test_a_study_written_bare_is_the_same_study_and_says_no_default(name):
    study = load_study(name)
    stored = json.loads(json.dumps(bare(study)))
    assert Study.model_validate(stored) == study
    assert plain(stored) == stored
    assert not any(value is None for key, value in leaves(stored) if not key.startswith(".inside"))
    whole = json.loads(json.dumps(study.model_dump(mode="json")))
    assert bare(drafting.study_of(whole, "run")) == stored


def leaves(stored: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested keys and lists that holds no other."""
    inner = stored.items() if isinstance(stored, dict) else enumerate(stored) if isinstance(stored, list) else None
    if inner is None:
        yield where, stored
        return
    for key, value in inner:
        yield from leaves(value, f"{where}.{key}")


def test_a_stored_study_that_is_none_is_one_sentence():
    stored = bare(load_study("atlas"))
    del stored["tuning"]
    with pytest.raises(InputError, match="run x: tuning: Field required: start from another study"):
        drafting.study_of(stored, "run x")


@pytest.mark.parametrize("name", drafting.shipped())
def test_the_form_left_as_it_is_writes_the_study_it_starts_from(name, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(written(opened("new_study", **{"from": name}))))
    found = load_study(str(path))
    assert found.name == f"my-{name}"
    assert found.model_copy(update={"name": name}) == load_study(name)


def test_a_field_that_cannot_be_read_is_said_and_the_page_stays():
    page = opened("new_study")
    page.text_input(key="new atlas compression 1 sparsegpt pattern").set_value("much").run()
    assert "must be written n:m, such as 2:4" in page.warning[0].value.replace("\\", "")
    page.text_input(key="new atlas compression 1 sparsegpt pattern").set_value("2:4").run()
    assert "sparsity 0.67 contradicts pattern 2:4; leave sparsity out" in page.warning[0].value.replace("\\", "")
    page.number_input(key="new atlas compression 1 sparsegpt sparsity").set_value(None).run()
    assert written(page)["compressions"][1]["pattern"] == "2:4"
    page.text_area(key="new atlas further").set_value("seeds: [1]").run()
    assert "has a field of its own above" in page.warning[0].value


def test_a_number_that_may_be_empty_is_emptied_and_kept_through_other_pages():
    page, keys = opened("new_study"), [f"new atlas compression {place} sparsegpt sparsity" for place in (1, 2)]
    page.number_input(key=keys[0]).set_value(0.5)
    page.number_input(key=keys[1]).set_value(None).run()
    page.switch_page("recovery.py").run()
    page.switch_page("new_study.py").run()
    assert [page.number_input(key=one).value for one in keys] == [0.5, None]
    assert all(page.number_input(key=one).proto.HasField("default") is False for one in keys)  # else none empties it


@pytest.mark.parametrize(("text", "says"), [("[1]", "keys with values"), ("a: [", "not readable YAML")])
def test_further_fields_are_yaml(text, says):
    with pytest.raises(InputError, match=re.escape(says)):
        drafting.with_further({"name": "x"}, text)
    assert drafting.with_further({"name": "x"}, "") == {"name": "x"}
