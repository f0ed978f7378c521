"""Variants: a repair moves itself and nothing of its parent, and one that moves nothing is stopped."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from probes.idp import PromptBank
from probes.lora import adapted, add_lora, load_lora, targeted_layers
from probes.prompts import draw_prompt, load_prompts, save_prompts
from probes.selection.attention import Selector
from probes.sharing import share_weights
from probes.specs.repairs.placebo import PLACEBO_KINDS
from probes.tuning import TuningRow, tune
from probes.variants import Variant, require_difference
from tests.compressing import digest
from tests.tiny_models import TINY_TYPES, tiny

ROWS = [[5, 9, 33, 7, 12], [40], [8, 8, 21]]
TUNING = [TuningRow((5, 6, 7, 40), 3), TuningRow((9, 6, 41), 2)]
BUDGET: dict[str, Any] = {"steps": 3, "batch": 2, "text_batch": 0, "learning_rate": 0.05, "seed": 0}


def variant(name, model, **held) -> Variant:
    return Variant(name, model, None, **held)  # type: ignore[arg-type]


def tuned_lora(model, seed=0):
    lora = add_lora(model, rank=2, targets="all", seed=seed)
    moved = [one for one in lora.parameters() if one.requires_grad]
    tune(adapted(lora), moved, TUNING, [], prompt=None, **BUDGET)
    return lora


def test_an_untouched_adapter_equals_its_parent_bit_for_bit_and_is_stopped(model):
    dense = variant("dense", model)
    untouched = variant("dense + lora-r2", adapted(add_lora(model, rank=2, targets="all", seed=0)))
    assert torch.equal(untouched.logits(ROWS), dense.logits(ROWS))
    with pytest.raises(RuntimeError, match=r"'dense \+ lora-r2' does not differ from its parent 'dense'"):
        require_difference(untouched, dense, ROWS)
    with pytest.raises(RuntimeError, match="does not differ"):
        require_difference(dense, dense, ROWS)


def test_a_tuned_adapter_differs_and_equals_its_parent_when_off(model):
    dense, lora = variant("dense", model), tuned_lora(model)
    tuned = variant("dense + lora-r2", adapted(lora))
    expected = (tuned.logits(ROWS) - dense.logits(ROWS)).abs().max()
    assert require_difference(tuned, dense, ROWS) == expected > 1e-3
    with lora.disable_adapter():
        assert torch.equal(tuned.logits(ROWS), dense.logits(ROWS))


def test_a_difference_in_one_row_alone_is_seen():
    parent, moved = tiny("llama"), tiny("llama")
    with torch.no_grad():
        moved.model.embed_tokens.weight[40] += 1
    assert require_difference(variant("a", moved), variant("b", parent), ROWS) > 1e-3
    with pytest.raises(RuntimeError, match="does not differ"):
        require_difference(variant("a", moved), variant("b", parent), [ROWS[0], ROWS[2]])


def test_repairs_leave_the_parents_bytes_as_they_are(model):
    before, blocks, config = digest(model), str(model), str(model.config)
    tuned_lora(model)
    prompt = torch.nn.Parameter(draw_prompt(model, 2, seed=0))
    tune(model, [prompt], TUNING, [], prompt=prompt, **BUDGET)
    bank = PromptBank(model, [prompt.detach(), draw_prompt(model, 3, 1)], Selector())
    variant("idp", model, bank=bank).logits(ROWS)
    assert digest(model) == before
    assert (str(model), str(model.config)) == (blocks, config)


def test_weights_are_shared_not_copied(model):
    addresses = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    shared = share_weights(model)
    assert shared is not model
    assert {one.data_ptr() for one in (*shared.parameters(), *shared.buffers())} == addresses
    lora = add_lora(model, rank=2, targets="all", seed=0)
    own = {name: one.data_ptr() for name, one in lora.named_parameters() if "lora_" in name}
    others = {one.data_ptr() for name, one in lora.named_parameters() if "lora_" not in name}
    assert own
    assert not set(own.values()) & addresses
    assert others <= addresses
    assert all(one.requires_grad == ("lora_" in name) for name, one in lora.named_parameters())


def test_a_module_replaced_in_the_copy_stays_in_the_original(model):
    shared = share_weights(model)
    shared.set_input_embeddings(torch.nn.Embedding(3, 4))
    shared.config.vocab_size = 3
    assert model.get_input_embeddings().weight.shape[0] == model.config.vocab_size == 64


def test_adapters_stand_where_they_are_said_to(model):
    attention, everything = (set(targeted_layers(model, targets)) for targets in ("attention", "all"))
    parents = {}
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear | Conv1D) and part is not model.get_output_embeddings():
            parents[name] = type(model.get_submodule(name.rpartition(".")[0])).__name__
    assert everything == set(parents)
    assert attention == {name for name, parent in parents.items() if parent.endswith("Attention")}
    assert attention < everything
    lora = add_lora(model, rank=2, targets="attention", seed=0)
    holders = {name for name, part in adapted(lora).named_modules() if hasattr(part, "lora_A")}
    assert holders == attention


def test_an_adapters_start_follows_its_seed_and_leaves_the_global_one():
    model = tiny("llama")

    def drawn(seed):
        return torch.cat([one.flatten() for name, one in add_lora(model, rank=2, targets="all", seed=seed)
                          .named_parameters() if "lora_A" in name])  # fmt: skip

    state = torch.get_rng_state()
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_a_saved_adapter_speaks_as_before(model_type, tmp_path):
    model = tiny(model_type).requires_grad_(False)
    lora = tuned_lora(model)
    lora.save_pretrained(tmp_path)
    assert not [*tmp_path.glob("*.bin")]
    again = variant("again", adapted(load_lora(model, tmp_path)))
    assert torch.equal(again.logits(ROWS), variant("tuned", adapted(lora)).logits(ROWS))


@pytest.mark.parametrize("lengths", [[3], [2, 5, 1], [1] * 12])
def test_saved_prompts_come_back_in_order(lengths, tmp_path):
    prompts = [draw_prompt(tiny("opt"), length, seed) for seed, length in enumerate(lengths)]
    save_prompts(prompts, tmp_path / "prompts.safetensors")
    again = load_prompts(tmp_path / "prompts.safetensors")
    assert len(again) == len(prompts)
    assert all(torch.equal(one, other) for one, other in zip(prompts, again, strict=True))


@pytest.mark.parametrize("kind", PLACEBO_KINDS)
def test_a_placebo_follows_its_seed(model, kind):
    first, again, other = (draw_prompt(model, 4, seed, kind) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    table = model.get_input_embeddings().weight
    places = torch.cdist(first, table).min(dim=1).values
    if kind == "vocabulary":
        assert all((row == table).all(dim=1).any() for row in first)
        assert first.data_ptr() != table.data_ptr()
    else:
        torch.testing.assert_close(first.norm(dim=1), draw_prompt(model, 4, 1).norm(dim=1))
        assert places.min() > 0.1


def test_a_prompt_and_a_bank_at_once_are_refused():
    model = tiny("llama")
    prompt = draw_prompt(model, 2, 0)
    with pytest.raises(ValueError, match="a prompt and a bank"):
        variant("both", model, prompt=prompt, bank=PromptBank(model, [prompt, prompt], Selector()))
