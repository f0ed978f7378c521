"""Smaller prompts: the levels and zeros that were asked for, an error of half a step at most, and bytes as stored."""

import pytest
import torch

from data.errors import InputError
from probes.small_prompts import keep_largest, load_small, quantise, save_small


@pytest.fixture(params=[(8, 128), (3, 33), (1, 7)])
def vectors(request):
    return torch.randn(request.param, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_each_vector_has_the_levels_of_its_bits_and_is_off_by_half_a_step_at_most(vectors, bits, tmp_path):
    packed = quantise(vectors, bits)
    save_small(packed, tmp_path / "small", shape=tuple(vectors.shape), bits=bits)
    read = load_small(tmp_path / "small", torch.float32)
    assert read.shape == vectors.shape
    assert max(len(row.unique()) for row in read) <= 2**bits
    if bits == 2 and vectors.shape[1] > 30:
        assert min(len(row.unique()) for row in read) == 4  # every level is used
    step = packed["scale"].float()
    # Half a step, and the rounding of scale and minimum to half precision.
    assert ((read - vectors).abs() <= step / 2 + 2e-3 * vectors.abs().max()).all()
    count, width = vectors.shape
    assert packed["codes"].numel() == count * -(-width * bits // 8)
    assert sum(one.numel() * one.element_size() for one in packed.values()) == count * (-(-width * bits // 8) + 4)


def test_more_bits_are_nearer(vectors, tmp_path):
    errors = []
    for bits in (2, 4, 8):
        save_small(quantise(vectors, bits), tmp_path / str(bits), shape=tuple(vectors.shape), bits=bits)
        errors.append(float((load_small(tmp_path / str(bits), torch.float32) - vectors).abs().mean()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_a_vector_of_equal_numbers_stays_what_it_is(tmp_path):
    save_small(quantise(torch.full((2, 9), 0.5), 2), tmp_path / "small", shape=(2, 9), bits=2)
    assert torch.equal(load_small(tmp_path / "small", torch.float32), torch.full((2, 9), 0.5))


def test_what_is_too_large_for_a_scale_is_refused():
    with pytest.raises(InputError, match="too large to be quantised"):
        quantise(torch.tensor([[-1e6, 1e6]]), 4)


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.9])
def test_the_largest_numbers_stay_and_the_share_asked_is_zero(vectors, sparsity, tmp_path):
    if round(sparsity * vectors.numel()) == vectors.numel():
        pytest.skip("nothing would be kept of so few")
    packed = keep_largest(vectors, sparsity)
    save_small(packed, tmp_path / "small", shape=tuple(vectors.shape))
    read = load_small(tmp_path / "small", torch.float32)
    assert int((read == 0).sum()) == round(sparsity * vectors.numel())
    kept = read != 0
    assert torch.equal(read[kept], vectors[kept])
    assert vectors[kept].abs().min() >= vectors[~kept].abs().max()
    stored = sum(one.numel() * one.element_size() for one in packed.values())
    assert stored == 4 * int(kept.sum()) + -(-vectors.numel() // 8)


def test_a_sparsity_that_keeps_nothing_is_refused():
    with pytest.raises(InputError, match="keeps none"):
        keep_largest(torch.ones(1, 2), 0.9)
