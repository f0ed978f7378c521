"""Is a choice informative: exact under H0, finds what was planted, and follows its definitions."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest, spearmanr

from analysis.selection import (
    choice_permutation,
    covariate_correlation,
    rank_correlations,
    selector_table,
    usage,
)

ITEMS, PROMPTS = 60, 3


def planted(seed, informed, items=ITEMS):
    """Values of every prompt for every item, and choices that take the best one with this probability."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(items, PROMPTS))
    drawn = rng.integers(PROMPTS, size=items)
    return values, np.where(rng.random(items) < informed, values.argmax(axis=1), drawn)


def test_p_is_uniform_when_the_choice_knows_nothing():
    found = [choice_permutation(*planted(seed, 0.0), resamples=199, seed=seed).p for seed in range(300)]
    # 200 equally spaced values of p: their steps are far below what 300 draws can resolve.
    assert kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) <= 0.05) < 0.1


def test_an_informative_choice_is_found():
    found = [choice_permutation(*planted(seed, 0.5), resamples=199, seed=seed) for seed in range(20)]
    assert np.mean([one.p <= 0.05 for one in found]) > 0.9
    assert all(one.observed > one.expected for one in found)


def test_many_draws_of_a_choice_are_tested_as_one():
    """Of one draw in a hundred p is below .01 by luck; of many, their mean is what is tested, and p stays uniform."""
    found = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        values, draws = rng.normal(size=(ITEMS, PROMPTS)), rng.integers(PROMPTS, size=(5, ITEMS))
        found.append(choice_permutation(values, draws, resamples=199, seed=seed))
        single = [choice_permutation(values, one, resamples=199, seed=seed) for one in draws]
        assert found[-1].observed == pytest.approx(np.mean([one.observed for one in single]))
        assert found[-1].expected == pytest.approx(np.mean([one.expected for one in single]))
    assert kstest([one.p for one in found], "uniform").pvalue > 0.01


def test_always_choosing_the_same_prompt_is_no_information():
    values, _ = planted(0, 0.0)
    found = choice_permutation(values, np.ones(ITEMS, dtype=int), seed=0)
    assert found.p == 1.0
    assert found.observed == pytest.approx(found.expected)


@pytest.mark.parametrize("blocks", [None, np.array([0, 0, 0, 1, 1])])
def test_the_expectation_is_the_mean_over_every_way_of_dealing(blocks):
    values, chosen = planted(1, 0.3, items=5)
    home = np.zeros(5) if blocks is None else blocks
    dealt = [
        values[np.arange(5), chosen[list(order)]].mean()
        for order in permutations(range(5))
        if (home[list(order)] == home).all()
    ]
    found = choice_permutation(values, chosen, blocks, resamples=4000, seed=0)
    assert found.expected == pytest.approx(np.mean(dealt))
    exact = np.mean(np.array(dealt) >= found.observed - 1e-12)
    assert found.p == pytest.approx(exact, abs=5 * float(exact * (1 - exact) / 4000) ** 0.5 + 1e-3)


def test_knowing_the_relation_alone_is_nothing_within_relations():
    rng = np.random.default_rng(0)
    relation = np.arange(90) % 3
    values = rng.normal(size=(90, 3)) + 2 * np.eye(3)[relation]
    assert choice_permutation(values, relation, seed=0).p < 0.01
    assert choice_permutation(values, relation, relation, seed=0).p == 1.0


def test_misshapen_choices_are_refused():
    with pytest.raises(ValueError, match="a choice per item"):
        choice_permutation(np.zeros((3, 2)), np.zeros(2, dtype=int), seed=0)


def test_rank_correlations_are_spearmans():
    rng = np.random.default_rng(0)
    scores, values = rng.normal(size=(20, 5)), rng.normal(size=(20, 5)).round()  # with ties
    values[:, 0] += 10
    expected = [spearmanr(one, two).statistic for one, two in zip(scores, values, strict=True)]
    np.testing.assert_allclose(rank_correlations(scores, values), expected)
    assert np.isnan(rank_correlations(np.ones((1, 3)), np.array([[1.0, 2.0, 3.0]]))).all()


def test_usage_is_in_bits():
    shares, bits = usage(np.array([0, 1, 2, 3] * 5), 4)
    assert shares.tolist() == [0.25] * 4
    assert bits == pytest.approx(2.0)
    assert usage(np.zeros(7, dtype=int), 4)[1] == 0.0


