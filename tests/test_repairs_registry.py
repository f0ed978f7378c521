"""Every repair of the list does what the list says of it, and one more is its value, how it is opened, and a line."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch
import yaml
from pydantic import Field, TypeAdapter, ValidationError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from analysis import code_keys, run
from analysis.reading import read_table
from analysis.store import Store
from analysis.study import Study, load_study
from analysis.worker import Job, compute
from data.errors import InputError
from data.facts import FactSet
from probes import repairs
from probes.adapter_folders import read_adapter
from probes.families import family_of
from probes.lora import adapted
from probes.models import OpenedModel, open_model
from probes.repairs.bank import BANK, fitting_of
from probes.repairs.base import Making, Opening, RepairWork, TuningData
from probes.repairs.registry import work_of
from probes.sharing import share_weights
from probes.specs.repairs.base import AnyRepair, MovableRepair, NamedRepair, Repair, RepairKind, VectorRepair
from probes.specs.repairs.placebo import PlaceboSpec
from probes.specs.repairs.registry import kind_of, kinds, registered
from probes.tokens import encode_continuations
from probes.tuning import statement_rows
from probes.variants import Variant
from tests.studies import STUDY
from tests.tiny_models import tiny
from tests.tuning_rows import STATEMENTS

assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=3e-5)
ROWS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]
PROMPT = {"kind": "prompt", "length": 3, "learning_rate": 0.05}
LORA = {"kind": "lora", "rank": 2, "learning_rate": 0.02}
BANKED = {"lengths": [2, 3], "learning_rate": 0.05}
EXAMPLES: list[dict[str, Any]] = [
    PROMPT,
    PROMPT | {"answers": "masked", "steps": 2},
    {"kind": "prefix", "length": 2, "learning_rate": 0.05},
    {"kind": "prefix", "length": 2, "learning_rate": 0.05, "encoder_width": 8},
    {"kind": "ptuning", "length": 3, "learning_rate": 0.01},
    LORA,
    {"kind": "idp", **BANKED},
    {"kind": "idp", **BANKED, "adapter": LORA, "selector": "random"},
    {"kind": "idp", "bank": "texts", "texts": ["ada lives", "bruno works in"]},
    {"kind": "ensemble", **BANKED},
    {"kind": "text", "text": "oslo is the home of ada"},
    {"kind": "reinjected", "rank": 2},
    {"kind": "adapter", "path": "FOLDER"},
    {"kind": "quantised", "of": PROMPT, "bits": 4},
    {"kind": "quantised", "of": {"kind": "prefix", "length": 2, "learning_rate": 0.05}, "bits": 8},
    {"kind": "sparse", "of": PROMPT, "sparsity": 0.5},
    {"kind": "placebo", "length": 4, "draw": "gaussian", "number": 3},
    {"kind": "recalibrated"},
    {"kind": "key"},
    {"kind": "twin"},
    {"kind": "transferred", "of": PROMPT, "source": None},
    {"kind": "transferred", "of": LORA, "source": {"method": "rtn", "bits": 4}, "read": "text"},
]


def called(stored: dict[str, Any]) -> str:
    return "-".join(str(value) for value in stored.values() if not isinstance(value, dict | list))


EACH = pytest.mark.parametrize("stored", EXAMPLES, ids=called)


@dataclass
class Maker:
    """Makes what a repair asks for, over a tiny model: a cell is its folder."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    home: Path
    seed: int = 0
    scope: str = "main"
    relations: int = 2
    sizes: dict[Path, Any] = field(default_factory=dict)

    def _folder(self) -> Path:
        folder = self.home / f"cell{len(self.sizes)}"
        folder.mkdir()
        return folder

    def tuned(self, repair: Repair, *, seed: int | None = None, under: Path | None = None, **_: Any) -> Path:
        folder, model = self._folder(), self.model
        if under is not None:
            model = opening_over(self, {"adapter": under}).under().model
        rows = statement_rows(self.tokenizer, STATEMENTS)
        budget = {"steps": repair.own_steps or 4, "batch": 4, "text_batch": 0}
        data = TuningData(rows, [], self.seed if seed is None else seed, budget)
        log, self.sizes[folder] = work_of(repair).tune(model, repair, data, folder)
        assert len(log) == budget["steps"]
        return folder

    def _made(self, repair: Repair, needs: dict[str, Path]) -> Path:
        folder = self._folder()
        dense = tiny("llama").requires_grad_(False)
        making = Making(self.model, "tiny", needs, lambda: dense)
        self.sizes[folder] = work_of(repair).make(repair, making, folder)
        return folder

    def from_weights(self, repair: Repair) -> Path:
        return self._made(repair, {})

    def from_tuned(self, repair: Repair, whole: Path) -> Path:
        return self._made(repair, {"whole": whole})

    def external(self, repair: Repair) -> Path:
        return self._made(repair, {})


