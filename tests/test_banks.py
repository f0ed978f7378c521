"""Banks: who reads what is as planted, the alike are dropped, texts are what they say, and files keep everything."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open

from data.atlas import load_world
from data.errors import InputError
from probes.banks import cluster_rows, least_alike, questions_of, relation_rows
from probes.models import open_model
from probes.prompts import STORED_NAME, draw_prompt, load_prompts, save_prompts, text_prompts
from probes.repairs.bank import tuning_clusters
from probes.specs.repairs.idp import IdpSpec
from probes.tokens import encode, tokens_of
from probes.tuning import TuningRow
from probes.variants import Variant
from tests.tiny_models import tiny


def rows_about(words, count=12):
    """Rows that say one of these words over and over, then an answer."""
    return [
        TuningRow((words[place % len(words)],) * (3 + place % 2) + (50 + place % 9,), 3 + place % 2)
        for place in range(count)
    ]


def test_clusters_are_the_planted_ones(model):
    rows, words = rows_about((5, 20, 40)), np.arange(12) % 3
    found = cluster_rows(model, rows, 3, seed=0)
    assert len(set(zip(words.tolist(), found.label.tolist(), strict=True))) == 3
    for place in range(3):
        own = [questions_of(rows)[index] for index in np.flatnonzero(found.label == place)]
        expected = model.get_input_embeddings()(torch.tensor(own[0][0]))
        torch.testing.assert_close(found.centres[place], expected.detach(), rtol=1e-5, atol=1e-5)
    again = cluster_rows(model, rows, 3, seed=0)
    assert (again.label == found.label).all()


def test_the_answer_has_no_say_in_the_cluster():
    rows = [TuningRow((5, 6, answer), 2) for answer in range(40, 50)]
    with pytest.raises(InputError, match="fewer than 2 different"):
        cluster_rows(tiny("llama"), rows, 2, seed=0)


def test_relations_divide_the_rows_by_name():
    rows = rows_about((5, 20), 4)
    found = relation_rows(tiny("llama"), rows, ["plays", "born", "plays", "born"])
    assert found.label.tolist() == [1, 0, 1, 0]


def test_each_prompt_of_a_relation_bank_reads_its_relation_alone():
    facts = load_world().facts
    opened = open_model("atlas", dtype="float32", device="cpu")
    rows, clusters = tuning_clusters(opened, facts, ["locked"], "relations", 4, 0)
    relations = sorted(facts.relations)
    answers = {name: {fact.answer for fact in facts.facts if fact.relation == name} for name in relations}
    for row, label in zip(rows, clusters.label, strict=True):
        assert str(opened.tokenizer.decode(list(row.tokens[row.scored_from :]))).strip() in answers[relations[label]]
    assert len(rows) == 2 * len(facts.select(["locked"], "tune"))


def test_of_prompts_that_agree_the_worse_goes():
    said = np.array([[0, 0, 1], [1, 1, 0], [2, 2, 2], [0, 1, 1]])  # the first two agree on three of four
    correct = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1]], dtype=bool)
    assert least_alike(correct, said, 2) == [1, 2]
    assert least_alike(correct[:, [1, 0, 2]], said[:, [1, 0, 2]], 2) == [0, 2]
    assert least_alike(correct, said, 3) == [0, 1, 2]
    assert least_alike(correct[:, [0, 0]], said[:, [0, 0]], 1) == [0]


def test_a_prompt_of_a_text_is_that_text_read(model, tokenizer):
    (prompt, other) = text_prompts(model, tokenizer, ["ada lives in", "the town of"])
    row = encode(tokenizer, "bruno works near")
    behind = Variant("text", model, tokenizer, prompt=prompt).logits([row])
    plain = Variant("plain", model, tokenizer).logits([encode(tokenizer, "ada lives in bruno works near")])
    torch.testing.assert_close(behind, plain, rtol=1e-5, atol=2e-5)
    assert other.shape == prompt.shape
    with pytest.raises(InputError, match="no tokens"):
        text_prompts(model, tokenizer, ["ada", ""])


def test_a_bank_of_many_lengths_is_one_file(tmp_path):
    model = tiny("llama")
    prompts = [draw_prompt(model, 1 + place % 4, place) for place in range(12)]
    path = tmp_path / "bank.safetensors"
    save_prompts(prompts, path, {"bank": "relations"})
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(load_prompts(path), prompts, strict=True))
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"bank": "relations"}
    save_prompts(prompts[:1], path)
    with safe_open(path, framework="pt") as file:
        assert "bank" not in (file.metadata() or {})


def test_a_bank_of_several_widths_is_neither_saved_nor_loaded(tmp_path):
    from safetensors.torch import save_file

    narrow, wide, path = torch.zeros(2, 4), torch.zeros(2, 5), tmp_path / "bank.safetensors"
    with pytest.raises(InputError, match="widths 4, 5"):
        save_prompts([narrow, wide], path)
    save_file({f"{STORED_NAME}.0": narrow, f"{STORED_NAME}.1": wide}, path)
    with pytest.raises(InputError, match="widths 4, 5"):
        load_prompts(path)
    save_file({"something": narrow}, path)
    with pytest.raises(InputError, match="not a file of soft prompts"):
        load_prompts(path)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"lengths": (8, 8, 8)}, "idp-3x8-attention"),
        ({"lengths": (4, 16), "selector": "random"}, "idp-4,16-random"),
        ({"lengths": (8, 8, 8), "selector": "router"}, "idp-3x8-router"),
        ({"lengths": (8, 8), "selector": "router", "states": "last"}, "idp-2x8-router-last"),
        ({"lengths": (8, 8), "bank": "clusters", "selector": "cluster"}, "idp-2x8-clusters-cluster"),
        ({"lengths": (8, 8), "bank": "diverse", "candidates": 5}, "idp-2x8-diverse-attention"),
        (
            {"lengths": (8, 8), "layers": (0, 2), "heads": (1,), "softmax": "separate"},
            "idp-2x8-attention-l0,2-h1-separate",
        ),
        ({"texts": ("one", "two"), "bank": "texts", "learning_rate": None}, "idp-2-texts-attention"),
    ],
)
def test_banks_are_named_as_spoken(fields, name):
    assert IdpSpec(**({"learning_rate": 0.03} | fields)).name == name


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"lengths": (8,)}, "two lengths or more"),
        ({"lengths": (8, 0)}, "length of 1 or more|lengths of 1 or more"),
        ({"lengths": (8, 8), "learning_rate": None}, "learning_rate"),
        ({"lengths": (8, 8), "texts": ("a", "b")}, "bank: texts"),
        ({"lengths": (8, 8), "bank": "texts", "texts": ("a", "b")}, "not tuned"),
        ({"bank": "texts", "texts": ("a",), "learning_rate": None}, "two texts"),
        ({"lengths": (8, 8), "bank": "diverse"}, "candidates"),
        ({"lengths": (8, 8), "bank": "diverse", "candidates": 2}, "more candidates than it keeps"),
        ({"lengths": (8, 8), "selector": "cluster"}, "bank relations or clusters"),
    ],
)
def test_a_bank_that_contradicts_itself_is_refused(fields, said):
    with pytest.raises(ValidationError, match=said):
        IdpSpec(**({"learning_rate": 0.03} | fields))


def test_a_text_is_the_same_tokens_written_in_front(model, tokenizer):
    rows = [[5, 9, 33, 7, 12], [40], [8, 8, 21]]
    told = Variant("text", model, tokenizer, prompt=text_prompts(model, tokenizer, ["ada lives in london"])[0])
    front = encode(tokenizer, "ada lives in london")
    written = Variant("dense", model, tokenizer).logits([[*front, *row] for row in rows])
    torch.testing.assert_close(told.logits(rows), written, rtol=1e-5, atol=2e-5)
    assert tokens_of(tokenizer, "ada lives in london") == ["ada", "lives", "in", "lon", "##don"]
