"""Every kind of repair from a study's config to its tables: scored, compared layer by layer, and counted."""

import json
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel

from analysis import run
from analysis.export import export
from analysis.reading import read_table
from analysis.study import Study
from data.errors import InputError
from probes.adapter_folders import read_adapter
from probes.idp import PromptBank
from probes.lora import adapted, add_lora
from probes.models import open_model
from probes.prefix_tuning import TunedPrefix
from probes.prompts import draw_prompt
from probes.selection.attention import Selector
from probes.sharing import share_weights
from probes.specs.repairs.text import TextSpec
from probes.specs.variants import spec_of
from probes.tokens import encode
from probes.variants import Variant, require_difference
from tests.studies import STUDY
from tests.tiny_models import tiny

ROWS = [[5, 9, 33, 7, 12], [40], [8, 8, 21]]
WIDTH, KEYS, LAYERS = 128, 128, 4
ADAPTER = {"kind": "lora", "rank": 1, "learning_rate": 0.01}
REPAIRS = [
    {"kind": "prefix", "length": 1, "learning_rate": 0.03},
    {"kind": "ptuning", "length": 2, "learning_rate": 0.01},
    ADAPTER,
    {"kind": "idp", "lengths": [2, 2], "learning_rate": 0.03, "adapter": ADAPTER},
    {"kind": "text", "text": "works in"},
    {"kind": "reinjected", "rank": 64},
    {"kind": "ensemble", "lengths": [2, 2], "learning_rate": 0.03},
]
SMALL = Study.model_validate(
    STUDY.model_dump()
    | {
        "controls": [],
        "repairs": [{"kind": "prompt", "length": 2, "learning_rate": 0.03}, *REPAIRS],
        "reported": ["prompt-2", "prefix-1"],
        "drift": {"questions": 2, "windows": 2, "length": 16, "batch": 2},
    }
)


@pytest.fixture(scope="module")
def finished(studies):
    return studies.run(SMALL)


@pytest.fixture(scope="module")
def variants(finished):
    drift = read_table(finished, "drift")
    return read_table(finished, "variants").assign(drifted=lambda table: table["variant_id"].isin(drift["variant_id"]))


def of(variants, repair):
    """The two variants, dense and compressed, of one repair."""
    found = variants[variants["repair"] == repair]
    assert len(found) == 2
    return found


@pytest.mark.slow
def test_a_prefix_is_counted_and_compared(variants):
    found = of(variants, "prefix-1")
    assert found["drifted"].all()
    assert (found["logit_difference"] > 1e-3).all()
    assert (found["parity_max_abs"] < 1e-4).all()
    assert set(found["parameters_added"]) == set(found["parameters_tuned"]) == {LAYERS * 2 * KEYS}
    assert set(found["bytes_added"]) == {4 * LAYERS * 2 * KEYS}


@pytest.mark.slow
def test_p_tuning_keeps_a_prompt_and_counts_the_encoder_it_dropped(variants):
    found = of(variants, "ptuning-2")
    assert found["drifted"].all()
    assert (found["logit_difference"] > 1e-3).all()
    assert set(found["parameters_added"]) == {2 * WIDTH}
    assert set(found["parameters_tuned"]) == {2 * WIDTH + 3 * (WIDTH + 1) * WIDTH}


@pytest.mark.slow
def test_a_bank_over_an_adapter_is_both_and_the_adapter_is_made_once(variants):
    alone, both = of(variants, "lora-r1"), of(variants, "idp-2x2-attention-on-lora-r1")
    assert both["drifted"].all()
    assert (both["logit_difference"] > 1e-3).all()
    assert set(both["parameters_added"]) == {int(alone["parameters_added"].iloc[0]) + 2 * 2 * WIDTH}
    assert set(both["steps"]) == {3 * SMALL.tuning.steps}
    plan, _ = run.prepare(SMALL)
    tuned = plan.of("tuned")
    adapters = [cell for cell in tuned if cell.fields["repair"]["kind"] == "lora"]
    over = [cell for cell in tuned if "adapter" in cell.needs]
    assert len(adapters) == 2  # one for dense, one for the compressed copy
    assert len(over) == 2 * 2
    assert all(cell.needs["adapter"] in adapters for cell in over)


