"""What a row scores never depends on the rows beside it: any neighbours, prompts, windows and rotary tables."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError
from probes.continuations import continue_contexts, score_pairs
from probes.idp import PromptBank
from probes.inputs import longest_content
from probes.prefix_tuning import TunedPrefix, draw_prefix
from probes.prompts import draw_prompt
from probes.selection.attention import AttentionSelector, Selector
from probes.selection.base import PromptSelector
from probes.selection.fixed import FixedSelector
from probes.selection.outputs import OutputSelector
from probes.tuning import TuningRow, token_loss
from probes.variants import Variant
from tests.tiny_models import POSITIONS, TINY_TYPES, VOCABULARY, tiny

WINDOW = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 0}
LONGROPE = {"rope_type": "longrope", "factor": 2.0, "rope_theta": 1e4, "original_max_position_embeddings": 32}
LONGROPE |= {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in TINY_TYPES} | {
    "window": ("qwen2", WINDOW),
    "window in some layers": ("qwen2", WINDOW | {"max_window_layers": 1}),
    "longrope": ("llama", {"rope_parameters": LONGROPE}),
    "dynamic": ("llama", {"rope_parameters": DYNAMIC}),
}
CLOSE = 2e-5
"""Nats: rounding of fp32 between batches of another width."""
token = st.integers(3, VOCABULARY - 1)
row = st.lists(token, min_size=1, max_size=14).map(tuple)
pair = st.tuples(row, st.lists(token, min_size=1, max_size=4).map(tuple))
few = settings(max_examples=12, deadline=None)


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    kind, told = MODELS[request.param]
    return tiny(kind, **told).requires_grad_(False)


def reading(model, **behind) -> Variant:
    """A variant that is asked in tokens alone."""
    return Variant("v", model, None, **behind)  # type: ignore[arg-type]


def variants_of(model):
    """The same model behind nothing, a prompt, a bank of which one prompt is kept, and a prefix."""
    prompts = [draw_prompt(model, length, seed) for seed, length in enumerate((5, 3))]
    kept = PromptBank(model, prompts, FixedSelector(2, 1))
    return {
        "nothing": (reading(model), None, 0),
        "prompt": (reading(model, prompt=prompts[0]), prompts[0], 0),
        "bank": (reading(model, bank=kept), prompts[1], 2),
        "prefix": (reading(model, prefix=TunedPrefix(draw_prefix(model, 4, 0), model)), None, 0),
    }


def plain(model, prompt, first, context, tail):
    """What transformers alone says of one row: embeddings, explicit positions, one pass, nothing beside it."""
    ids = torch.tensor([context + tail])
    embeds = model.get_input_embeddings()(ids)
    if prompt is not None:
        embeds = torch.cat([prompt[None], embeds], dim=1)
    positions = torch.arange(first, first + embeds.shape[1])[None]
    log_probs = model(inputs_embeds=embeds, position_ids=positions).logits[0].log_softmax(-1)
    last = embeds.shape[1] - len(tail) - 1
    return float(sum(log_probs[last + place, one] for place, one in enumerate(tail)))


@pytest.mark.parametrize("behind", ["nothing", "prompt", "bank", "prefix"])
def test_a_row_scores_what_it_scores_alone(model, behind):
    variant, prompt, first = variants_of(model)[behind]

    @few
    @given(pair, st.lists(pair, max_size=5), st.randoms(use_true_random=False))
    def check(own, others, random):
        pairs = [own, *others]
        random.shuffle(pairs)
        beside = score_pairs(variant, pairs, batch=len(pairs))[pairs.index(own)].log_prob
        alone = score_pairs(variant, [own], batch=1)[0].log_prob
        cached = continue_contexts(variant, [one for one, _ in pairs], [[tail] for _, tail in pairs])
        assert beside == pytest.approx(alone, abs=CLOSE)
        assert cached.log_probs[pairs.index(own)][0] == pytest.approx(alone, abs=CLOSE)
        if behind != "prefix":  # plain transformers has no place for one
            assert alone == pytest.approx(plain(model, prompt, first, *own), abs=CLOSE)

    check()


@few
@given(row, st.lists(row, min_size=1, max_size=4))
@pytest.mark.parametrize("behind", ["nothing", "prompt", "bank", "prefix"])
def test_a_row_goes_on_as_it_does_alone(model, behind, own, others):
    variant = variants_of(model)[behind][0]
    assert variant.generate_rows([own, *others], 3)[0] == variant.generate_rows([own], 3)[0]


@few
@given(row, st.lists(row, min_size=1, max_size=4))
def test_a_selector_gives_a_row_what_it_gives_it_alone(model, own, others):
    prompts = [draw_prompt(model, length, seed) for seed, length in enumerate((5, 3))]
    selectors: list[PromptSelector] = [OutputSelector(model, prompts, "likelihood")]
    selectors += [AttentionSelector(model, prompts, Selector(layers, softmax=softmax))
                  for layers in ("first", "all") for softmax in ("joint", "separate")]  # fmt: skip
    for selector in selectors:
        assert torch.allclose(selector.scores([own, *others])[0], selector.scores([own])[0], atol=CLOSE)


@few
@given(row)
def test_attention_on_one_prompt_is_that_of_a_joint_pass(model, own):
    prompt = draw_prompt(model, 5, seed=0)
    found = AttentionSelector(model, [prompt], Selector("all", per_token=False)).scores([own])
    embeds = torch.cat([prompt[None], model.get_input_embeddings()(torch.tensor([own]))], dim=1)
    told = model(inputs_embeds=embeds, output_attentions=True).attentions
    mass = torch.stack([pattern[0, :, 5:, :5].sum(-1).mean() for pattern in told]).mean()
    assert float(found[0, 0]) == pytest.approx(float(mass), abs=CLOSE)


@few
@given(st.lists(row.filter(lambda one: len(one) > 1), min_size=2, max_size=4))
def test_the_loss_of_a_batch_is_that_of_its_rows(model, rows):
    prompt = draw_prompt(model, 5, seed=0)
    told = [TuningRow(one, 1) for one in rows]
    counted = torch.tensor([len(one) - 1.0 for one in rows])
    alone = torch.stack([token_loss(model, [one], prompt) for one in told])
    assert torch.allclose(token_loss(model, told, prompt), (alone * counted).sum() / counted.sum(), atol=CLOSE)


def test_a_window_within_reach_does_something_here():
    windowed, whole = (tiny("qwen2", **told) for told in (WINDOW, {}))
    prompt = draw_prompt(whole, 5, seed=0)
    rows = [tuple(range(10, 20))]
    seen = [reading(one, prompt=prompt).logits(rows) for one in (windowed, whole)]
    assert (seen[0] - seen[1]).abs().max() > 0.1


def test_longrope_rows_end_where_its_short_table_does():
    model = tiny("llama", rope_parameters=LONGROPE)
    assert (longest_content(model), longest_content(tiny("llama"))) == (32, POSITIONS)
    with pytest.raises(InputError, match=r"32 positions .past them a longrope model"):
        reading(model).logits([list(range(3, 36))])
