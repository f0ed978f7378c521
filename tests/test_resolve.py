"""What a user brings is looked at before a weight is read, by doctor, dry runs and runs alike: one line, exit 2."""

import json

import pytest
import torch

from analysis.__main__ import main
from analysis.dry_run import dry_run
from analysis.reading import read_json, read_table
from analysis.resolution import Resolution
from analysis.run import RESOLVED
from analysis.study import load_study
from probes.models import open_model
from probes.tokens import ask_by
from tests.brought_studies import ADDED, CHAT, FAULTS, PEOPLE, brought
from tests.calling import call


def said(monkeypatch, capsys, *arguments):
    """The one line with which a command refuses."""
    capsys.readouterr()  # what transformers drew while the model was saved
    code, error = call(monkeypatch, capsys, *arguments)
    assert code == 2, error
    assert len(error.strip().splitlines()) == 1, error
    return error


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("how", [["--dry-run"], []])
def test_what_a_cell_would_refuse_planning_refuses(fault, how, tmp_path, monkeypatch, capsys):
    changes, words = FAULTS[fault]
    path = brought(tmp_path, **changes)

    def opened(*_, **__):
        raise AssertionError("a weight was read first")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", opened)
    assert words in said(monkeypatch, capsys, "run", path, "--out", str(tmp_path / "runs"), *how)
    assert not (tmp_path / "runs").exists()


def test_doctor_names_words_without_a_row(tmp_path, monkeypatch, capsys):
    brought(tmp_path, missing=2)
    assert ADDED in said(monkeypatch, capsys, "doctor", str(tmp_path / "model"))


PLAIN = "the model has a chat template and is asked as plain text (template: chat asks through it)"


def test_a_chat_model_that_is_asked_as_plain_text_is_said_to_be_unless_told(tmp_path, monkeypatch, capsys):
    path = brought(tmp_path, chat=CHAT)
    assert dry_run(path, [], tmp_path).notes == (PLAIN,)
    assert dry_run(path, ["template=none"], tmp_path).notes == dry_run(path, ["template=chat"], tmp_path).notes == ()
    monkeypatch.setattr("sys.argv", ["analysis", "doctor", str(tmp_path / "model"), "--length", "8", "--batch", "1"])
    with pytest.raises(SystemExit):
        main()
    assert PLAIN in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("template", [None, "chat"])
def test_a_chat_model_is_asked_as_the_study_says(template, tmp_path, studies):
    path = brought(tmp_path, chat=CHAT, **({} if template is None else {"template": template}))
    run = studies.run(load_study(path), out=tmp_path / "runs")
    answers = read_table(run, "answers")
    variants = read_table(run, "variants").set_index("variant_id")["variant"]
    mine = answers[(answers["variant_id"].map(variants) == "dense") & (answers["reading"] == "vocabulary")]
    mine = mine[mine["phrasing"] == "measure"]
    assert len(mine) == len(PEOPLE)
    opened = open_model(str(tmp_path / "model"), dtype="float32", device="cpu")
    for row in mine.itertuples():
        question = f"one who is {row.entity} lives in"
        text = f"<user>{question}<assistant>" if template else question
        ids = torch.tensor([opened.tokenizer(text, add_special_tokens=False).input_ids])
        right = opened.tokenizer.convert_tokens_to_ids(row.answer)
        expected = float(opened.model(input_ids=ids).logits[0, -1].log_softmax(-1)[right])
        assert row.log_prob == pytest.approx(expected, abs=1e-4)
    assert set(answers["rule"]) == {"whole"}
    assert read_json(run, "manifest.json")["note"] == ("" if template else PLAIN)
    assert (PLAIN in (run / "report.md").read_text()) == (template is None)
    assert Resolution.model_validate(read_json(run, RESOLVED)) == dry_run(path, [], tmp_path).kept
    assert str(tmp_path) not in (run / RESOLVED).read_text().replace(str(tmp_path / "model"), "")  # but as asked
    stored = json.loads((run / "manifest.json").read_text())["study"]["template"]
    assert stored == template
    assert ask_by(opened.tokenizer, "chat")
