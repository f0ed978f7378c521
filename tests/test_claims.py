"""The claims table: what was measured stands with its interval, what was not says so."""

import pandas as pd

from analysis.claims import FASTER, NOT_MEASURED, claims
from analysis.claims_tasks import perplexity_tells, task_difference
from analysis.evidence import Evidence
from analysis.figures.evidence import claim_rows, with_latency
from analysis.report_markdown import markdown
from analysis.study import Study

STUDY = Study.model_validate(
    {
        "name": "small",
        "model": "atlas",
        "facts": "atlas",
        "groups": ["people"],
        "text": "atlas",
        "compressions": [{"method": "magnitude", "sparsity": 0.6, "samples": 4, "block_length": 32}],
        "seeds": [0, 1, 2],
        "repairs": [
            {"kind": "prompt", "length": 2, "learning_rate": 0.03},
            {"kind": "idp", "lengths": [2, 4], "learning_rate": 0.03},
            {"kind": "lora", "rank": 1, "learning_rate": 0.01},
        ],
        "reported": ["prompt-2"],
        "tuning": {"steps": 3, "batch": 4},
    }
)
RIGHT = {"prompt-2": 5, "idp-2,4-attention": 8, "lora-r1": 9}
ADDED = {"prompt-2": 10, "idp-2,4-attention": 30, "lora-r1": 600}


def planted(repairs):
    """Ten people, of whom each repair answers its own number rightly in each of three replicates."""
    variants, answers = [], []
    for repair in repairs:
        for seed in range(3):
            identity = f"{repair}/{seed}"
            variants.append((identity, "main", "magnitude-60%", repair, repair, seed, ADDED[repair]))
            answers += [(identity, f"person {place}", place < RIGHT[repair]) for place in range(10)]
    columns = ["variant_id", "scope", "compression", "repair", "variant", "replicate", "parameters_added"]
    known = pd.DataFrame(variants, columns=columns).assign(draw=0, bytes_added=0)
    table = pd.DataFrame(answers, columns=["variant_id", "entity", "correct"])
    constant = {"reading": "candidates", "phrasing": "measure", "relation": "city", "group": "people", "split": "test"}
    table = table.assign(**constant, bits=0.0, log_prob=-1.0)
    tables = {"variants": known, "tasks": pd.DataFrame(), "perplexity": pd.DataFrame()}
    return Evidence(table, known, {"main": ["people"]}, "planted"), tables


def found(repairs):
    evidence, tables = planted(repairs)
    return claims(STUDY, evidence, tables, {"settings": []})


def test_what_a_run_measured_stands_beside_the_papers_figure():
    ours = {one["claim"]: one["ours"] for one in found(RIGHT)}
    assert ".30 [" in ours["IDP gains over one prompt"]
    assert "-.10 [" in ours["IDP is as good as LoRA or better"]
    assert "20.0 times" in ours["IDP adds fewer parameters than LoRA"]
    assert ours[FASTER] == f"{NOT_MEASURED}: `python -m analysis repairs RUN --latency` times its repairs"


def test_what_was_not_run_is_never_taken_for_met():
    assert all(one["ours"].startswith(f"{NOT_MEASURED}: ") for one in found(["prompt-2"]))


def test_the_page_holds_every_claim_and_the_note():
    page = markdown({"settings": [], "controls": [], "claims": found(RIGHT)}, "made of a file", "A study")
    assert page.startswith("# A study\n\nNote: made of a file.")
    assert all(one["claim"] in page for one in found(RIGHT))


def scored(order: dict[str, int]):
    """Twenty items of a task of which each variant answers its own number rightly, and perplexities in that order."""
    known = pd.DataFrame([{"variant_id": name, "variant": name} for name in order])
    known = known.assign(compression="dense", repair="", kind="", repair_seed=float("nan"), compression_seed=0.0)
    tasks = pd.DataFrame(
        [
            {"variant_id": name, "task": "t", "item": f"t/{place}", "plan": "main", "correct": place < right}
            | {"said": None, "domain": "other"}
            for name, right in order.items()
            for place in range(20)
        ]
    )
    texts = pd.DataFrame(
        [
            {"variant_id": name, "text": "text", "document": place, "log_likelihood": -(30.0 - right) * (1 + place)}
            | {"tokens": 10 * (1 + place), "bytes": 50, "window": 8}
            for name, right in order.items()
            for place in range(6)
        ]
    )
    return {"tasks": tasks, "perplexity": texts, "variants": known}


ORDER = {"a": 2, "b": 6, "c": 10, "d": 14, "e": 18}


def test_perplexity_that_orders_variants_as_their_answers_do_hides_nothing():
    told = perplexity_tells(scored(ORDER))["text"]
    assert told.estimate == told.lower == -1.0
    assert told.n == len(ORDER)
    tables = scored(ORDER)
    texts = tables["perplexity"]
    texts["log_likelihood"] = -6 * texts["tokens"] - texts["log_likelihood"]
    assert perplexity_tells(tables)["text"].estimate == 1.0
    assert perplexity_tells(scored(dict(list(ORDER.items())[:4]))) == {}


def test_one_repair_less_another_on_tasks_is_over_all_items():
    tables = scored(ORDER)
    found = task_difference(tables["tasks"], tables["variants"], "d", "b")
    assert found is not None
    assert (round(found.estimate, 12), found.clusters) == (0.4, 20)
    assert task_difference(tables["tasks"], tables["variants"], "d", "not there") is None


def test_what_was_timed_after_the_verdict_stands_beside_the_papers_figure():
    claimed = found(RIGHT)
    ratios = {"": 1.0, "idp-2,4-attention": 1.2, "lora-r1": 1.5}
    latency = pd.DataFrame([{"repair": name, "ratio": ratio, "form": ""} for name, ratio in ratios.items()])
    rows = claim_rows(with_latency(claimed, latency.assign(phase="prefill", batch=1)))
    own = rows[rows["claim"] == FASTER].iloc[0]
    assert (round(own["value"], 6), own["paper_value"], own["setting"]) == (0.2, 0.6, "prefill, batch 1")
    assert FASTER not in set(claim_rows(with_latency(claimed, None))["claim"])