@pytest.fixture
def copied():
    """A copy whose layers have lost a little of what the dense model has."""
    model = tiny("llama").requires_grad_(False)
    for name in family_of(model).linears_of(model):
        weight = model.get_submodule(name).get_parameter("weight")
        weight[:, ::3] = 0
    return model


@pytest.fixture
def maker(copied, tokenizer, tmp_path):
    return Maker(copied, tokenizer, tmp_path)


def opening_of(maker: Maker, repair: Repair) -> Opening:
    """What a variant with this repair is opened from, everything that it needs made."""
    return opening_over(maker, repair.cells(maker))


def opening_over(maker: Maker, needs: dict[str, Path]) -> Opening:
    """What is opened from these folders, over the maker's model."""
    parent, facts = OpenedModel(maker.model, maker.tokenizer, "", ""), FactSet({}, (), ())
    return Opening("made", parent, needs, maker.seed, "tiny", "main", lambda: facts, [])


def read_example(stored: dict[str, Any], maker: Maker) -> Repair:
    """An example as a repair; the folder of peft's that one of them names holds a LoRA."""
    if stored.get("path") == "FOLDER":
        inner = TypeAdapter(AnyRepair).validate_python(LORA)
        work_of(inner).write(inner, opening_of(maker, inner), maker.home / "brought")
        stored = stored | {"path": str(maker.home / "brought")}
    found: Repair = TypeAdapter(AnyRepair).validate_python(stored)
    return found


@torch.no_grad()
def logits_of(variant: Variant, rows=ROWS):
    return variant.logits(rows)


def test_every_kind_has_its_two_files_its_words_and_its_example():
    assert {one["kind"] for one in EXAMPLES} == {kind.name for kind in kinds()}
    homes = [Path(repairs.__file__).parent, Path(repairs.__file__).parents[1] / "specs" / "repairs"]
    for kind in kinds():
        assert all((home / f"{kind.name}.py").is_file() for home in homes)
        assert kind.spec.model_fields["kind"].default == kind.name
        assert kind.words[0].islower()
        assert not kind.words.endswith(".")
    made = {path.stem for path in homes[0].glob("*.py") if "\nREPAIR" in path.read_text()}
    assert made == {kind.name for kind in kinds()}


@EACH
def test_a_repair_is_read_as_it_is_written_and_named_where_it_may_be(stored, maker):
    repair = read_example(stored, maker)
    kind = kind_of(repair.kind)
    assert TypeAdapter(AnyRepair).validate_json(repair.model_dump_json()) == repair
    assert repair.name
    for allowed, annotation in (
        (not kind.arm, NamedRepair),
        (repair.movable, MovableRepair),
        (repair.of_vectors, VectorRepair),
    ):
        if allowed:
            assert TypeAdapter(annotation).validate_python(repair.model_dump()) == repair
        else:
            with pytest.raises(ValidationError, match=f"{kind.name}: this is no"):
                TypeAdapter(annotation).validate_python(repair.model_dump())
    assert repair.tuned >= repair.movable
    assert set(code_keys.needed_by(kind.name)) >= {kind.spec.__module__, kind.made_in}


