"""Whatever shapes a number is in a key: every field of a study, the weights, the texts, the facts."""

import importlib
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pydantic import BaseModel

from analysis import run, work_compressed, work_drift, work_tasks, work_tuned
from analysis.cell import KINDS, Plan
from analysis.floors import doubles_of
from analysis.opening import clean_blocks, dense
from analysis.study import Study
from analysis.study_blocks import OWN_TEXT
from data import text
from data.atlas import FOLDER, load_world
from data.errors import InputError
from probes.adapter_folders import write_prompt
from probes.models import locate, open_model
from probes.specs.repairs.lora import LoraSpec
from probes.specs.repairs.prompt import PromptSpec
from probes.specs.variants import VariantSpec
from tests.studies import BASE, HELD, PROMPT

EVERY: set[str] = set(KINDS)
READ = {"lens", "probed", "intervened", "examples"}
TUNED = {"tuned", "scored", "drift", "tasks"} | READ
BANKED = {"tuned", "scored", "drift", "lens", "tasks"}
"""What reads every repair, a bank and a prefix among them; the other instruments read the reported prompt."""
CHANGES: dict[str, tuple[Any, set[str]]] = {
    "name": ("another", set()),
    "title": ("another", set()),
    "dtype": ("bfloat16", EVERY),
    "device": ("cuda", EVERY),
    "threads": (2, EVERY),
    "fact_seed": (1, EVERY),
    "candidates": (6, EVERY),
    "relations": (["instrument"], EVERY),
    "template": ("chat", EVERY),
    "groups": (["open", "graded"], TUNED),
    "controls": ([], TUNED - {"tasks"}),  # tasks are of the main scope alone
    "text": ("pydoc", EVERY),
    "compressions": ([BASE["compressions"][0], BASE["compressions"][1] | {"sparsity": 0.5}], EVERY),
    "seeds": ([0, 2], EVERY - READ - {"tasks"}),  # what is read inside, and tasks, are of the first replicate
    "repairs": ([*BASE["repairs"], {"kind": "prefix", "length": 1, "learning_rate": 0.1}], BANKED),
    "reported": (["lora-r1"], {"probed", "intervened", "examples"}),
    "placebos": (10, {"scored"}),
    "score_batch": (32, {"scored", "intervened", "examples"}),
    "compress_controls": (True, {"tuned", "scored", "drift"} | READ),
    "shape": ({"hidden_size": 8}, set()),
    "tuning.steps": (6, TUNED),
    "tuning.batch": (8, TUNED),
    "tuning.text_batch": (4, TUNED),
    "tuning.text_length": (32, TUNED),
    "drift.questions": (6, {"drift"}),
    "drift.windows": (4, {"drift"}),
    "drift.length": (32, {"drift"}),
    "drift.batch": (4, {"drift"}),
    "drift.backend": ("hooks", {"drift"}),
    "drift.around": ("dense", {"drift"}),
    "drift.metrics": (["basic", "robust"], {"drift"}),
    "drift.detailed": (1, set()),  # basic metrics alone, which every replicate has
    "drift.floors": (["batch_plan", "sdpa"], {"drift"}),
    "transfer.repairs": (["lora-r1"], {"tuned", "scored"}),
    "transfer.compressions": (False, {"scored"}),
    "transfer.relations": (["birthplace"], {"tuned", "scored"}),
    "transfer.text.batch": (4, {"tuned", "scored"}),
    "transfer.text.length": (32, {"tuned", "scored"}),
    "ablations.compression": ("magnitude-70%", {"tuned", "scored"}),
    "ablations.repairs": ([PROMPT | {"length": 6}], {"tuned", "scored"}),
    "budget.equal": (["tokens"], BANKED),
    "budget.to": ("lora-r1", set()),
    "budget.tolerance": (0.5, set()),
    "inside.replicates": (2, READ),
    "inside.batch": (32, READ),
    "inside.lens.items": (8, {"lens"}),
    "inside.lens.repairs": (["lora-r1"], {"lens"}),
    "inside.probes.groups": (["open"], {"probed"}),
    "inside.probes.strength": (2.0, {"probed"}),
    "inside.probes.controls": (1, {"probed"}),
    "inside.probes.repairs": (["lora-r1"], {"probed"}),
    "inside.interventions.items": (8, {"intervened"}),
    "inside.interventions.sites": (["attn_out"], {"intervened"}),
    "inside.interventions.positions": (["all"], {"intervened"}),
    "inside.interventions.heads": (False, {"intervened"}),
    "inside.interventions.window": (2, {"intervened"}),
    "inside.interventions.step": (2, {"intervened"}),
    "inside.interventions.repairs": (["lora-r1"], {"intervened"}),
    "inside.examples.items": (2, {"examples"}),
    "inside.examples.repairs": (["lora-r1"], {"examples"}),
    "tasks.names": (["said"], {"tasks"}),
    "tasks.files": (f"{HELD.name}/other", {"tasks"}),
    "tasks.items": (3, {"tasks"}),
    "tasks.seed": (1, {"tasks"}),
    "tasks.batch": (8, {"tasks"}),
    "tasks.other_batch": (5, {"tasks"}),
    "tasks.replicates": (2, {"tasks"}),
    "tasks.repairs": (["lora-r1"], {"tasks"}),
    "tasks.perplexity.texts": (["wikitext"], {"tasks"}),
    "tasks.perplexity.window": (128, {"tasks"}),
    "tasks.perplexity.documents": (8, {"tasks"}),
}
"""Another value of each field, and the kinds of cells that it must change or add; where there are none, the field
shapes no number of a cell: a name, or what is checked or chosen when tables are gathered (the manifest tells it)."""
TOGETHER = {"model", "facts"}
"""Fields that cannot change alone: see the test of one's own files below."""


