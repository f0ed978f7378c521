"""Every kind of repair from a study's config to its tables: scored, compared layer by layer, and counted."""

import json

import pytest
import torch

from analysis import run
from analysis.reading import read_table
from analysis.study import Study
from data.errors import InputError
from probes.banks import text_prompts
from probes.idp import PromptBank, Selector
from probes.inputs import encode, tokens_of
from probes.lora import adapted, add_lora
from probes.models import open_model
from probes.prompts import draw_prompt
from probes.specs import TextSpec
from probes.variants import Variant
from tests.test_run import STUDY
from tests.tiny_models import tiny

ROWS = [[5, 9, 33, 7, 12], [40], [8, 8, 21]]
WIDTH, KEYS, LAYERS = 128, 128, 4
ADAPTER = {"kind": "lora", "rank": 1, "learning_rate": 0.01}
REPAIRS = [
    {"kind": "prefix", "length": 1, "learning_rate": 0.03},
    {"kind": "prefix", "length": 2, "learning_rate": 0.01, "encoder_width": 8},
    {"kind": "ptuning", "length": 2, "learning_rate": 0.01},
    ADAPTER,
    {"kind": "idp", "lengths": [2, 2], "learning_rate": 0.03, "adapter": ADAPTER},
    {"kind": "text", "text": "works in"},
    {"kind": "ensemble", "lengths": [2, 2], "learning_rate": 0.03},
]
SMALL = Study.model_validate(
    STUDY.model_dump()
    | {
        "controls": [],
        "repairs": [{"kind": "prompt", "length": 2, "learning_rate": 0.03}, *REPAIRS],
        "reported": ["prompt-2", "prefix-1"],
        "tuning": {"steps": 2, "batch": 4},
        "drift": {"questions": 2, "windows": 2, "length": 16, "batch": 2},
    }
)


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    folder = run.run(SMALL, out=tmp_path_factory.mktemp("runs"))
    drift = read_table(folder, "drift")
    return read_table(folder, "variants").assign(drifted=lambda table: table["variant_id"].isin(drift["variant_id"]))


def of(variants, repair):
    """The two variants, dense and compressed, of one repair."""
    found = variants[variants["repair"] == repair]
    assert len(found) == 2
    return found


def test_a_prefix_is_counted_and_compared(variants):
    for repair, slots in (("prefix-1", 1), ("prefix-2-mlp8", 2)):
        found = of(variants, repair)
        assert found["drifted"].all()
        assert (found["logit_difference"] > 1e-3).all()
        assert (found["parity_max_abs"] < 1e-4).all()
        assert set(found["parameters_added"]) == {slots * LAYERS * 2 * KEYS}
        assert set(found["bytes_added"]) == {4 * slots * LAYERS * 2 * KEYS}
    assert set(of(variants, "prefix-1")["parameters_tuned"]) == {LAYERS * 2 * KEYS}
    encoder = 2 * KEYS + (KEYS + 1) * 8 + (8 + 1) * LAYERS * 2 * KEYS  # vectors, then two linear layers
    assert set(of(variants, "prefix-2-mlp8")["parameters_tuned"]) == {encoder}


def test_p_tuning_keeps_a_prompt_and_counts_the_encoder_it_dropped(variants):
    found = of(variants, "ptuning-2")
    assert found["drifted"].all()
    assert (found["logit_difference"] > 1e-3).all()
    assert set(found["parameters_added"]) == {2 * WIDTH}
    assert set(found["parameters_tuned"]) == {2 * WIDTH + 3 * (WIDTH + 1) * WIDTH}


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


def test_a_text_is_shown_token_by_token_and_adds_no_parameters(variants):
    found = of(variants, "text-works-in")
    assert found["drifted"].all()
    assert (found["logit_difference"] > 1e-3).all()
    assert set(found["parameters_added"]) == {0}
    tokenizer = open_model("atlas", dtype="float32", device="cpu").tokenizer
    for told, count in zip(found["prompt_tokens"], found["text_tokens"], strict=True):
        assert tokenizer.convert_tokens_to_ids(json.loads(told)) == tokenizer("works in").input_ids
        assert len(json.loads(told)) == count


def test_a_text_is_the_same_tokens_written_in_front(model, tokenizer):
    told = Variant("text", model, tokenizer, prompt=text_prompts(model, tokenizer, ["ada lives in london"])[0])
    front = encode(tokenizer, "ada lives in london")
    written = Variant("dense", model, tokenizer).logits([[*front, *row] for row in ROWS])
    torch.testing.assert_close(told.logits(ROWS), written, rtol=1e-5, atol=2e-5)
    assert tokens_of(tokenizer, "ada lives in london") == ["ada", "lives", "in", "lon", "##don"]


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
