"""IDP: the choice is the argmax of attention computed by hand, and the chosen pass is the joint pass masked."""

from functools import partial

import pytest
import torch

from probes.idp import PromptBank
from probes.prefix import Prefixes, keys_and_values
from probes.prompts import draw_prompt
from probes.selection.attention import Selector
from probes.variants import Variant
from tests.tiny_models import tiny

ROWS = [[5, 9, 33, 7, 12], [40], [8, 8, 21], [60, 3, 17, 18]]
LENGTHS = (2, 5, 3)
assert_equal = partial(torch.testing.assert_close, rtol=1e-5, atol=2e-5)


def bank_of(model, lengths=LENGTHS):
    return [draw_prompt(model, length, seed, "gaussian") for seed, length in enumerate(lengths)]


def joint_by_hand(model, row, bank, visible=None):
    """One row behind the whole bank, no padding: embeddings, positions and mask written out place by place."""
    longest = max(len(prompt) for prompt in bank)
    owner: list[int] = []
    positions: list[int] = []
    for index, prompt in enumerate(bank):
        owner += [index] * len(prompt)
        positions += range(longest - len(prompt), longest)
    owner += [-1] * len(row)
    positions += range(longest, longest + len(row))
    seen = torch.zeros(len(owner), len(owner), dtype=torch.bool)
    for query in range(len(owner)):
        for key in range(query + 1):
            shown = visible is None or owner[key] in (visible, -1)
            seen[query, key] = query == key or owner[query] == owner[key] or (owner[query] == -1 and shown)
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    embeds = torch.cat([*bank, model.get_input_embeddings()(torch.tensor(row))])
    with torch.no_grad():
        output = model(
            inputs_embeds=embeds[None],
            attention_mask=mask[None, None],
            position_ids=torch.tensor([positions]),
            output_attentions=True,
            use_cache=True,
        )
    return output, owner


def scores_by_hand(model, row, bank, selector):
    output, owner = joint_by_hand(model, row, bank)
    layers = output.attentions if selector.layers == "all" else output.attentions[:1]
    queries = range(len(owner) - len(row), len(owner)) if selector.queries == "all" else [len(owner) - 1]
    scores = []
    for index, prompt in enumerate(bank):
        keys = [place for place, one in enumerate(owner) if one == index]
        rows = [layer[0, head, query, keys].sum() for layer in layers for head in range(4) for query in queries]
        mean = float(torch.stack(rows).mean())
        scores.append(mean / len(prompt) if selector.per_token else mean)
    return scores


@pytest.mark.parametrize("per_token", [True, False])
@pytest.mark.parametrize("queries", ["all", "last"])
@pytest.mark.parametrize("layers", ["first", "all"])
def test_scores_and_choice_are_those_of_the_full_models_pattern(model, layers, queries, per_token):
    selector, prompts = Selector(layers, queries, per_token), bank_of(model)
    bank = PromptBank(model, prompts, selector)
    expected = [scores_by_hand(model, row, prompts, selector) for row in ROWS]
    assert_equal(bank.scores(ROWS), torch.tensor(expected))
    assert bank.choose(ROWS).tolist() == [max(range(3), key=row.__getitem__) for row in expected]


def test_the_first_layer_alone_chooses_otherwise_than_all():
    model = tiny("llama")
    prompts = bank_of(model)
    first, every = (PromptBank(model, prompts, Selector(layers=layers)).scores(ROWS) for layers in ("first", "all"))
    assert (first - every).abs().max() > 1e-3


def test_a_long_prompt_has_no_head_start_per_token():
    model = tiny("llama")
    one = draw_prompt(model, 1, 0)
    prompts = [one, one.repeat(6, 1)]
    rows = [[5, 9, 33], [40, 7]]
    mass = PromptBank(model, prompts, Selector(per_token=False))
    assert mass.choose(rows).tolist() == [1, 1]
    scores = PromptBank(model, prompts, Selector(per_token=True)).scores(rows)
    assert_equal(scores[:, 1] * 6, mass.scores(rows)[:, 1])
    assert_equal(scores[:, 0], mass.scores(rows)[:, 0])


def test_the_banks_keys_and_values_are_those_of_the_joint_pass(model):
    """Constants indeed: the same whatever content follows, and for each prompt whatever stands beside it."""
    prompts = bank_of(model)
    longest = max(LENGTHS)
    cache, seen = Prefixes(model, prompts).side_by_side(2)
    own = [index * longest + slot for index, n in enumerate(LENGTHS) for slot in range(longest - n, longest)]
    assert seen.nonzero()[:, 0].tolist() == own
    for row in ROWS:
        output, owner = joint_by_hand(model, row, prompts)
        shared = sum(one >= 0 for one in owner)
        for ours, theirs in zip(keys_and_values(cache), keys_and_values(output.past_key_values), strict=True):
            for mine, joint in zip(ours, theirs, strict=True):
                assert_equal(mine[0, :, own], joint[0, :, :shared])
                assert_equal(mine[1, :, own], joint[0, :, :shared])


def test_the_chosen_pass_is_the_joint_pass_with_the_others_masked(model):
    prompts = bank_of(model)
    variant = Variant("idp", model, None, bank=PromptBank(model, prompts, Selector()))  # type: ignore[arg-type]
    choice = variant.choose(ROWS)
    assert choice is not None
    inputs = variant.inputs(ROWS, choice)
    with torch.no_grad():
        logits = model(**inputs.forward_arguments(), use_cache=False).logits
    read = variant.read(ROWS, choice).logits
    for index, row in enumerate(ROWS):
        joint, _ = joint_by_hand(model, row, prompts, visible=int(choice.kept[index]))
        assert_equal(read[index], joint.logits[0, -1])
        assert_equal(logits[index, inputs.content[index]], joint.logits[0, -len(row) :])
        assert int(inputs.position_ids[index][inputs.content[index]][0]) == max(LENGTHS)


def test_every_prompt_can_be_the_chosen_one(model):
    """A prompt of the content's own first-layer keys, scaled up, is looked at by some content and not by other."""
    prompts = [draw_prompt(model, 3, seed, "gaussian") * 3 for seed in range(4)]
    rows = [[token, (7 * token) % 60 + 4] for token in range(4, 60)]
    assert len(set(PromptBank(model, prompts, Selector()).choose(rows).tolist())) >= 2


def test_the_order_of_the_bank_does_not_matter(model):
    prompts = bank_of(model)
    order = [2, 0, 1]
    straight = PromptBank(model, prompts, Selector())
    turned = PromptBank(model, [prompts[place] for place in order], Selector())
    assert_equal(turned.scores(ROWS), straight.scores(ROWS)[:, order])
    assert [order[place] for place in turned.choose(ROWS).tolist()] == straight.choose(ROWS).tolist()


def test_a_batch_chooses_as_its_rows_do(model):
    bank = PromptBank(model, bank_of(model), Selector())
    assert_equal(bank.scores(ROWS), torch.cat([bank.scores([row]) for row in ROWS]))


def test_choosing_leaves_the_model_whole(model):
    before = str(model), str(model.config)
    bank = PromptBank(model, bank_of(model), Selector())
    bank.choose(ROWS)
    assert (str(model), str(model.config)) == before
    assert bank.longest == max(LENGTHS)


def test_an_attention_without_patterns_is_refused():
    model = tiny("llama")
    model.set_attn_implementation("sdpa")
    with pytest.raises(RuntimeError, match="eager"):
        PromptBank(model, bank_of(model), Selector()).scores(ROWS)
