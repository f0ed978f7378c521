"""Drift metrics on planted truths, as functions and through the reducer that a study streams past them."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from analysis.comparison import Comparison
from analysis.drift import Reference
from analysis.metrics.cka import debiased_cka, unbiased_hsic
from analysis.metrics.cosine import cosine_and_distance
from analysis.metrics.direction import direction
from analysis.metrics.procrustes import procrustes
from analysis.metrics.registry import measured_in
from analysis.metrics.spearman import ranks
from probes.inputs import Inputs
from probes.sites import Kind, Site

TOKENS, WIDTH = 40, 12
SITE = Site(0, Kind.RESID_POST)


def states(seed: int = 0) -> torch.Tensor:
    return torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed))


def rotation(seed: int = 1) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(seed))).Q


def cka(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float(debiased_cka(unbiased_hsic(ours, theirs)))


def test_a_rotation_and_a_change_of_size_leave_cka_at_one_and_procrustes_at_nought():
    first = states()
    assert cka(2.5 * first @ rotation(), first) == pytest.approx(1, abs=1e-4)
    assert procrustes(2.5 * first @ rotation(), first) == pytest.approx(0, abs=1e-3)
    assert abs(cka(states(5), first)) < 0.3
    assert procrustes(states(5), first) > 0.3


def test_a_quarter_turn_moves_every_state_by_the_root_of_two_of_its_length():
    first = states()
    turned = torch.cat([-first[:, 6:], first[:, :6]], dim=1)  # orthogonal to what it was, as long as it was
    cosine, distance = cosine_and_distance(turned, first)
    torch.testing.assert_close(cosine, torch.ones(TOKENS))
    torch.testing.assert_close(distance, torch.full((TOKENS,), 2**0.5))


def test_a_distance_is_measured_in_the_references_length():
    first = states()
    for factor, expected in ((3.0, 2.0), (0.5, 0.5)):
        cosine, distance = cosine_and_distance(factor * first, first)
        torch.testing.assert_close(distance, torch.full((TOKENS,), expected))
        torch.testing.assert_close(cosine, torch.zeros(TOKENS), atol=1e-6, rtol=0)


def test_hsic_is_the_mean_over_all_fours_of_different_tokens():
    """Song et al. 2012 define it so; eq. 5, which is computed, is the same in a closed form."""
    ours, theirs = states(0)[:6].double() + 0.7, states(1)[:6].double() + ours_share(states(0)[:6].double())
    first, second = ours @ ours.T, theirs @ theirs.T
    fours = [
        first[i, j] * second[i, j] + first[i, j] * second[q, r] - 2 * first[i, j] * second[i, q]
        for i, j, q, r in itertools.permutations(range(6), 4)
    ]
    assert float(unbiased_hsic(ours, theirs)[0]) == pytest.approx(float(torch.stack(fours).mean()), rel=1e-9)


def ours_share(ours: torch.Tensor) -> torch.Tensor:
    """What makes the one set depend on the other, and its tokens lie unevenly."""
    return ours * torch.linspace(0.2, 2.0, len(ours), dtype=torch.float64)[:, None]


def test_values_that_are_equal_share_their_rank():
    tied = (3 * states()).round()
    ties = stats.rankdata(tied.numpy(), axis=1)
    assert (ties % 1 != 0).any(), "some share a rank between two"
    np.testing.assert_array_equal(ranks(tied).numpy(), 2 * ties - 1)  # twice the rank, counted from zero, and whole


def compared(variant: torch.Tensor, dense: torch.Tensor, parent: torch.Tensor) -> Comparison:
    """One sequence streamed past both references."""
    ones = torch.ones(1, TOKENS, dtype=torch.long)
    inputs = Inputs(torch.zeros(1, TOKENS, 1), ones, ones.cumsum(1) - 1, ones.bool())
    held = {"dense": dense, "parent": parent}
    references = {name: Reference(inputs.content, {SITE: one[None]}) for name, one in held.items()}
    found = Comparison(references, inputs, measured_in(("basic", "robust", "geometry", "direction")))
    found(SITE, variant[None])
    return found


def test_a_planted_movement_back_to_dense_is_found_through_the_reducer_and_another_is_not():
    dense, parent = states(0), states(2)
    back = parent + 0.3 * (dense - parent) + 0.005 * states(3)
    assert compared(back, dense, parent).residual["dense", SITE, "direction"].item() > 0.99
    away = parent - 0.3 * (dense - parent)
    assert direction(away, parent, dense) == pytest.approx(-1, abs=1e-5)
    aside = parent + 0.3 * states(4)
    assert abs(compared(aside, dense, parent).residual["dense", SITE, "direction"].item()) < 0.3


def test_a_planted_rotation_is_seen_for_what_it_is_through_the_reducer():
    dense = states(0)
    turned = torch.cat([-dense[:, 6:], dense[:, :6]], dim=1)
    found = compared(turned, dense, dense).residual
    np.testing.assert_allclose(found["dense", SITE, "relative_l2"], 2**0.5, rtol=1e-5)
    np.testing.assert_allclose(found["dense", SITE, "cosine"], 1, rtol=1e-5)
    hsics = torch.from_numpy(found["dense", SITE, "cka"]).T
    np.testing.assert_allclose(debiased_cka(hsics), 1, atol=1e-4)
    np.testing.assert_allclose(found["dense", SITE, "procrustes"], 0, atol=1e-3)
    itself = compared(dense, dense, dense).residual
    assert all(abs(itself["dense", SITE, name]).max() < 1e-5 for name in ("cosine", "relative_l2", "spearman"))
