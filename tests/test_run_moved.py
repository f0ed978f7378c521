"""Smaller prompts, repairs used elsewhere, ablations and budgets: from a study to its tables and its report."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from analysis import __main__, run
from analysis.__main__ import main
from analysis.figures.transfer import transfer_figure
from analysis.paper import Source, drawn
from analysis.reading import read_json, read_latency, read_table
from analysis.run_files import sealed_text
from analysis.schema.costs import LATENCY
from analysis.store import write_atomically
from analysis.study import Study
from tests.studies import STUDY

PROMPT = {"kind": "prompt", "length": 2, "learning_rate": 0.03}
WIDTH = 128
MOVED = Study.model_validate(
    STUDY.model_dump()
    | {
        "relations": ["instrument", "employer"],
        "controls": [],
        "repairs": [
            PROMPT,
            {"kind": "lora", "rank": 1, "learning_rate": 0.01},
            {"kind": "quantised", "of": PROMPT, "bits": 4},
            {"kind": "sparse", "of": PROMPT, "sparsity": 0.5},
            {"kind": "idp", "lengths": [2, 2], "learning_rate": 0.03, "bank": "planted"},
        ],
        "reported": ["prompt-2", "prompt-2-4bit"],
        "tuning": {"steps": 6, "batch": 4},
        "transfer": {"repairs": ["prompt-2"], "relations": ["instrument"], "text": {"batch": 2, "length": 16}},
        "ablations": {
            "compression": "magnitude-60%",
            "repairs": [
                *(PROMPT | {"length": length} for length in (4, 6)),
                {"kind": "lora", "rank": 2, "learning_rate": 0.01},
            ],
        },
        "budget": {"equal": ["tokens"], "tolerance": 0.25},
        "drift": {"questions": 2, "windows": 2, "length": 16, "batch": 2},
    }
)


def test_every_tuned_thing_is_made_once():
    plan, _ = run.prepare(MOVED)
    tuned = plan.of("tuned")
    whole = [cell for cell in tuned if cell.fields["repair"] == MOVED.prompt.model_dump(mode="json")]
    own = [cell for cell in whole if not {"read", "share"} & set(cell.fields)]
    assert len(own) == 2  # dense and the compressed copy, however often they are used, ablations among them
    small = [cell for cell in tuned if "whole" in cell.needs]
    assert len(small) == 4
    assert all(cell.needs["whole"] in own for cell in small)
    moved = [cell for cell in plan.of("scored") if "-from-" in cell.label]
    assert len([cell for cell in moved if cell.needs["tuned0"] in own]) == 2
    assert sorted(str(cell.needs["tuned0"].fields.get("read", "all")) for cell in moved) == [
        *("('instrument',)", "('instrument',)", "all", "all", "text", "text"),
    ]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"compression": "magnitude-50%"}, r"ablations.compression: none is called magnitude-50% .*magnitude-60%"),
        ({"repairs": [PROMPT | {"learning_rate": 0.1}]}, r"ablations.repairs: two repairs are called prompt-2, and"),
    ],
)
def test_ablations_of_what_is_not_there_or_there_twice_are_refused(changed, says):
    stored = MOVED.model_dump()
    with pytest.raises(ValidationError, match=says):
        Study.model_validate(stored | {"ablations": stored["ablations"] | changed})


@pytest.fixture(scope="module")
def finished(studies):
    return studies.run(MOVED)


@pytest.mark.slow
def test_bytes_are_those_that_are_stored(finished):
    variants = read_table(finished, "variants").query("compression == 'dense'").set_index("repair")
    bytes_added = variants["bytes_added"]
    assert bytes_added["prompt-2"] == 4 * 2 * WIDTH
    assert bytes_added["prompt-2-4bit"] == 2 * (WIDTH // 2 + 4)
    assert bytes_added["prompt-2-sparse-50%"] == 4 * WIDTH + 2 * WIDTH // 8
    recovery = read_table(finished, "recovery").query("repair == 'prompt-2-4bit'")
    assert set(recovery["bytes_added"]) == {2 * (WIDTH // 2 + 4)}


@pytest.mark.slow
def test_a_bank_reads_in_all_what_one_prompt_reads(finished):
    variants = read_table(finished, "variants").query("compression == 'dense'").set_index("repair")
    tokens = variants["tokens_seen"]
    one, bank = tokens["prompt-2"], tokens["idp-2x2-planted-attention"]
    assert tokens["lora-r1"] == tokens["prompt-2-4bit"] == one
    assert 0.75 * one <= bank <= one
    assert "tokens" in variants.loc["idp-2x2-planted-attention", "budget"]
    assert variants.loc["lora-r1", "budget"] == "tokens, steps"


@pytest.mark.slow
def test_the_matrix_has_every_cell_and_its_diagonal_is_the_repair_itself(finished):
    transfer = read_table(finished, "transfer")
    whole = transfer.query("read == 'all' and measure == 'accuracy' and reading == 'candidates' and split == 'test'")
    assert set(zip(whole["source"], whole["target"], strict=True)) == {
        (source, target) for source in ("dense", "magnitude-60%") for target in ("dense", "magnitude-60%")
    }
    recovery = read_table(finished, "recovery").query(
        "scope == 'main' and measure == 'accuracy' and reading == 'candidates' and split == 'test'"
    )
    values = recovery.set_index(["compression", "repair"])["value"]
    for row in whole.itertuples():
        repair = "prompt-2" if row.source == row.target else f"prompt-2-from-{row.source}"
        assert row.value == pytest.approx(values[row.target, repair])
        assert row.gain == pytest.approx(row.value - values[row.target, ""])
        assert row.gain_lower <= row.gain <= row.gain_upper
    read = transfer.query("read == 'instrument' and measure == 'accuracy' and split == 'test'")
    assert set(read["asked"]) == {"all", "read relations", "other relations"}
    assert set(transfer["read"]) == {"all", "instrument", "text"}
    figure = transfer_figure(transfer, "open", "candidates")
    assert np.array(figure.figure.data[0].z).shape == (2, 2)
    assert len(figure.data) == 4


@pytest.mark.slow
def test_ablations_stand_apart_and_are_drawn_beside_the_studys_own(finished):
    variants = read_table(finished, "variants").query("scope == 'ablations'")
    assert set(variants["repair"]) == {"", "placebo-2", *(one.name for one in MOVED.ablated_repairs)}
    assert set(variants["compression"]) == {"dense", "magnitude-60%"}
    recovery = read_table(finished, "recovery").set_index(["scope", "variant", "reading", "split", "measure"])["value"]
    both = recovery["main"]["magnitude-60% + prompt-2"], recovery["ablations"]["magnitude-60% + prompt-2"]
    assert both[0].equals(both[1])
    assert not set(read_table(finished, "drift")["variant_id"]) & set(variants["variant_id"])
    verdict = read_json(finished, "verdict.json")
    assert {one["repair"] for one in verdict["settings"]} == set(MOVED.reported)
    (short,) = (one for one in verdict["claims"] if one["claim"] == "very short prompts suffice")
    assert short["measured"][0]["unit"] == "accuracy less that of prompt-6"
    first = next(one for one in verdict["settings"] if one["repair"] == "prompt-2")
    (scaling,) = (one for one in first["further_predictions"] if one["name"] == "prompt-length scaling")
    assert "(2, 4, 6 tokens)" in scaling["sentence"]
    found, left_out = drawn(Source(finished), ("prompt-length", "lora-rank"))
    assert not left_out
    length, rank = (one.figure.data for one in found)
    assert set(length.loc[length["series"] == "prompt", "amount"]) == {2, 4, 6}
    assert set(rank["amount"]) == {1, 2}


@pytest.mark.slow
def test_the_report_has_every_repair_and_every_choice(finished, monkeypatch, capsys):
    arguments = ["analysis", "repairs", finished.name, "--out", str(finished.parent), "--markdown"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--latency"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    lines = capsys.readouterr().out.splitlines()
    for name in read_table(finished, "variants")["variant"].unique():
        assert any(line.startswith(f"| {name} |") for line in lines), name
    (small,) = (line for line in lines if line.startswith("| dense + prompt-2-4bit |"))
    assert f"| {2 * (WIDTH // 2 + 4)} |" in small
    latency = read_latency(finished)
    assert latency is not None
    assert (latency["ratio"] > 0).all()
    assert set(latency["phase"]) == {"prefill", "decode"}
    told = latency[latency["repair"] == "prompt-2-4bit"].set_index(["phase", "batch", "form"])["ratio"]
    assert set(told.index) == {(phase, batch, "") for phase in ("prefill", "decode") for batch in (1, 8)} | {
        ("prefill", 1, "as tokens"),
        ("prefill", 8, "as tokens"),
    }
    # A prompt in fewer bits does the same work as the prompt that it was made from, and is not timed apart.
    whole = latency[latency["repair"] == "prompt-2"].set_index(["phase", "batch", "form"])["ratio"]
    assert told.equals(whole)
    assert f"| {told['prefill', 8, '']:.2f}, {told['prefill', 8, 'as tokens']:.2f} as tokens |" in small
    chosen = [line for line in lines if line.startswith("| dense + idp-2x2-planted-attention | ")]
    assert any("| oracle |" in line for line in chosen)
    assert any("| attention |" in line for line in chosen)


@pytest.mark.slow
def test_a_run_times_its_repairs_once_where_asked(finished, tmp_path, monkeypatch, capsys):
    (tmp_path / "moved.yaml").write_text(yaml.safe_dump(MOVED.model_dump(mode="json")))
    timed: list[Path] = []
    monkeypatch.setattr(__main__, "measure_latency", timed.append)
    arguments = ["analysis", "run", str(tmp_path / "moved.yaml"), "--out", str(finished.parent), "--latency"]
    monkeypatch.setattr(sys, "argv", arguments)
    table = finished / "latency.csv"
    for there in (True, False):
        if there:
            write_atomically(table, sealed_text(",".join(LATENCY.names) + "\n"))
        else:
            table.unlink()
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
        assert timed == ([] if there else [finished])
    assert "ablations, open people" in capsys.readouterr().out
