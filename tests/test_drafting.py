"""The form's plain half: what it shows of a study is the study, and what it calls a repair is its name."""

import json
import re

import pytest
import yaml
from pydantic import TypeAdapter

from analysis import drafting
from analysis.study import Study, load_study, shipped_studies
from data.errors import InputError
from probes.specs.repairs.base import NamedRepair
from tests.opened_pages import opened

REPAIRS = [
    {"kind": "prompt", "length": 8, "learning_rate": 0.03},
    {"kind": "prefix", "length": 2, "learning_rate": 0.1},
    {"kind": "ptuning", "length": 4, "learning_rate": 0.01, "encoder": "lstm"},
    {"kind": "ptuning", "length": 4, "learning_rate": 0.01, "encoder": "mlp"},
    {"kind": "lora", "rank": 3, "learning_rate": 0.01, "targets": "all"},
    {"kind": "idp", "lengths": [8, 8], "learning_rate": 0.03, "bank": "seeds", "selector": "attention"},
    {"kind": "idp", "lengths": [4, 8], "learning_rate": 0.03, "bank": "relations", "selector": "router"},
]


@pytest.mark.parametrize("repair", REPAIRS, ids=str)
def test_a_repair_is_called_by_its_name(repair):
    assert drafting.spoken(repair) == TypeAdapter(NamedRepair).validate_python(repair).name


def test_what_the_form_has_no_fields_for_has_no_name():
    assert drafting.spoken(REPAIRS[0] | {"answers": "masked"}) is None
    assert drafting.spoken({"kind": "reinjected", "rank": 4}) is None


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("{kind: prompt}", "repair prompt: write its length, such as {kind: prompt, length: 8}"),
        ("{kind: [1]}", "write one word"),
        ("{kind: idp, lengths: 8}", "repair idp: write its lengths"),
        ("{kind: idp, lengths: []}", "repair idp: write its lengths"),
        ("{kind: idp, lengths: [[8]]}", "repair idp: write its lengths"),
        ("{kind: lora, rank: [4]}", "repair lora: write its rank"),
    ],
)
def test_what_is_written_by_half_is_one_sentence(written, says, tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_RUNS", str(tmp_path))
    with pytest.raises(InputError, match=re.escape(says)):
        drafting.spoken(yaml.safe_load(written))
    page = opened("new_study")
    page.selectbox(key="new atlas repair 0 kind").set_value("other").run()
    page.text_input(key="new atlas repair 0 yaml").set_value(written).run()
    assert not page.exception
    assert not page.error
    assert says in page.warning[0].value


@pytest.mark.parametrize("name", shipped_studies())
def test_a_stored_study_written_bare_is_the_same_study(name):
    study = load_study(name)
    stored = json.loads(json.dumps(study.model_dump(mode="json")))
    assert Study.model_validate(drafting.bare(stored)) == study


@pytest.mark.parametrize("name", drafting.shipped())
def test_the_form_left_as_it_is_writes_the_study_it_starts_from(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_RUNS", str(tmp_path))
    page = opened("new_study", **{"from": name})
    assert not page.exception
    assert not page.warning
    path = tmp_path / "study.yaml"
    path.write_text(page.code[0].value)
    written = load_study(str(path))
    assert written.name == f"my-{name}"
    assert written.model_copy(update={"name": name}) == load_study(name)


def test_a_field_that_cannot_be_read_is_said_and_the_page_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_RUNS", str(tmp_path))
    page = opened("new_study")
    page.text_input(key="new atlas compression 1 share").set_value("much").run()
    assert "write a share such as 0.5" in page.warning[0].value
    page.text_input(key="new atlas compression 1 share").set_value("2:4").run()
    assert not page.warning
    assert yaml.safe_load(page.code[0].value)["compressions"][1]["pattern"] == "2:4"
    page.text_area(key="new atlas further").set_value("seeds: [1]").run()
    assert "has a field of its own above" in page.warning[0].value


@pytest.mark.parametrize(("text", "says"), [("[1]", "keys with values"), ("a: [", "not readable YAML")])
def test_further_fields_are_yaml(text, says):
    with pytest.raises(InputError, match=says):
        drafting.with_further({"name": "x"}, text)
    assert drafting.with_further({"name": "x"}, "") == {"name": "x"}