@EACH
def test_a_repair_is_made_kept_and_opened_as_it_says(stored, maker):
    """Its size is foretold; opened twice it is the same; its parent is as it was; rows are read alike alone."""
    repair = read_example(stored, maker)
    work = work_of(repair)
    before = {name: tensor.clone() for name, tensor in maker.model.state_dict().items()}
    already = set(maker.sizes)
    opening = opening_of(maker, repair)
    variant = work.open(repair, opening)
    if repair.asked == "every prompt":
        with pytest.raises(InputError, match="keeps no single prompt"):
            logits_of(variant)
        assert variant.bank is not None
        variant = Variant("one of them", variant.model, variant.tokenizer, prompt=variant.bank.prompts[0])
    else:
        assert_close(logits_of(variant), logits_of(work.open(repair, opening)), rtol=0, atol=0)
    assert_close(logits_of(variant), torch.cat([logits_of(variant, [row]) for row in ROWS]))
    for name, tensor in maker.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    parent = logits_of(Variant("parent", maker.model, maker.tokenizer))
    changes = repair.asked != "parent" and not repair.ceiling
    assert ((logits_of(variant) - parent).abs().max() > 1e-6) == changes
    sizes = [size for folder, size in maker.sizes.items() if folder not in already]
    told = work.parameters(repair, maker.model)
    assert (told is not None) == (repair.tuned and bool(sizes))
    if told is not None:
        assert told == sum(size.parameters_added for size in sizes)
    in_front = variant.prompt is not None or variant.bank is not None or variant.prefix is not None
    assert in_front <= repair.before_content
    held = [variant.prompt] if variant.prompt is not None else [] if variant.bank is None else variant.bank.prompts
    if variant.prefix is not None:
        held = [variant.prefix.flat]
    if repair.asked == "every prompt":
        held = fitting_of(repair, opening).prompts
    lengths = work.lengths(repair, maker.model, maker.tokenizer, "tiny")
    if repair.kind != "transferred":  # which is measured as what it moves
        assert sorted([*lengths, *([repair.untuned_length] if repair.untuned_length else [])]) == sorted(map(len, held))
    inside = any("lora" in name for name, _ in variant.model.named_modules())
    if repair.kind not in ("transferred", "adapter"):
        assert inside == (repair.mergeable or getattr(repair, "adapter", None) is not None)
    if work.only_vectors(repair):
        assert variant.prefix is None
        assert not inside


@EACH
def test_a_repair_is_written_out_as_peft_reads_it_or_refused(stored, maker, tmp_path):
    repair = read_example(stored, maker)
    opening, to = opening_of(maker, repair), tmp_path / "out"
    work = work_of(repair)
    single = set(opening.needs) == {"tuned0"}
    banked = repair.asked in ("bank", "every prompt") and getattr(repair, "adapter", None) is None
    if not single and not banked:
        with pytest.raises(InputError, match="no single prompt, prefix or adapter"):
            work.write(repair, opening, to)
        assert not to.exists()
        return
    work.write(repair, opening, to)
    variant = work.open(repair, opening)
    if banked:
        stored_prompts = load_file(to / BANK)
        assert variant.bank is not None
        assert sorted(map(len, stored_prompts.values())) == sorted(map(len, variant.bank.prompts))
        return
    found = read_adapter(to, maker.model, "tiny")
    if found.prompt is not None:
        assert variant.prompt is not None
        assert torch.equal(found.prompt, variant.prompt)
    elif found.prefix is not None:
        assert variant.prefix is not None
        assert torch.equal(found.prefix, variant.prefix.flat)
    else:
        again = Variant("read", adapted(found.lora(share_weights(maker.model))), maker.tokenizer)
        assert_close(logits_of(again), logits_of(variant), rtol=0, atol=0)


@EACH
def test_a_study_takes_the_list_at_its_word(stored, maker):
    """What is no evidence is never reported, and each reason is said; arms can be named in no study."""
    repair = read_example(stored, maker)
    prompt = STUDY.model_dump(mode="json")["repairs"][0]
    told = STUDY.model_dump(mode="json") | {
        "repairs": [prompt, repair.model_dump(mode="json")],
        "reported": ["prompt-2"],
    }
    if kind_of(repair.kind).arm or repair.told != "true":
        with pytest.raises(ValidationError):
            Study.model_validate(told)
        return
    study = Study.model_validate(told)
    assert (repair in study.reportable) == (not repair.unreported)
    if repair.unreported:
        with pytest.raises(ValidationError, match=f"reported: {repair.name} {repair.unreported}; leave it out"):
            Study.model_validate(told | {"reported": [repair.name]})


def test_an_unknown_kind_is_refused_with_the_nearest_and_where_it_stands():
    stored = STUDY.model_dump(mode="json")
    stored["repairs"][0] = stored["repairs"][0] | {"kind": "promt"}
    with pytest.raises(ValidationError) as refused:
        Study.model_validate(stored)
    (first,) = refused.value.errors()
    assert first["loc"] == ("repairs", 0)
    assert "no repair is called 'promt'; nearest: prompt" in first["msg"]
    stored["repairs"][0] = {"kind": "prompt", "length": 0, "learning_rate": 0.1, "lenght": 2}
    with pytest.raises(ValidationError) as refused:
        Study.model_validate(stored)
    assert {one["loc"] for one in refused.value.errors()} == {("repairs", 0, "length"), ("repairs", 0, "lenght")}
    stored["repairs"][0] = "prompt-8"
    with pytest.raises(ValidationError, match="names its kind"):
        Study.model_validate(stored)