def test_prompts_over_an_adapter_read_the_adapted_model():
    """Over an adapter that was never tuned they say what they say over the bare model; over a tuned one they do not."""
    model = tiny("llama").requires_grad_(False)
    prompts = [draw_prompt(model, length, length, "gaussian") for length in (2, 3)]
    lora = add_lora(model, rank=2, targets="all", seed=0)

    def logits(over):
        return Variant("idp", over, None, bank=PromptBank(over, prompts, Selector())).logits(ROWS)  # type: ignore[arg-type]

    bare = logits(model)
    assert torch.equal(logits(adapted(lora)), bare)
    with torch.no_grad():
        for name, one in lora.named_parameters():
            if "lora_B" in name:
                one.add_(0.1)
    assert (logits(adapted(lora)) - bare).abs().max() > 1e-2
    assert torch.equal(logits(model), bare)


@pytest.mark.slow
def test_a_text_is_shown_token_by_token_and_adds_no_parameters(variants):
    found = of(variants, "text-works-in")
    assert found["drifted"].all()
    assert (found["logit_difference"] > 1e-3).all()
    assert set(found["parameters_added"]) == {0}
    tokenizer = open_model("atlas", dtype="float32", device="cpu").tokenizer
    for told, count in zip(found["prompt_tokens"], found["text_tokens"], strict=True):
        assert tokenizer.convert_tokens_to_ids(json.loads(told)) == tokenizer("works in").input_ids
        assert len(json.loads(told)) == count


def test_a_text_that_tells_an_asked_answer_is_refused():
    _, facts = run.prepare(SMALL)
    asked = facts.select(["open"], "test")[0]
    leak = {"kind": "text", "text": f"{asked.subject} plays the {asked.answer}"}
    study = Study.model_validate(SMALL.model_dump() | {"repairs": [*SMALL.model_dump()["repairs"], leak]})
    with pytest.raises(InputError, match=f"states '{asked.subject}' and '{asked.answer}', which is asked of a test"):
        run.prepare(study)


@pytest.mark.parametrize("text", ["", "  ", "?!"])
def test_a_text_without_a_word_is_refused(text):
    with pytest.raises(ValueError, match="no word in it"):
        TextSpec(text=text)


@pytest.mark.slow
def test_an_ensemble_is_counted_and_shares_its_prompts_with_the_mixture(variants):
    found = of(variants, "ensemble-2x2")
    assert not found["drifted"].any()  # it keeps no prompt
    assert (found["logit_difference"] > 1e-3).all()
    assert set(found["parameters_added"]) == {2 * 2 * WIDTH}
    mixture = {"kind": "idp", "lengths": [2, 2], "learning_rate": 0.03, "selector": "mixture"}
    study = Study.model_validate(SMALL.model_dump() | {"repairs": [*SMALL.model_dump()["repairs"], mixture]})
    scored = {cell.label: cell for cell in run.prepare(study)[0].of("scored")}
    ensemble, mixed = (scored[f"dense + {name} (main)"] for name in ("ensemble-2x2", "idp-2x2-mixture"))
    assert {role: cell.key for role, cell in ensemble.needs.items()} == {
        role: cell.key for role, cell in mixed.needs.items()
    }


@pytest.mark.slow
def test_what_was_put_back_is_told_apart_and_never_decided(finished, variants):
    found = variants[variants["kind"] == "reinjected"]
    assert set(found["compression"]) == {"magnitude-60%"}  # dense lost nothing
    assert found["drifted"].all()
    assert set(found["steps"]) == set(found["tokens_seen"]) == set(found["parameters_tuned"]) == {0}
    assert (found["parameters_added"] == 64 * variants.set_index("repair")["parameters_added"]["lora-r1"].iloc[0]).all()
    verdict = json.loads((finished / "verdict.json").read_text())
    assert [one["decision"] for one in verdict["reinjections"]] == ["re-injected"]
    assert verdict["reinjections"][0]["gain_bits"]["estimate"] > 0
    assert not [one for one in verdict["settings"] + verdict["controls"] if "reinjected" in one["repair"]]
    with pytest.raises(ValueError, match="reinjected-r64 is computed from the dense weights: a control, no evidence"):
        Study.model_validate(SMALL.model_dump() | {"reported": ["prompt-2", "reinjected-r64"]})


