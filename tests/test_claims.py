"""The claims table: what was measured stands with its interval, what was not says so."""

import pandas as pd

from analysis.claims import NOT_MEASURED, claims, markdown
from analysis.evidence import Evidence
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
    known = pd.DataFrame(variants, columns=columns).assign(bytes_added=0)
    table = pd.DataFrame(answers, columns=["variant_id", "entity", "correct"])
    constant = {"reading": "candidates", "phrasing": "measure", "relation": "city", "group": "people", "split": "test"}
    table = table.assign(**constant, bits=0.0, log_prob=-1.0)
    return Evidence(table, known, {"main": ["people"]}, "planted"), {"variants": known}


def found(repairs):
    evidence, tables = planted(repairs)
    return claims(STUDY, evidence, tables, {"settings": []})


def test_what_a_run_measured_stands_beside_the_papers_figure():
    ours = {one["claim"]: one["ours"] for one in found(RIGHT)}
    assert ".30 [" in ours["IDP gains over one prompt"]
    assert "-.10 [" in ours["IDP is as good as LoRA or better"]
    assert "20.0 times" in ours["IDP adds fewer parameters than LoRA"]
    assert ours["IDP is faster than LoRA"] == NOT_MEASURED


def test_what_was_not_run_is_never_taken_for_met():
    assert {one["ours"] for one in found(["prompt-2"])} == {NOT_MEASURED}


def test_the_page_holds_every_claim_and_the_note():
    page = markdown({"settings": [], "controls": [], "claims": found(RIGHT)}, "made of a file", "A study")
    assert page.startswith("# A study\n\nNote: made of a file.")
    assert all(one["claim"] in page for one in found(RIGHT))
