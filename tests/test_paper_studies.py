"""The paper's settings: looked at without their models, and run to the end with tiny random ones of their families."""

import random
import sys
from typing import Any

import pytest
import yaml

from analysis.__main__ import main
from analysis.reading import read_table
from analysis.study import SHIPPED, load_study
from tests.conftest import SPECIAL
from tests.tiny_models import tiny

PAPER = {"paper-opt-6.7b": "opt", "paper-llama-7b": "llama"}
SHAPES = {"paper-opt-6.7b": "6,658,473,984", "paper-llama-7b": "6,738,415,616"}
"""Parameters as the models' makers publish them (6.7B; Llama's 6,738,415,616)."""


@pytest.mark.parametrize("name", PAPER)
def test_a_dry_run_needs_neither_model_nor_hub(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["analysis", "run", name, "--dry-run", "--out", str(tmp_path / "runs")])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr().out
    assert not stopped.value.code
    assert f"{SHAPES[name]} parameters in bfloat16, by the study's shape, as its files are not on this" in said
    assert "minutes in all" in said
    assert "GB each" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", PAPER)
def test_every_choice_that_the_paper_leaves_open_is_said(name):
    """Each block with a hyperparameter has a comment that says whose choice it is."""
    text = (SHIPPED / f"{name}.yaml").read_text()
    tasks = load_study(name).tasks
    assert tasks is not None
    assert tasks.names == ("paper-nine",)
    assert tasks.perplexity is not None
    assert tasks.perplexity.texts == ("wikitext", "ptb", "c4")
    assert text.lower().count("choice") >= 12
    assert {repair["kind"] for repair in yaml.safe_load(text)["repairs"]} == {
        "prompt",
        "ptuning",
        "prefix",
        "lora",
        "idp",
    }


@pytest.fixture
def own(tmp_path, tokenizer, request):
    """A tiny model of the paper's family, facts and text in files."""
    words = [word for word in tokenizer.get_vocab() if word.startswith("w") and word[1:].isdigit()]
    assert SPECIAL[0] == tokenizer.pad_token
    tiny(PAPER[request.param], max_position_embeddings=128).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    draw = random.Random(0)
    subjects = [f"{first} {second}" for first in words[:8] for second in words[8:14]]
    facts = [f"home,{subject},{draw.choice(['oslo', 'bergen', 'turin', 'paris'])}" for subject in subjects]
    (tmp_path / "facts.csv").write_text("\n".join(["relation,subject,answer", *facts]) + "\n")
    phrasings = {"tune": ["the home of {subject} is", "in the town of {subject} lives"]}
    phrasings |= {"damage": "by the home of {subject} is", "measure": "the town near {subject} is"}  # type: ignore[dict-item]
    (tmp_path / "facts.yaml").write_text(yaml.safe_dump({"home": phrasings}))
    paragraphs = [" ".join(draw.choices(words, k=40)) for _ in range(60)]
    (tmp_path / "text.txt").write_text("\n\n".join(paragraphs))
    return request.param, tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("own", PAPER, indirect=True)
def test_the_same_study_runs_to_its_end_on_a_tiny_model(own, studies):
    name, folder = own
    shipped = load_study(name)
    lengths: dict[str, dict[str, Any]] = {
        "prompt": {"length": 4},
        "ptuning": {"length": 4},
        "prefix": {"length": 1},
        "lora": {"rank": 2},
    }
    lengths |= {"idp": {"lengths": [2, 4]}}
    repairs = [repair.model_dump() | lengths[repair.kind] for repair in shipped.repairs]
    damage = [one.model_dump() | {"samples": 8, "block_length": 16} for one in shipped.compressions]
    changes: dict[str, Any] = {
        "model": str(folder / "model"),
        "facts": str(folder / "facts.csv"),
        "text": f"file:{folder / 'text.txt'}",
    }
    changes |= {"dtype": "float32", "device": "cpu", "seeds": [0], "repairs": repairs, "compressions": damage}
    changes |= {"reported": ["prompt-4", "ptuning-4", "prefix-1", "lora-r2", "idp-2,4-attention"], "groups": ["facts"]}
    changes |= {"tuning.steps": 4, "tuning.text_length": 16, "drift.length": 16, "drift.questions": 4, "shape": None}
    changes |= {"drift.windows": 2, "candidates": 4, "placebos": 8, "tasks": None}  # a hub's
    study = load_study(
        name, [f"{key}={yaml.safe_dump(value, default_flow_style=True, width=9999)}" for key, value in changes.items()]
    )
    found = studies.run(study, folder / "runs")
    variants = read_table(found, "variants")
    assert set(variants["compression"]) == {"dense", "gptq-3bit", "sparsegpt-50%"}
    tuned = variants[variants["repair"].isin(study.reported)]
    assert set(tuned["repair"]) == set(study.reported)
    assert (tuned["logit_difference"] > 1e-6).all()
    # The bank shares the steps of one prompt.
    assert set(tuned["steps"]) == {4}
    assert tuned["budget"].str.contains("steps").all()
    assert read_table(found, "recovery")["value"].notna().all()
