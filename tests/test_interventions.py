"""Patching a model with itself changes nothing, with another at the end makes it the other, and sees planted damage."""

import copy

import pytest
import torch

from data.atlas import load_world
from data.errors import InputError
from data.facts import Candidates, Fact, Item
from probes import interventions
from probes.capture import CaptureError, Recorder
from probes.compression.magnitude import prune_by_magnitude
from probes.families import family_of
from probes.interventions import (
    Place,
    changing,
    content_positions,
    donors,
    log_odds,
    output_projection,
    patched_logits,
    restore,
    states_at,
)
from probes.models import open_model
from probes.prompts import draw_prompt
from probes.sites import Kind, Site, sites_of
from probes.specs.compression import Promise
from probes.states import Question, encode_questions
from probes.variants import Variant
from tests.patching import KINDS, places_of
from tests.tiny_models import HEADS, LAYERS, TINY_TYPES, WIDTH, tiny

FACTS = load_world().facts
ROWS = [[5, 9, 33, 7, 12], [40], [8, 8, 21]]


def variant(model, **held) -> Variant:
    return Variant("tiny", model, None, **held)  # type: ignore[arg-type]


def test_a_model_patched_with_its_own_states_is_itself_to_the_last_bit(model):
    own = variant(model, prompt=draw_prompt(model, 2, 0))
    states, logits = states_at(own, ROWS, places_of(model))
    for place in places_of(model):
        assert torch.equal(patched_logits(own, ROWS, {place: states[place]}, content_positions(ROWS)), logits)
    assert torch.equal(patched_logits(own, ROWS, states, content_positions(ROWS)), logits)


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_the_last_residual_of_another_model_gives_its_logits_whatever_stands_before(model_type):
    """The two share norm and head alone: all other weights differ, and one has a prompt besides."""
    source, other = tiny(model_type, seed=0), tiny(model_type, seed=1)
    for part in (source.get_submodule(family_of(source).final_norm), source.get_output_embeddings()):
        name = next(name for name, module in source.named_modules() if module is part)
        other.get_submodule(name).load_state_dict(part.state_dict())
    target = variant(other, prompt=draw_prompt(other, 3, 0))
    place = Place(Site(LAYERS - 1, Kind.RESID_POST))
    states, logits = states_at(variant(source), ROWS, [place])
    torch.testing.assert_close(patched_logits(target, ROWS, states, content_positions(ROWS)), logits)
    assert (target.logits(ROWS) - logits).abs().max() > 0.1


def test_a_patch_stands_at_its_place_and_positions_and_nowhere_else(model):
    own, positions = variant(model, prompt=draw_prompt(model, 2, 0)), content_positions(ROWS, last=2)
    inputs = own.inputs(ROWS)
    columns = torch.zeros_like(inputs.content)
    columns[:, -positions.shape[1] :] = positions
    for site in sites_of(model, KINDS):
        before: dict[Site, torch.Tensor] = {}
        after: dict[Site, torch.Tensor] = {}
        with Recorder(model, backend="hooks") as recorder:
            recorder.stream(inputs, [site], before.__setitem__)

            def mark(tensor: torch.Tensor) -> torch.Tensor:
                return torch.where(columns[..., None], 7.0, tensor.view(*columns.shape, -1)).view(tensor.shape)

            with changing(model, {Place(site): mark}):
                recorder.stream(inputs, [site], after.__setitem__)
        assert (after[site][columns] == 7).all()
        assert torch.equal(after[site][~columns], before[site][~columns])