@pytest.mark.slow
@pytest.mark.parametrize("repair", ["prompt-2", "prefix-1", "ptuning-2", "lora-r1"])
def test_an_exported_repair_is_the_one_that_was_made(finished, tmp_path, repair):
    """Written in peft's form, read by peft: the difference from the parent that the run itself measured."""
    folder = export(finished, f"dense + {repair}", tmp_path / "exported")
    opened = open_model("atlas", dtype="float32", device="cpu")
    model = opened.model
    theirs = PeftModel.from_pretrained(share_weights(model), str(folder)).eval()
    found = read_adapter(folder, model, "atlas")
    prefix = None if found.prefix is None else TunedPrefix(found.prefix, model)
    own = adapted(found.lora(model)) if found.method == "LORA" else model
    ours = Variant(repair, own, opened.tokenizer, prompt=found.prompt, prefix=prefix)
    _, facts = run.prepare(SMALL)
    rows = [encode(opened.tokenizer, item.question) for item in facts.items(facts.select(["open"]), "measure")[:8]]
    for row in rows:
        with torch.no_grad():
            expected = theirs(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row))).logits[0, -1]
        torch.testing.assert_close(ours.logits([row])[0], expected, rtol=1e-5, atol=2e-5)
    variants = read_table(finished, "variants").query("compression == 'dense'").set_index("repair")
    difference = require_difference(ours, Variant("dense", model, opened.tokenizer), rows)
    assert difference == pytest.approx(variants.loc[repair, "logit_difference"], abs=1e-4)


@pytest.mark.slow
def test_what_peft_has_no_form_for_is_not_exported(finished, tmp_path):
    for name, said in (("dense + recalibrated", "peft has no form"), ("dense + nothing", "no variant 'dense")):
        with pytest.raises(InputError, match=said):
            export(finished, name, tmp_path / "new")
    with pytest.raises(InputError, match="already there"):
        export(finished, "dense + prefix-1", tmp_path)


@pytest.mark.slow
def test_a_folder_of_pefts_is_scored_and_compared_like_what_was_made_here(finished, variants, tmp_path):
    folder = export(finished, "dense + prefix-1", tmp_path / "brought")
    plan, _ = run.prepare(with_folder(folder))
    cells = {cell.label: cell for cell in plan.cells}
    made = {}

    def compute(cell):
        """One cell with what it needs, in this process; what it does not read is not made."""
        needs = {role: compute(need) for role, need in cell.needs.items() if role != "parent"}
        if cell.key not in made:
            made[cell.key] = tmp_path / cell.key
            made[cell.key].mkdir()
            import_module(f"analysis.work_{cell.kind}").work(cell.fields, needs, made[cell.key])
        return made[cell.key]

    scored = compute(cells["dense + adapter-brought (main)"])
    told = pd.read_parquet(scored / "answers.parquet")
    answers = read_table(finished, "answers")
    own = variants[(variants["variant"] == "dense + prefix-1")]["variant_id"].iloc[0]
    theirs = answers[answers["variant_id"] == own]
    np.testing.assert_allclose(told["log_prob"], theirs["log_prob"], atol=1e-5)
    compared = [spec_of(one).name for one in plan.of("drift")[0].fields["variants"]]
    assert "dense + adapter-brought" in compared


def with_folder(folder):
    """The small study with a repair that was made elsewhere."""
    brought = {"kind": "adapter", "path": str(folder)}
    return Study.model_validate(SMALL.model_dump() | {"repairs": [*SMALL.model_dump()["repairs"], brought]})


def test_a_folder_that_is_none_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(InputError, match=r"no adapter_config\.json, so it is no folder of peft's"):
        run.prepare(with_folder(tmp_path))
    with pytest.raises(ValueError, match="was made elsewhere and may have read what is asked"):
        Study.model_validate(with_folder(tmp_path).model_dump() | {"reported": [f"adapter-{tmp_path.name}"]})
