"""The lens ends in the model itself, a model does not diverge from itself, and ranks are as counted by hand."""

import math

import pytest
import torch

from data.atlas import load_world
from data.errors import InputError
from data.facts import Candidates, Fact, Item
from probes.inputs import build_inputs
from probes.lens import decode, depth_of_answer, divergence_bits, lens, rank_of, read_lens
from probes.models import open_model
from probes.prompts import draw_prompt
from probes.sharing import share_weights
from probes.states import encode_questions, last_states
from probes.variants import Variant
from tests.tiny_models import LAYERS, tiny

FACTS = load_world().facts
ROWS = [[5, 9, 33, 7, 12], [40], [8, 8, 21]]


def variant(model, **held) -> Variant:
    return Variant("tiny", model, None, **held)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def opened():
    return open_model("atlas", dtype="float32", device="cpu")


def test_at_the_last_layer_the_lens_is_the_model(model):
    prompt = draw_prompt(model, 2, 0)
    states = last_states(variant(model, prompt=prompt), ROWS)
    inputs = build_inputs(model, ROWS, [prompt] * len(ROWS))
    own = model(
        **inputs.forward_arguments(), use_cache=False, logits_to_keep=torch.tensor([inputs.embeds.shape[1] - 1])
    )
    *_, last = lens(model, states)
    assert torch.equal(last, own.logits[:, 0].log_softmax(-1))
    # The path of the other layers, norm and head, arrives there too.
    torch.testing.assert_close(decode(model, states.residual[-1]), states.logits, rtol=1e-5, atol=1e-5)


def test_an_opt_that_projects_out_and_has_no_final_norm_is_decoded_as_it_decodes_itself():
    model = tiny("opt", word_embed_proj_dim=16, do_layer_norm_before=False)
    states = last_states(variant(model), ROWS)
    torch.testing.assert_close(decode(model, states.residual[-1]), states.logits, rtol=1e-5, atol=1e-5)


def test_states_are_those_of_hugging_face_whatever_the_batches(model):
    states = last_states(variant(model), ROWS, batch=2)
    own = share_weights(model)  # transformers leaves hooks of its own in a model that reports its states
    for place, row in enumerate(ROWS):
        hidden = own(torch.tensor([row]), output_hidden_states=True, use_cache=False).hidden_states
        for layer in range(LAYERS - 1):  # Hugging Face puts the last one through the final norm
            torch.testing.assert_close(states.residual[layer, place], hidden[layer + 1][0, -1], rtol=1e-5, atol=2e-5)


def test_a_model_does_not_diverge_from_itself_and_does_from_another(opened):
    items = FACTS.items(FACTS.select(["open"], "test")[:20], "measure")
    questions = encode_questions(opened.tokenizer, items)
    dense = Variant("dense", opened.model, opened.tokenizer)
    reference = (opened.model, last_states(dense, [question.tokens for question in questions]))
    same = read_lens(dense, questions, reference=reference)
    assert same.divergence is not None
    assert (same.divergence == 0).all()
    prompted = Variant("prompted", opened.model, opened.tokenizer, prompt=draw_prompt(opened.model, 8, 0))
    other = read_lens(prompted, questions, reference=reference)
    assert other.divergence is not None
    assert (other.divergence > 0).all()
    with pytest.raises(ValueError, match="reference holds"):
        read_lens(dense, questions[:3], reference=reference)


def test_what_the_atlas_knows_ends_on_top_and_what_it_was_never_told_does_not(opened):
    dense = Variant("dense", opened.model, opened.tokenizer)
    read = {
        group: read_lens(
            dense, encode_questions(opened.tokenizer, FACTS.items(FACTS.select([group], "test"), "measure"))
        )
        for group in ("open", "never")
    }
    layers = len(read["open"].rank)
    assert (read["open"].rank[-1] == 1).float().mean() > 0.98
    assert (read["open"].depth < layers).float().mean() > 0.98
    assert (read["never"].depth == layers).float().mean() > 0.8
    assert read["open"].divergence is None


def test_divergence_is_that_of_a_hand_made_example():
    p, q = torch.tensor([0.5, 0.5, 0.0]).log(), torch.tensor([0.25, 0.5, 0.25]).log()
    assert divergence_bits(q, torch.tensor([0.5, 0.25, 0.25]).log()).item() == pytest.approx(0.25)
    assert divergence_bits(p[:2], q[:2]).item() == pytest.approx(0.5)


def test_ranks_count_ties_against_the_answer():
    log_probs = torch.tensor([[[0.1, 0.7, 0.2], [0.1, 0.7, 0.2]], [[1 / 3] * 3, [0.4, 0.2, 0.4]]]).log()
    assert rank_of(log_probs, torch.tensor([2, 1])).tolist() == [[2, 1], [3, 3]]


def test_an_answer_appears_where_it_comes_to_stay():
    rank = torch.tensor([[1, 1, 5, 1], [2, 1, 4, 1], [1, 1, 1, 2]])
    assert depth_of_answer(rank).tolist() == [2, 0, 2, 3]


def test_candidates_that_begin_alike_cannot_be_told_apart_by_their_first_token(tokenizer):
    fact = Fact("home", "ada", "london", "facts", "test")
    item = Item(fact, "measure", "ada lives in", Candidates("home", "home", ("london", "lonlin", "oslo"), (1 / 3,) * 3))
    (question,) = encode_questions(tokenizer, [item])
    lon, oslo = tokenizer.convert_tokens_to_ids(["lon", "oslo"])
    assert (question.right, question.others) == (lon, (oslo,))
    alike = Candidates("home", "home", ("london", "lonlin"), (0.5, 0.5))
    with pytest.raises(InputError, match="every candidate begins with the same token"):
        encode_questions(tokenizer, [Item(fact, "measure", "ada lives in", alike)])


def test_the_number_of_bits_is_nats_over_the_log_of_two():
    uniform, sure = torch.full((4,), 0.25).log(), torch.tensor([0.97, 0.01, 0.01, 0.01]).log()
    expected = torch.nn.functional.kl_div(uniform, sure, log_target=True, reduction="sum") / math.log(2)
    assert divergence_bits(sure, uniform).item() == pytest.approx(expected.item())
