"""The comparison of variants on tasks: planted losses and gains are counted, tested and corrected."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from analysis.significance import items_needed
from analysis.task_report import shown
from analysis.task_scores import ALL, POOLED, compare_tasks, floors, perplexities

ITEMS = 60
ARMS = {"dense": (None, None), "cut": (0, None), "cut + fix": (0, 0), "dense + fix": (None, 0)}


def variants_frame(seeds=(0,)) -> pd.DataFrame:
    rows = []
    for name, (compressed, repaired) in ARMS.items():
        for seed in seeds if name != "dense" else (0,):
            rows.append(
                {
                    "variant_id": f"{name}/{seed}",
                    "variant": name,
                    "compression": name.split(" + ")[0],
                    "repair": name.partition(" + ")[2],
                    "kind": "prompt" if "fix" in name else "",
                    "compression_seed": None if compressed is None else float(seed),
                    "repair_seed": None if repaired is None else float(seed),
                }
            )
    return pd.DataFrame(rows)


def tasks_frame(right: dict[str, np.ndarray], seeds=(0,), tasks=("one", "two"), said=True) -> pd.DataFrame:
    """Items of a task by variant: right where told; the text said is the right one or a wrong one."""
    rows = [
        {"variant_id": f"{name}/{seed}", "task": task, "domain": "other", "item": f"{task}/{place}", "plan": "main"}
        | {"correct": bool(one), "correct_norm": None, "tokens_cut": int(place == 0)}
        | {"said": ("right" if one else "wrong") if said else None}
        for name, values in right.items()
        for seed in (seeds if name != "dense" else (0,))
        for task in tasks
        for place, one in enumerate(values)
    ]
    return pd.DataFrame(rows)


def planted() -> dict[str, np.ndarray]:
    """Dense is right on 40 of 60; cutting loses 18 of them and wins 3; the fix returns 12 of the lost."""
    dense = np.arange(ITEMS) < 40
    cut = dense.copy()
    cut[:18], cut[40:43] = False, True
    fixed = cut.copy()
    fixed[:12] = True
    return {"dense": dense, "cut": cut, "cut + fix": fixed, "dense + fix": dense}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """What was planted, in one replicate."""
    return compare_tasks(tasks_frame(planted()), variants_frame())


def rows_of(table: pd.DataFrame, task: str, reference: str) -> pd.DataFrame:
    return table[(table["task"] == task) & (table["reference"] == reference)].set_index("variant")


def test_losses_and_gains_are_counted_against_both_references(table):
    dense = rows_of(table, "one", "dense")
    assert dense.loc["cut", ["lost", "won"]].tolist() == [18, 3]
    assert dense.loc["cut", "difference"] == pytest.approx(-15 / 60)
    assert dense.loc["cut", "alike"] == pytest.approx(39 / 60)
    assert dense.loc["cut + fix", ["lost", "won"]].tolist() == [6, 3]
    parent = rows_of(table, "one", "parent")
    assert parent.index.tolist() == ["cut + fix"]  # dense is told once
    assert parent.loc["cut + fix", ["lost", "won"]].tolist() == [0, 12]
    assert dense.loc["cut", "difference_lower"] < -15 / 60 < dense.loc["cut", "difference_upper"] < 0
    assert (table["cut"] == np.where(table["task"] == ALL, 2, 1)).all()


def test_one_replicate_is_tested_by_mcnemar_and_corrected_over_tasks_and_variants(table):
    told = table[(table["reference"] == "dense") & (table["task"] != ALL)]
    assert (told["test"] == "McNemar").all()
    assert told.set_index(["task", "variant"]).loc[("one", "cut"), "p"] == pytest.approx(binomtest(3, 21).pvalue)
    assert told.set_index(["task", "variant"]).loc[("one", "dense + fix"), "p"] == 1.0
    assert len(told) == 6
    np.testing.assert_allclose(told["p_holm"], multipletests(told["p"], method="holm")[1])
    pooled = rows_of(table, ALL, "dense")
    assert pooled.loc["cut", "items"] == 2 * ITEMS
    assert pooled.loc["cut", "p"] == pytest.approx(binomtest(6, 42).pvalue)


def test_several_replicates_are_tested_by_whole_items():
    right = planted()
    table = compare_tasks(tasks_frame(right, (0, 1), ("one",)), variants_frame((0, 1)))
    dense, parent = rows_of(table, "one", "dense"), rows_of(table, "one", "parent")
    assert (dense["test"] == "sign flips and t").all()
    assert (dense["replicates"] == 2).all()
    assert dense.loc["cut", ["lost", "won"]].tolist() == [36, 6]  # over both replicates
    assert dense.loc["cut", "alike"] == pytest.approx(39 / 60)
    assert dense.loc["cut", "p"] < 0.01
    assert parent.loc["cut + fix", "difference"] == pytest.approx(12 / 60)


def test_nothing_is_found_where_nothing_differs():
    draw = np.random.default_rng(0)
    same = draw.random(ITEMS) < 0.5
    table = compare_tasks(tasks_frame(dict.fromkeys(ARMS, same), tasks=("one",)), variants_frame())
    told = table[table["reference"] != ""]
    assert (told["difference"] == 0).all()
    assert (told["p_holm"] == 1).all()
    assert (told["alike"] == 1).all()
    # Of 60 items none differs: as many as 6 in 100 may.
    assert told["difference_upper"].tolist() == pytest.approx([binomtest(0, ITEMS).proportion_ci().high] * len(told))
    assert (told["difference_lower"] == -told["difference_upper"]).all()
    assert np.isinf(told["items_needed"]).all()
    assert set(shown(table)["items needed"]) == {"never"}


@pytest.mark.parametrize(("right", "side"), [(True, "lower"), (False, "upper")])
def test_none_or_all_right_is_as_uncertain_as_the_items_are_few(right, side):
    same = np.full(ITEMS, right)
    table = compare_tasks(tasks_frame(dict.fromkeys(ARMS, same), tasks=("one",)), variants_frame())
    exact = binomtest(ITEMS if right else 0, ITEMS).proportion_ci()
    assert table[side].tolist() == pytest.approx([exact.low if right else exact.high] * len(table))


def test_answers_without_a_text_are_alike_where_their_outcome_is():
    table = compare_tasks(tasks_frame(planted(), tasks=("one",), said=False), variants_frame())
    assert rows_of(table, "one", "dense").loc["cut", "alike"] == pytest.approx(39 / 60)


def test_the_items_needed_are_those_of_the_paired_test():
    """The paper's average gain: 7.85 (d - delta^2) / delta^2 items at discordance d, by the normal approximation."""
    discordance, delta = 0.1, 0.0124
    deviation = np.sqrt(discordance - delta**2)
    assert items_needed(delta, deviation) == pytest.approx(7.849 * deviation**2 / delta**2, rel=2e-3)
    assert items_needed(-delta, deviation) == items_needed(delta, deviation)
    assert items_needed(0.0, 0.3) == np.inf
    assert items_needed(1.0, 0.0) == 2
    with pytest.raises(ValueError, match="standard deviation"):
        items_needed(0.1, -1.0)


