"""What a user brings is looked at before a weight is read, by doctor, dry runs and runs alike: one line, exit 2."""

import json
from typing import Any

import pytest
import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from analysis.__main__ import main
from analysis.reading import read_json, read_table
from analysis.resolve import notes_of
from analysis.study import load_study
from probes.models import open_model
from probes.tokens import ask_by
from tests.calling import call
from tests.tiny_models import tiny

WORDS = "<unk> <s> </s> <user> <assistant> a the of is in one goes to live lives home town man who".split()
CITIES = ["rome", "oslo", "lima"]
PEOPLE = [f"man{place}" for place in range(24)]
CHAT = "{% for turn in messages %}<user>{{ turn['content'] }}{% endfor %}<assistant>"
PHRASINGS = {
    "tune": ["the town of {subject} is", "the home of {subject} is"],
    "damage": "to live {subject} goes to",
    "measure": "one who is {subject} lives in",
}


def brought(folder, *, chat=None, answers=CITIES, missing=0, **changes):
    """A study as a user brings it: a model with a tokenizer of its own, facts, and a YAML file; gives its path."""
    names = {word: place for place, word in enumerate([*WORDS, *PEOPLE, *CITIES])}
    words = Tokenizer(models.WordLevel(names, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    tokenizer.chat_template = chat
    model = tiny("llama", vocab_size=len(names) - missing, max_position_embeddings=96)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rows = "".join(f"r,{person},{answers[place % len(answers)]}\n" for place, person in enumerate(PEOPLE))
    (folder / "facts.csv").write_text(f"relation,subject,answer\n{rows}")
    (folder / "facts.yaml").write_text(yaml.safe_dump({"r": PHRASINGS}))
    (folder / "text.txt").write_text("\n\n".join(f"{'the town of a man is home ' * 12}{one}" for one in PEOPLE))
    study = {
        "name": "brought",
        "model": str(folder / "model"),
        "facts": str(folder / "facts.csv"),
        "groups": ["facts"],
        "text": f"file:{folder / 'text.txt'}",
        "compressions": [{"method": "magnitude", "sparsity": 0.5, "samples": 2, "block_length": 32}],
        "seeds": [0],
        "repairs": [{"kind": "prompt", "length": 2, "learning_rate": 0.01}],
        "reported": ["prompt-2"],
        "tuning": {"steps": 2, "batch": 4},
        "drift": {"questions": 4, "windows": 2, "length": 16, "batch": 2},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study | changes))
    return str(folder / "study.yaml")


def said(monkeypatch, capsys, *arguments):
    """The one line with which a command refuses."""
    capsys.readouterr()  # what transformers drew while the model was saved
    code, error = call(monkeypatch, capsys, *arguments)
    assert code == 2, error
    assert len(error.strip().splitlines()) == 1, error
    return error


ADDED = "its tokenizer has 2 words past the last of its embedding's 44 rows ('oslo', 'lima')"
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "words without a row": ({"missing": 2}, ADDED),
    "answers that are unknown words": ({"answers": ["paris", "cairo"]}, "writes the answers 'cairo' and 'paris' alike"),
    "a chat model that is none": ({"template": "chat"}, "the model's tokenizer has no chat template"),
    "another way of asking": ({"template": "talk"}, "template: Input should be 'none' or 'chat'"),
    "windows past the positions": ({"drift": {"length": 97}}, "drift.length: 97 tokens behind the 2 of prompt-2"),
    "too little text": (
        {"compressions": [{"method": "magnitude", "sparsity": 0.5, "samples": 900, "block_length": 32}]},
        "asks for 900: give more text",
    ),
}


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
    assert notes_of(load_study(path)) == PLAIN
    assert notes_of(load_study(path, ["template=none"])) == notes_of(load_study(path, ["template=chat"])) == ""
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
    stored = json.loads((run / "manifest.json").read_text())["study"]["template"]
    assert stored == template
    assert ask_by(opened.tokenizer, "chat")