def test_a_covariate_is_correlated_as_over_all_pairs():
    chosen, norms = np.array([0, 0, 1, 2, 2, 2]), np.array([1.0, 4.0, 9.0])
    kept = np.eye(3)[chosen].ravel()
    expected = np.corrcoef(kept, np.tile(norms, 6))[0, 1]
    assert covariate_correlation(usage(chosen, 3)[0], norms) == pytest.approx(expected)
    assert np.isnan(covariate_correlation(np.array([0.5, 0.5]), np.array([8.0, 8.0])))
    assert covariate_correlation(np.array([0.0, 1.0]), np.array([4.0, 8.0])) == pytest.approx(1.0)


def stored(items=80, seed=0):
    """Selections as they are stored: right prompt = relation; the oracle and the router know it, the rest do not."""
    rng = np.random.default_rng(seed)
    relation = np.arange(items) % PROMPTS
    log_probs = rng.normal(-3, 0.3, size=(items, PROMPTS)) + 2 * np.eye(PROMPTS)[relation]
    correct = log_probs > -2
    scores = {
        "attention": rng.random((items, PROMPTS)),
        "random": rng.random((items, PROMPTS)),
        "fixed": np.tile([0.0, 1.0, 0.0], (items, 1)),
        "router": np.eye(PROMPTS)[relation] + 0.1 * rng.random((items, PROMPTS)),
        "oracle": log_probs + rng.normal(0, 0.2, size=log_probs.shape),
    }
    common = {
        "item": [f"{place}" for place in range(items)],
        "entity": [f"person {place // PROMPTS}" for place in range(items)],
        "relation": relation,
        "own": relation,
        "group": "open",
        "cost": "none",
        "log_prob_by_prompt": log_probs.tolist(),
        "correct_by_prompt": correct.tolist(),
    }
    place, parts = np.arange(items), []
    for name, table in scores.items():
        kept = table.argmax(axis=1)
        draws = rng.integers(PROMPTS, size=(items, 20)) if name == "random" else kept[:, None]
        if name == "random":
            draws[:, 0] = kept
        told = {"chosen": pd.array(kept, dtype="Int64"), "draws": draws.tolist(), "scores": table.tolist()}
        told |= {"log_prob": log_probs[place, kept], "correct": correct[place, kept]}
        parts.append(pd.DataFrame({**common, "selector": name, **told}))
    mixed = np.log(np.exp(log_probs).mean(axis=1))
    told = {"chosen": pd.array([None] * items, dtype="Int64"), "draws": [[] for _ in place]}
    told |= {"scores": [[] for _ in place]}
    parts.append(pd.DataFrame({**common, "selector": "mixture", **told, "log_prob": mixed, "correct": mixed > -2}))
    return pd.concat(parts, ignore_index=True)


BANK = pd.DataFrame({"prompt": range(3), "length": [8, 8, 8], "vector_norm": [1.0, 2, 3], "key_norm": [3.0, 1, 2]})


def test_the_table_tells_who_knows_the_planted_choice():
    table = selector_table(stored(), BANK).query("measure == 'accuracy'").set_index("selector")
    assert table.loc[["router", "oracle"], "p"].max() < 0.01
    assert table.loc[["router", "oracle"], "value"].min() > 0.95
    assert table.loc["attention", "value"] < 0.5
    assert table.loc["fixed", "p"] == 1.0
    assert table.loc["fixed", "choice_bits"] == 0.0
    assert table.loc["fixed", "minus_best_single"] == 0.0
    assert table.loc["router", "minus_random_lower"] > 0
    assert table.loc["random", "p"] > 0.01
    assert table.loc["random", "own_prompt_lower"] < 1 / PROMPTS < table.loc["random", "own_prompt_upper"]
    assert table.loc["router", "own_prompt"] == 1.0
    assert table.loc["router", "p_within_relation"] > 0.01  # it knows the relation and nothing else
    assert np.isnan(table.loc["mixture", "p"])
    assert np.isnan(table.loc["router", "choice_and_length"])


def test_the_tables_figures_are_what_they_say():
    selections = stored()
    table = selector_table(selections, BANK).query("measure == 'log_prob'").set_index("selector")
    for name, part in selections[selections["selector"] != "random"].groupby("selector"):
        best = np.array(part["log_prob_by_prompt"].tolist()).max(axis=1)
        assert table.loc[name, "value"] == pytest.approx(part["log_prob"].mean())
        assert table.loc[name, "regret"] == pytest.approx((best - part["log_prob"]).mean())
        assert table.loc[name, "lower"] <= table.loc[name, "value"] <= table.loc[name, "upper"]
    assert table.loc["oracle", "rank_correlation"] > 0.5 > table.loc["attention", "rank_correlation"]
    assert (table["entities"] == 27).all()