def test_no_two_draws_or_seeds_of_repairs_are_alike():
    """The description of each example differs, so its cells do."""
    said = [str(sorted(one.items(), key=str)) for one in EXAMPLES]
    assert len(set(said)) == len(said)
    assert PlaceboSpec(length=2, draw="gaussian").seed(0) != PlaceboSpec(length=2, draw="gaussian", number=1).seed(0)


# A repair of the test's own: the mean of all the model's token embeddings, so many times, before every question.


class MeanSpec(Repair):
    """The mean embedding, untuned."""

    kind: Literal["mean"] = "mean"
    length: int = Field(ge=1)

    @property
    def name(self) -> str:
        return f"mean-{self.length}"

    @property
    def untuned_length(self) -> int:
        return self.length


class MeanWork(RepairWork[MeanSpec]):
    def open(self, spec: MeanSpec, opening: Opening) -> Variant:
        mean = cast(nn.Embedding, opening.parent.model.get_input_embeddings()).weight.detach().mean(dim=0)
        return opening.variant(prompt=mean.repeat(spec.length, 1))


REPAIR = MeanWork()
TOY = RepairKind("mean", MeanSpec, "the mean of all embeddings", module=__name__)


@pytest.fixture
def toy():
    with registered(TOY):
        yield TOY
    with pytest.raises(ValueError, match="'mean'"):
        kind_of("mean")


def test_the_code_of_one_more_repair_is_in_the_keys_of_its_cells_and_of_no_other(toy):
    stored = STUDY.model_dump(mode="json")
    before = {cell.key for cell in run.prepare(Study.model_validate(stored))[0].cells}
    stored["repairs"].append({"kind": "mean", "length": 2})
    cells = run.prepare(Study.model_validate(stored))[0].cells
    new = [cell for cell in cells if cell.key not in before]
    assert {cell.kind for cell in new} == {"scored", "drift"}
    assert all(__name__ in code_keys.named_by(cell.fields) for cell in new)
    assert not any(__name__ in code_keys.named_by(cell.fields) for cell in cells if cell.key in before)


@pytest.mark.slow
def test_one_more_repair_goes_from_a_study_to_its_tables(toy, tmp_path):
    """Computed in this process, which alone knows of it; its answers are those of plain transformers."""
    stored = STUDY.model_dump(mode="json") | {"controls": [], "name": "toy", "reported": ["prompt-2", "mean-3"]}
    stored["repairs"] = [stored["repairs"][0], {"kind": "mean", "length": 3}]
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(stored))
    study = load_study(str(tmp_path / "toy.yaml"))
    plan, facts = run.prepare(study)
    store = Store(tmp_path / "runs")
    for cell in plan.cells:
        compute(Job.of(cell, store))
    folder = run.run(study, out=tmp_path / "runs")
    variants = read_table(folder, "variants").query("repair == 'mean-3'").set_index("compression")
    assert set(variants.index) == {"dense", "magnitude-60%"}
    assert set(variants["soft_tokens_untuned"]) == {3}
    assert set(read_table(folder, "drift")["variant_id"]) >= set(variants["variant_id"])
    opened = open_model("atlas", dtype="float32", device="cpu")
    answers = read_table(folder, "answers").query("reading == 'vocabulary' and phrasing == 'measure'")
    own = answers[answers["variant_id"] == variants.loc["dense", "variant_id"]].set_index("item")["log_prob"]
    items = facts.items(facts.select(["open"], "test"), "measure")[:6]
    pairs = [(item.question, item.fact.answer) for item in items]
    by_hand = []
    for question, answer in encode_continuations(opened.tokenizer, pairs):
        table = cast(nn.Embedding, opened.model.get_input_embeddings())
        embeds = torch.cat([table.weight.mean(dim=0).repeat(3, 1), table(torch.tensor([*question, *answer]))])
        with torch.no_grad():
            log_probs = opened.model(inputs_embeds=embeds[None]).logits[0].log_softmax(-1)
        places = range(3 + len(question) - 1, len(embeds) - 1)
        by_hand.append(sum(float(log_probs[place, token]) for place, token in zip(places, answer, strict=True)))
    np.testing.assert_allclose([own[item.name] for item in items], by_hand, atol=1e-4)