def leaves(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Dotted names of all fields; blocks are entered, lists of repairs and compressions stand for themselves."""
    found = set()
    for name, field in model.model_fields.items():
        blocks = [one for one in (field.annotation, *get_args(field.annotation)) if _is_block(one)]
        found |= leaves(blocks[0], f"{prefix}{name}.") if blocks else {prefix + name}
    return found


def _is_block(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def planned(stored: dict[str, Any]) -> dict[str, set[str]]:
    plan, _ = run.prepare(Study.model_validate(stored))
    return keys_of(plan)


def keys_of(plan: Plan) -> dict[str, set[str]]:
    return {kind: {cell.key for cell in plan.of(kind)} for kind in KINDS}


@pytest.fixture(scope="module")
def before() -> dict[str, set[str]]:
    return planned(BASE)


def test_no_field_of_a_study_is_forgotten_here():
    assert leaves(Study) == set(CHANGES) | TOGETHER


@pytest.mark.parametrize("field", CHANGES)
def test_a_field_changes_the_keys_of_the_cells_that_it_shapes_and_no_others(field, before):
    value, touched = CHANGES[field]
    stored = Study.model_validate(BASE).model_dump(mode="json")
    *parents, last = field.split(".")
    place = stored
    for parent in parents:
        place = place[parent]
    assert place[last] != value, "this is no change"
    place[last] = value
    after = planned(stored)
    assert {kind for kind in KINDS if after[kind] != before[kind]} == touched
    if touched == EVERY and field != "compressions":  # dense stays as it is
        assert not any(after[kind] & before[kind] for kind in KINDS)


@pytest.mark.parametrize("place", range(len(BASE["repairs"])))
def test_every_field_of_a_repair_and_a_compression_changes_its_keys(place, before):
    """Their whole description is in the key, so that a new field cannot be forgotten."""
    plan, _ = run.prepare(Study.model_validate(BASE))
    repair = Study.model_validate(BASE).repairs[place].model_dump(mode="json")
    assert any(cell.fields["variant"]["repair"] == repair for cell in plan.of("scored"))
    compressions = [one.model_dump(mode="json") for one in Study.model_validate(BASE).compressions]
    assert all(cell.fields["compression"] in compressions for cell in plan.of("compressed"))
    assert set(plan.of("scored")[0].fields["variant"]) == set(VariantSpec.model_fields)


@pytest.fixture
def own(tmp_path) -> dict[str, Any]:
    """A study of a user's own files: model, facts, phrasings and text."""
    source = locate("atlas").folder
    shutil.copytree(source, tmp_path / "model", ignore=lambda _, names: [one for one in names if one.endswith(".py")])
    known = load_world().facts.only(["instrument"])
    rows = [f"plays,{one.subject},{one.answer}" for one in known.select(["open"])[:60]]
    (tmp_path / "mine.csv").write_text("\n".join(["relation,subject,answer", *rows]) + "\n")
    (tmp_path / "mine.yaml").write_text("plays: {tune: ['{subject} plays', 'played by {subject} :'], "
                                        "damage: 'with {subject}', measure: '{subject} has'}\n")  # fmt: skip
    (tmp_path / "text.txt").write_text("\n\n".join(f"Paragraph {place}." for place in range(50)))
    changed: dict[str, Any] = {
        "model": str(tmp_path / "model"),
        "facts": str(tmp_path / "mine.csv"),
        "groups": ["facts"],
    }
    changed |= {"relations": None, "controls": [], "text": f"file:{tmp_path / 'text.txt'}", "transfer": None}
    return BASE | changed


def _flip(path: Path) -> None:
    """One bit in the middle of a file."""
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize("file", ["weights", "text", "facts", "phrasings"])
def test_what_ones_own_files_hold_is_in_every_key(own, file, tmp_path):
    first = planned(own)
    if file == "weights":
        _flip(next((tmp_path / "model").glob("*.safetensors")))
    elif file == "text":
        _flip(tmp_path / "text.txt")
    else:
        path = tmp_path / ("mine.csv" if file == "facts" else "mine.yaml")
        text = path.read_text()
        path.write_text(text.rsplit(",", 1)[0] + ",harp\n" if file == "facts" else text.replace(" has", " holds"))
    second = planned(own)
    assert all(not first[kind] & second[kind] for kind in KINDS)
    assert first != planned(own | {"model": "atlas", "facts": "atlas", "groups": ["open"]})


def test_the_facts_that_the_atlass_text_tells_are_in_every_key(own, tmp_path, monkeypatch):
    told = own | {"text": "atlas"}
    first = planned(told)
    (tmp_path / "facts.json").write_bytes((FOLDER / "facts.json").read_bytes().replace(b"drum", b"harp", 1))
    monkeypatch.setattr(text, "FOLDER", tmp_path)
    second = planned(told)
    assert all(not first[kind] & second[kind] for kind in KINDS)


def _cut(path: Path) -> None:
    """Its last paragraph."""
    path.write_text(path.read_text().rsplit("\n\n", 1)[0])


@pytest.mark.parametrize("kind", ["compressed", "scored"])
def test_weights_that_change_between_plan_and_work_are_refused(own, kind, tmp_path):
    """Else a cell would keep, under the key of the old weights, what the new ones say."""
    plan, _ = run.prepare(Study.model_validate(own))
    cell = plan.of(kind)[0]
    _flip(next((tmp_path / "model").glob("*.safetensors")))
    with pytest.raises(InputError, match=r"model '.*' changed while the study ran: start it again"):
        importlib.import_module(cell.module).work(cell.fields, {}, tmp_path)


def test_a_checkpoint_that_changes_between_plan_and_work_is_refused(own, tmp_path):
    shutil.copytree(tmp_path / "model", tmp_path / "other")
    checkpoint = {"method": "checkpoint", "path": str(tmp_path / "other")}
    plan, _ = run.prepare(Study.model_validate(own | {"compressions": [checkpoint], "ablations": None}))
    _flip(next((tmp_path / "other").glob("*.safetensors")))
    with pytest.raises(InputError, match=r"model '.*other' changed while the study ran"):
        work_compressed.work(plan.of("compressed")[0].fields, {}, tmp_path)


def test_the_other_precision_is_opened_from_the_planned_weights(own, tmp_path):
    plan, _ = run.prepare(Study.model_validate(own))
    fields = plan.of("drift")[0].fields
    dense(fields)
    _flip(next((tmp_path / "model").glob("*.safetensors")))
    with pytest.raises(InputError, match=r"model '.*' changed while the study ran"):
        doubles_of(["bfloat16"], fields, {}, (), [])


def test_a_text_that_changes_between_plan_and_work_is_refused(own, tmp_path):
    plan, _ = run.prepare(Study.model_validate(own))
    fields = plan.of("drift")[0].fields
    _cut(tmp_path / "text.txt")
    with pytest.raises(InputError, match=r"text 'file:.*' changed while the study ran: start it again"):
        clean_blocks(dense(fields).tokenizer, fields, "tuning", 16, 0, 1)
    with pytest.raises(InputError, match=r"text 'file:.*' changed while the study ran"):
        work_drift.rows_of(fields, Study.model_validate(own).drift)
    asked = next(cell.fields for cell in plan.of("tasks") if cell.fields.get("perplexity", {}).get("text") == OWN_TEXT)
    with pytest.raises(InputError, match=r"text 'file:.*' changed while the study ran"):
        work_tasks.work(asked, {}, tmp_path)


def test_a_folder_that_changes_between_plan_and_work_is_refused(own, tmp_path):
    opened = open_model("atlas", dtype="float32", device="cpu")
    vectors = torch.zeros(2, opened.model.config.hidden_size)
    write_prompt(tmp_path / "brought", vectors, opened.model, str(tmp_path / "model"))
    repairs = [PROMPT, {"kind": "adapter", "path": str(tmp_path / "brought")}]
    plan, _ = run.prepare(Study.model_validate(own | {"repairs": repairs, "budget": None}))
    cell = next(cell for cell in plan.of("tuned") if "folder_sha" in cell.fields and not cell.needs)
    write_prompt(tmp_path / "brought", vectors + 1, opened.model, str(tmp_path / "model"))
    (tmp_path / "cell").mkdir()
    with pytest.raises(InputError, match="brought', which a repair is brought from, changed while the study ran"):
        work_tuned.work(cell.fields, {}, tmp_path / "cell")


@pytest.mark.parametrize("spec", [PromptSpec(length=8, learning_rate=0.1), LoraSpec(rank=4, learning_rate=0.1)])
def test_steps_of_its_own_are_kept_and_spoken(spec):
    own = spec.model_copy(update={"steps": 7})
    assert type(spec).model_validate_json(own.model_dump_json()) == own
    assert own.name == f"{spec.name}-7steps"
