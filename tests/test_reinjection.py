"""Re-injection: the nearest matrix of its rank; at full rank the dense model; the compressed one is left alone."""

from functools import partial

import pytest
import torch

from probes.bake import oriented_weight
from probes.families import family_of
from probes.lora import adapted, load_lora
from probes.reinjection import low_rank, reinject
from probes.variants import Variant
from tests.compressing import digest
from tests.tiny_models import TINY_TYPES, WIDTH, tiny

ROWS = [[5, 9, 33, 7, 12], [40], [8, 8, 21]]
FULL = 2 * WIDTH  # the widest a layer's smaller side gets is WIDTH; beyond it factors are zero
assert_equal = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)


def damaged(dense, model_type):
    """The same model with noise on every linear layer of its blocks, as a compression leaves it."""
    model = tiny(model_type).requires_grad_(False)
    generator = torch.Generator().manual_seed(7)
    for name in family_of(model).linears_of(model):
        weight = oriented_weight(model, name)
        weight += 0.2 * torch.randn(weight.shape, generator=generator)
    assert (logits(model) - logits(dense)).abs().max() > 0.1
    return model


def logits(model):
    return Variant("one", model, None).logits(ROWS)  # type: ignore[arg-type]


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_at_full_rank_it_is_the_dense_model_and_its_parent_stays_as_it_was(model_type, tmp_path):
    dense = tiny(model_type).requires_grad_(False)
    compressed = damaged(dense, model_type)
    before = digest(compressed)
    repaired = reinject(dense, compressed, rank=FULL)
    assert_equal(logits(adapted(repaired)), logits(dense))
    assert digest(compressed) == before
    repaired.save_pretrained(str(tmp_path))
    assert torch.equal(logits(adapted(load_lora(compressed, tmp_path))), logits(adapted(repaired)))


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_every_rank_brings_the_weights_nearer_and_no_further_than_their_singular_values_allow(model_type):
    dense = tiny(model_type).requires_grad_(False)
    compressed = damaged(dense, model_type)
    merged = {rank: adapted(reinject(dense, compressed, rank=rank)).eval() for rank in (1, 8)}
    for name in family_of(dense).linears_of(dense):
        truth = oriented_weight(dense, name)
        tail = torch.linalg.svdvals(truth - oriented_weight(compressed, name)) ** 2
        for rank, model in merged.items():
            layer = model.get_submodule(name)
            added = layer.get_delta_weight("default")
            own = layer.get_base_layer().weight + added
            own = own if own.shape == truth.shape and not family_of(dense).conv1d else own.t()
            assert_equal(((truth - own) ** 2).sum(), tail[rank:].sum())


def test_two_factors_of_equal_size_and_zeros_beyond_the_rank():
    lost = torch.outer(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0, 0.0]))
    up, down = low_rank(lost, 4)
    assert (up.shape, down.shape) == ((2, 4), (4, 3))
    assert_equal(up @ down, lost)
    assert_equal(up.norm(), down.norm())
    assert not up[:, 2:].any()
    assert not down[2:].any()
