"""Decisions on planted answers: each verdict comes out where it was put in, and nowhere else."""

import itertools

import numpy as np
import pandas as pd
import pytest

from analysis.evidence import Evidence
from analysis.hypothesis import FEWEST_WITH_ROOM, assess, decide, powers_of

ENTROPY = 4.0
ENTITIES = 40
FACTLESS = {"masked": "prompt-8-masked", "shuffled": "prompt-8-shuffled"}
ARMS = ("", "recalibrated", "placebo-8", *FACTLESS.values(), "prompt-8")
SPLITS = ("tune", "test")
NOTHING = dict.fromkeys(ARMS, 0.5)


def evidence(
    bits, *, scope="main", compression="wanda-70%", dense=None, dense_certain=True, replicates=3, noise=0.2, seed=0
):
    """Answers whose bits are what `bits` says by repair, or by repair and split, plus noise per person and seed."""
    draw = np.random.default_rng(seed)
    of_person = draw.normal(0, noise, ENTITIES)
    variants, answers = [], []
    damages = {compression: bits} | ({} if dense is None else {"dense": dense})
    for (damage, table), replicate in itertools.product(damages.items(), range(replicates)):
        for repair, level in table.items():
            for copy in range(2 if repair.startswith("placebo") else 1):
                identity = f"{damage}/{repair}/{replicate}/{copy}"
                variants.append((identity, scope, damage, repair, replicate, copy))
                for split, (place, who) in itertools.product(SPLITS, enumerate(of_person)):
                    value = level[split] if isinstance(level, dict) else level
                    value += who + draw.normal(0, noise / 4)
                    sure = dense_certain if isinstance(dense_certain, bool) else place >= dense_certain
                    log_prob = np.log(0.99 if sure else 0.4)
                    for phrasing in ("measure", "damage") if repair == "" else ("measure",):
                        answers.append((identity, phrasing, split, f"{split} person {place}", value, log_prob))
    table = pd.DataFrame(answers, columns=["variant_id", "phrasing", "split", "entity", "bits", "log_prob"])
    known = pd.DataFrame(variants, columns=["variant_id", "scope", "compression", "repair", "replicate", "draw"])
    return Evidence(
        table.assign(reading="candidates", group="people", relation="city", correct=True),
        known.assign(variant=known["repair"], parameters_added=0, bytes_added=0),
        {scope: ["people"]},
        "planted",
    )


def setting(bits, *, controls=None, compression="wanda-70%", scope="main", **options):
    found = assessed(evidence(bits, compression=compression, scope=scope, **options), scope, compression)
    return decide([found], controls or {})[0]


def assessed(found, scope="main", compression="wanda-70%"):
    return assess(found, scope, compression, "prompt-8", placebo="placebo-8", factless=FACTLESS, entropy=ENTROPY)


def main_setting(bits, *, gain_of_dense=0.0, **options):
    dense = {"": 3.5, "prompt-8": 3.5 + gain_of_dense}
    return setting(bits, dense=dense, **options)


def test_what_comes_back_on_test_people_beyond_every_arm_is_displaced():
    found = main_setting(NOTHING | {"prompt-8": 2.5})
    assert found.decision == "displaced"
    assert found.account["redirected"].estimate == pytest.approx(2.0, abs=0.1)
    assert [one.name for one in found.comparisons] == [
        "recalibration",
        "untrained prompts",
        "tuning with answers masked",
        "tuning with answers shuffled",
    ]


@pytest.mark.parametrize("arm", ["recalibrated", "placebo-8", "prompt-8-masked", "prompt-8-shuffled"])
def test_any_arm_that_returns_as_much_takes_the_claim_away(arm):
    found = main_setting(NOTHING | {"prompt-8": 2.5, arm: 2.5})
    assert found.decision == "undecided"
    assert found.account["redirected"].estimate == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize(("gain", "decision"), [(2.0, "undecided"), (0.0, "displaced")])
def test_a_dense_model_with_room_that_gains_as_much_takes_the_claim_away(gain, decision):
    found = main_setting(NOTHING | {"prompt-8": 2.5}, gain_of_dense=gain, dense_certain=False)
    assert found.decision == decision
    assert found.comparisons[-1].name == "the dense arm"
    assert found.comparisons[-1].estimate == pytest.approx(2.0 - gain, abs=0.1)


@pytest.mark.parametrize("with_room", [0, FEWEST_WITH_ROOM - 1, FEWEST_WITH_ROOM])
def test_the_dense_arm_counts_on_the_items_where_dense_has_room_and_only_if_they_are_enough(with_room):
    found = main_setting(NOTHING | {"prompt-8": 2.5}, gain_of_dense=2.0, dense_certain=with_room)
    enough = with_room >= FEWEST_WITH_ROOM
    assert (found.comparisons[-1].name == "the dense arm") is enough
    assert any(f"on {with_room} test entities" in reason for reason in found.reasons) is not enough
    assert found.comparisons[-1].entities == (with_room if enough else ENTITIES)


def test_facts_learned_by_heart_are_relearned():
    found = main_setting(NOTHING | {"prompt-8": {"tune": 3.9, "test": 0.5}})
    assert found.decision == "relearned"
    assert found.account["relearned"].estimate == pytest.approx(3.4, abs=0.1)


@pytest.mark.parametrize(
    ("power", "decision", "reason"),
    [
        (None, "undecided", "was not run"),
        (0.5, "undecided", "a power of 0.50 only, 0.8 needed"),
        (0.9, "unreached", "a power of 0.90"),
    ],
)
def test_nothing_came_back_says_something_only_beside_a_control_that_is_found(power, decision, reason):
    found = main_setting(NOTHING, controls={} if power is None else {("wanda-70%", "prompt-8"): power})
    assert found.decision == decision
    assert reason in found.reasons[-1]