def test_heads_together_are_the_attention(model):
    """What all heads hold, projected, is attn_out; and a head's patch moves its own share alone."""
    own = variant(model)
    heads = [Place(Site(0, Kind.ATTN_OUT), head) for head in range(HEADS)]
    whole = Place(Site(0, Kind.ATTN_OUT))
    states, _ = states_at(own, ROWS, [*heads, whole])
    assert states[heads[0]].shape == (3, 5, WIDTH // HEADS)
    projected = output_projection(model, 0)(torch.cat([states[head] for head in heads], dim=-1))
    torch.testing.assert_close(projected, states[whole])
    with changing(model, {heads[1]: lambda tensor: tensor + 1}):
        moved, _ = states_at(own, ROWS, heads)
    assert torch.equal(moved[heads[0]], states[heads[0]])
    assert torch.equal(moved[heads[1]], states[heads[1]] + 1)


def hooks_in(model) -> int:
    return sum(len(one._forward_pre_hooks) + len(one._forward_hooks) for one in model.modules())


def test_everything_is_as_before_afterwards_even_after_an_error(model):
    own = variant(model)
    before, hooks = own.logits(ROWS), hooks_in(model)
    with pytest.raises(ZeroDivisionError), changing(model, {place: lambda tensor: None for place in places_of(model)}):
        _ = 1 / 0
    assert torch.equal(own.logits(ROWS), before)
    assert hooks_in(model) == hooks


def test_what_cannot_be_patched_is_refused_and_a_silent_hook_stops():
    model = tiny("llama")
    with pytest.raises(InputError, match=r"0\.pattern cannot be patched"):
        Place(Site(0, Kind.PATTERN))
    for kind in (Kind.QUERY, Kind.HEAD_OUT, Kind.RESID_MID, Kind.LOGITS):
        with pytest.raises(InputError, match=rf"0\.{kind} cannot be patched"):
            Place(Site(0, kind))
    with pytest.raises(InputError, match=r"1\.mlp_out\.0 cannot be patched"):
        Place(Site(1, Kind.MLP_OUT), 0)
    for place in (Place(Site(LAYERS, Kind.RESID_POST)), Place(Site(0, Kind.ATTN_OUT), HEADS)):
        with pytest.raises(InputError, match="is not in this model"):
            states_at(variant(model), ROWS, [place])
    place = Place(Site(0, Kind.RESID_POST))
    with pytest.raises(CaptureError, match="fired 0 times"), changing(model, {place: lambda tensor: None}):
        pass
    states, _ = states_at(variant(model), ROWS, [place])
    with pytest.raises(ValueError, match="is not content"):
        patched_logits(variant(model), ROWS, states, torch.ones(3, 5, dtype=torch.bool))


def asked(subject: str, right: int, length: int, relation: str = "home") -> Question:
    fact = Fact(relation, subject, str(right), "open", "test")
    item = Item(fact, "measure", subject, Candidates(relation, relation, ("1", "2", "3"), (1 / 3,) * 3))
    return Question(item, tuple(range(length)), right, tuple(sorted({1, 2, 3} - {right})))


def test_log_odds_are_those_of_a_hand_made_example():
    logits = torch.tensor([[9.0, 0.5, 0.2, 0.3]]).log()
    assert log_odds(logits, [asked("ada", 1, 2)]).item() == pytest.approx(0, abs=1e-6)  # .5 against .2 + .3
    assert log_odds(logits, [asked("ada", 2, 2)]).exp().item() == pytest.approx(0.25)


def test_a_placebo_is_of_the_same_relation_of_another_person_with_another_answer_and_long_enough():
    questions = [asked("ada", 1, 4), asked("bo", 1, 4), asked("cy", 2, 4), asked("cy", 3, 2), asked("di", 2, 5, "job")]
    drawn = [donors(questions[:4], torch.tensor([4, 4, 1, 1]), seed) for seed in range(20)]
    assert [{one[place] for one in drawn} for place in range(4)] == [{2}, {2}, {0, 1}, {0, 1}]
    with pytest.raises(InputError, match="'job/di/measure' has no other fact"):
        donors(questions, torch.ones(5, dtype=torch.long), 0)
    with pytest.raises(InputError, match="answered otherwise and at least 5 tokens long"):
        donors(questions[:4], torch.full((4,), 5), 0)


@pytest.fixture(scope="module")
def damaged():
    """The atlas, and the atlas with the MLP and attention of one layer pruned by magnitude to nine tenths."""
    opened = open_model("atlas", dtype="float32", device="cpu")
    names = [name for name in family_of(opened.model).linears_of(opened.model) if name.startswith("model.layers.1.")]
    pruned = copy.deepcopy(opened.model)
    prune_by_magnitude(pruned, names, Promise(sparsity=0.9))
    questions = encode_questions(opened.tokenizer, FACTS.items(FACTS.select(["open"], "test"), "measure"))
    return (
        *(Variant(name, one, opened.tokenizer) for name, one in (("dense", opened.model), ("pruned", pruned))),
        questions,
    )


def test_the_state_that_damage_spoilt_restores_the_answer_and_placebos_do_not(damaged):
    dense, pruned, questions = damaged
    place = Place(Site(1, Kind.RESID_POST))
    found = restore(dense, pruned, questions, [place], seed=0)
    lost = (found.target < 0) & (found.source > 0)
    assert lost.sum() >= 20
    right = {arm: (odds[0] > 0)[lost].double().mean().item() for arm, odds in found.arms.items()}
    assert right["patched"] == 1  # nothing after that layer is damaged
    torch.testing.assert_close(found.arms["patched"][0], found.source)
    assert right["other fact"] < 0.1
    moved = {arm: odds[0][lost].mean().item() for arm, odds in found.restored.items()}
    assert moved["noise"] < moved["patched"] / 2


def test_noise_moves_every_state_as_far_as_the_patch_does_and_elsewhere(damaged, monkeypatch):
    dense, pruned, questions = damaged
    place, given = Place(Site(1, Kind.RESID_POST)), []

    def keep(variant, rows, patches, positions):
        given.append(patches[place])
        return patched_logits(variant, rows, patches, positions)

    monkeypatch.setattr(interventions, "patched_logits", keep)
    restore(dense, pruned, questions, [place], seed=0)
    patched, _, noise = given
    own = states_at(pruned, [question.tokens for question in questions], [place])[0][place]
    there = content_positions([question.tokens for question in questions])
    pushed, drawn = (patched - own)[there], (noise - own)[there]
    torch.testing.assert_close(drawn.norm(dim=-1), pushed.norm(dim=-1), rtol=1e-4, atol=1e-5)
    assert torch.nn.functional.cosine_similarity(drawn, pushed, dim=-1).abs().mean() < 0.2