def test_floors_count_choices_that_another_plan_flips():
    right = planted()
    main = tasks_frame({"dense": right["dense"], "cut": right["cut"]}, tasks=("one",))
    other = tasks_frame({"dense": right["dense"]}, tasks=("one",)).assign(plan="other")
    other.loc[[3, 50], "said"] = ["wrong", "right"]
    other.loc[[3, 50], "correct"] = [False, True]
    other.loc[7, "said"] = "right as well"
    assert floors(pd.concat([main, other])).to_dict("records") == [
        {"task": "one", "items": 60, "flips": 3, "gained": 0}
    ]
    assert floors(main).empty


def test_perplexity_pools_tokens_not_documents():
    rows = [
        {"variant_id": "dense/0", "text": "text", "document": place, "tokens": tokens, "log_likelihood": -tokens * nats}
        | {"bytes": 4 * tokens, "window": 64}
        for place, (tokens, nats) in enumerate([(10, 2.0), (30, 1.0), (20, 1.5), (40, 1.2)])
    ]
    (found,) = perplexities(pd.DataFrame(rows), variants_frame()).to_dict("records")
    nats = (10 * 2.0 + 30 * 1.0 + 20 * 1.5 + 40 * 1.2) / 100
    assert found["perplexity"] == pytest.approx(np.exp(nats))
    assert found["bits_per_byte"] == pytest.approx(nats / 4 / np.log(2))
    assert found["lower"] < found["perplexity"] < found["upper"]


def test_the_tasks_of_a_domain_stand_together_and_are_pooled_where_there_are_several():
    frame = tasks_frame(planted(), tasks=("lambada_openai", "sciq", "webqs", "mine"))
    domains = {"lambada_openai": "language understanding", "sciq": "world knowledge", "webqs": "world knowledge"}
    table = compare_tasks(frame.assign(domain=frame["task"].map(domains).fillna("other")), variants_frame())
    assert list(dict.fromkeys(table["task"])) == [
        *("sciq", "webqs", "all world knowledge", "lambada_openai", "mine", ALL),
    ]
    assert set(table.loc[table["task"] == "all world knowledge", "items"]) == {2 * ITEMS}
    pooled = table[table["task"].isin(POOLED) & (table["reference"] == "dense")]
    assert pooled["p_holm"].to_numpy() == pytest.approx(multipletests(pooled["p"], method="holm")[1])