def test_a_control_at_another_damage_or_of_another_repair_does_not_count():
    found = main_setting(NOTHING, controls={("dense", "prompt-8"): 1.0, ("wanda-70%", "lora-r4"): 1.0})
    assert found.decision == "undecided"


def test_two_replicates_decide_nothing_however_clear():
    found = main_setting(NOTHING | {"prompt-8": 2.5}, replicates=2)
    assert found.decision == "undecided"
    assert "3 are needed" in found.reasons[-1]


def test_a_displaced_control_has_its_power_and_one_that_is_not_found_has_none():
    locked = {"scope": "locked", "compression": "dense"}
    clear = setting(NOTHING | {"key": 4.0, "prompt-8": 3.9}, **locked)
    unseen = setting(NOTHING | {"key": 4.0}, **locked)
    assert clear.decision == "displaced"
    assert powers_of([clear], 1) == {("dense", "prompt-8"): pytest.approx(1.0)}
    weak = setting(NOTHING | {"key": 4.0, "prompt-8": 0.4}, **locked)
    few, many = (powers_of([weak], judged).get(("dense", "prompt-8"), 0.0) for judged in (1, 27))
    assert many <= few  # it speaks of one setting among as many
    assert powers_of([unseen], 1) == {("dense", "prompt-8"): 0.0}


@pytest.mark.slow
def test_power_is_the_share_of_new_runs_that_find_the_control():
    weak = {"scope": "locked", "compression": "dense", "noise": 0.8}
    bits = NOTHING | {"key": 4.0, "prompt-8": 0.58}
    runs = [setting(bits, seed=seed, **weak) for seed in range(60)]
    foretold = float(np.mean([one.comparisons[0].power(0.05) for one in runs]))
    found = float(np.mean([one.comparisons[0].p < 0.05 for one in runs]))
    assert 0.2 < found < 0.8
    # Four standard errors of a share of 60 runs.
    assert foretold == pytest.approx(found, abs=4 * np.sqrt(0.25 / 60))


LABELS = {
    "": "the compressed model",
    "recalibrated": "the recalibrated model",
    "placebo-8": "untrained prompts",
    "prompt-8-masked": "the prompt with answers masked",
    "prompt-8-shuffled": "the prompt with answers shuffled",
    "prompt-8": "the repair prompt-8",
}


@pytest.mark.parametrize("absent", ARMS)
def test_without_an_arm_nothing_is_concluded_and_the_arm_is_named(absent):
    bits = NOTHING | {"prompt-8": 2.5}
    found = main_setting({repair: value for repair, value in bits.items() if repair != absent})
    assert (found.decision, found.p, found.power(0.05)) == ("undecided", 1.0, 0.0)
    assert found.reasons == [
        f"no answers of {LABELS[absent]} on test: whether prompt-8 returns what it was not tuned on cannot be concluded"
    ]
    told = found.to_json()
    assert (told["redirected_bits"], told["expressed_bits"]) == (None, None)


def test_without_the_dense_arm_nothing_is_concluded():
    found = setting(NOTHING | {"prompt-8": 2.5}, dense={"": 3.5})
    assert found.decision == "undecided"
    assert "no answers of dense + prompt-8 on test" in found.reasons[0]


@pytest.mark.parametrize("split", SPLITS)
def test_a_run_that_asked_one_split_alone_says_what_it_cannot_conclude(split):
    found = evidence(NOTHING | {"prompt-8": 2.5}, dense={"": 3.5, "prompt-8": 3.5})
    found.joined = found.joined[found.joined["split"] == split].reset_index(drop=True)
    one = decide([assessed(found)], {})[0]
    if split == "tune":
        assert one.decision == "undecided"
        assert one.reasons[0].startswith("no test item was asked")
    else:
        assert one.decision == "displaced"
        assert "whether prompt-8 relearned cannot be concluded" in one.reasons[-1]
        assert "relearned" not in one.account


def test_settings_that_cannot_be_concluded_do_not_stop_the_others():
    whole = assessed(evidence(NOTHING | {"prompt-8": 2.5}, dense={"": 3.5, "prompt-8": 3.5}))
    found = evidence({"prompt-8": 2.5})
    decided = decide([whole, assessed(found)], {})
    assert [one.decision for one in decided] == ["displaced", "undecided"]


def test_the_verdict_is_the_same_for_another_order_of_rows():
    first, second = (evidence(NOTHING | {"prompt-8": 0.7}, dense=NOTHING, dense_certain=False) for _ in range(2))
    second.joined = second.joined.sample(frac=1, random_state=0).reset_index(drop=True)
    assert assessed(first) == assessed(second)


def test_the_share_is_of_right_answers_and_needs_a_clear_gap():
    """The dense model knows all, C a quarter, the repaired copy half of the rest; then it knows one person more."""
    found = evidence(NOTHING | {"prompt-8": 1.0}, dense={"": 3.5, "prompt-8": 3.5})
    table = found.joined
    place = table["entity"].str.split().str[-1].astype(int)
    known = np.where(table["compression"] == "dense", ENTITIES, ENTITIES // 4)
    known = np.where((table["compression"] != "dense") & (table["repair"] == "prompt-8"), ENTITIES * 5 // 8, known)
    found.joined = table.assign(correct=place < known)
    share = assessed(found).share
    assert share is not None
    assert share.estimate == pytest.approx(0.5)
    assert share.lower < 0.5 < share.upper
    found.joined = table.assign(correct=place < np.where(table["compression"] == "dense", ENTITIES // 4 + 1, known))
    assert assessed(found).share is None
