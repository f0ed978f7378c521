"""A tokenizer is asked in one place: what it puts around a text, how a chat model is asked, and which words it has."""

import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from analysis.work_tasks import score_task
from data.errors import InputError
from data.tasks import find_tasks
from probes.inputs import build_inputs
from probes.lm_eval_adapter import VariantLM
from probes.scoring import score
from probes.tokens import (
    ask_by,
    encode,
    encode_continuations,
    encode_questions,
    ended_note,
    ends_of,
    require_rows,
    tokens_of,
    written,
)
from probes.tuning import encode_blocks, statement_rows
from probes.variants import Variant
from tests.asking import asked
from tests.tiny_models import VOCABULARY, tiny

SPECIAL = {"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 3, "<user>": 4, "<assistant>": 5}
WORDS = "the capital of france is paris oslo where it york city hall lima bergen a".split()
FORMS = {"$A": ((), ()), "$A </s>": ((), (2,)), "<s> $A": ((1,), ()), "<s> $A </s>": ((1,), (2,))}
CHAT = (
    "{% for turn in messages %}<user>{{ turn['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tokenizer_of(form="$A", chat=None):
    """A tokenizer of whole words that puts around a text what its form says."""
    names = SPECIAL | {word: len(SPECIAL) + place for place, word in enumerate(WORDS)}
    words = Tokenizer(models.WordLevel(names, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(form, special_tokens=[("<s>", 1), ("</s>", 2)])
    found = PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<user>", "<assistant>"],
    )
    found.chat_template = chat
    return found


def ids(*words):
    """Token ids by hand."""
    return [(SPECIAL | {word: len(SPECIAL) + place for place, word in enumerate(WORDS)})[word] for word in words]


@pytest.mark.parametrize("form", FORMS)
def test_what_ends_a_text_is_left_out_and_what_opens_it_is_kept(form):
    tokenizer, (opening, closing) = tokenizer_of(form), FORMS[form]
    assert (ends_of(tokenizer).opening, ends_of(tokenizer).closing) == (opening, closing)
    question = ids("the", "capital", "of", "france", "is")
    assert encode(tokenizer, "the capital of france is") == [*opening, *question]
    assert encode_questions(tokenizer, ["where is it", "it"]) == [
        [*opening, *ids("where", "is", "it")],
        [*opening, *ids("it")],
    ]
    ((before, answer),) = encode_continuations(tokenizer, [("the capital of france is", "paris city")])
    assert (before, answer) == ([*opening, *question], ids("paris", "city"))
    (row,) = statement_rows(tokenizer, [("where is it", "oslo")])
    assert row.tokens == (*opening, *ids("where", "is", "it", "oslo"))
    assert encode_blocks(tokenizer, ["paris is", "oslo it"], 2)[0] == [*opening, *ids("paris", "is")][:2]
    assert all(token != "</s>" for token in tokens_of(tokenizer, "paris"))
    assert ("ends every text with </s>" in ended_note(tokenizer)) == bool(closing)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(FORMS)), st.lists(st.sampled_from(WORDS), min_size=2, max_size=8), st.data())
def test_question_and_answer_are_the_text_that_they_make(form, words, data):
    tokenizer, (opening, _) = tokenizer_of(form), FORMS[form]
    cut = data.draw(st.integers(1, len(words) - 1))
    pair = (" ".join(words[:cut]), " ".join(words[cut:]))
    ((before, answer),) = encode_continuations(tokenizer, [pair])
    assert [*before, *answer] == encode(tokenizer, " ".join(words)) == [*opening, *ids(*words)]


def test_a_model_behind_an_ending_tokenizer_scores_what_it_scores_behind_a_plain_one():
    items = [asked("oslo")]
    plain, ending = (
        score(Variant("v", tiny("llama"), tokenizer_of(form)), items)[0].log_probs for form in ("$A", "$A </s>")
    )
    assert plain == ending


def test_a_chat_model_is_asked_through_its_own_template():
    tokenizer = ask_by(tokenizer_of("<s> $A", CHAT), "chat")
    assert written(tokenizer, "where is it") == "<user>where is it<assistant>"
    assert encode_questions(tokenizer, ["where is it"]) == [ids("<user>", "where", "is", "it", "<assistant>")]
    assert encode_continuations(tokenizer, [("where is it", "york city")]) == [
        (ids("<user>", "where", "is", "it", "<assistant>"), ids("york", "city"))
    ]
    (row,) = statement_rows(tokenizer, [("where is it", "oslo")])  # a repair is tuned in the form in which it is asked
    assert row.tokens == tuple(ids("<user>", "where", "is", "it", "<assistant>", "oslo"))
    assert encode(tokenizer, "paris is") == ids("<s>", "paris", "is")  # running text is no question
    ask_by(tokenizer, "none")
    assert encode_questions(tokenizer, ["where is it"]) == [ids("<s>", "where", "is", "it")]


def test_scores_through_a_template_are_those_of_plain_transformers():
    model, tokenizer = tiny("llama"), ask_by(tokenizer_of("<s> $A", CHAT), "chat")
    (found,) = score(Variant("v", model, tokenizer), [asked("oslo")])
    row = torch.tensor([ids("<user>", "where", "is", "it", "<assistant>")])
    expected = model(input_ids=row).logits[0, -1].log_softmax(-1).tolist()
    assert found.log_probs[3] == pytest.approx(expected[ids("oslo")[0]], abs=1e-5)


def test_a_tokenizer_without_a_template_is_not_asked_by_one():
    with pytest.raises(InputError, match="template: chat, and the model's tokenizer has no chat template"):
        ask_by(tokenizer_of(), "chat")


def test_a_template_that_takes_no_lone_user_is_one_line():
    needs_system = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('system first') }}{% endif %}"
    tokenizer = ask_by(tokenizer_of(chat=needs_system), "chat")
    with pytest.raises(InputError, match=r"does not take a user's turn alone .*system first.*: set template: none"):
        encode_questions(tokenizer, ["it"])


@pytest.mark.parametrize("added", [["kraków"], ["kraków", "łódź", "gdańsk", "opole"]])
def test_words_past_the_embedding_are_named_before_anything_is_read(added):
    tokenizer = tokenizer_of()
    require_rows(tokenizer, len(tokenizer), "tiny")
    rows = len(tokenizer)
    tokenizer.add_tokens(added)
    with pytest.raises(InputError) as told:
        require_rows(tokenizer, rows, "tiny")
    words = "word" if len(added) == 1 else "words"
    assert f"has {len(added)} {words} past the last of its embedding's {rows} rows" in str(told.value)
    assert all(f"'{word}'" in str(told.value) for word in added[:3])


def test_padding_past_the_embedding_is_no_word():
    tokenizer = tokenizer_of()
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<padding>"})
    assert tokenizer.pad_token_id == rows
    require_rows(tokenizer, rows, "tiny")


def test_a_token_past_the_embedding_is_one_line_wherever_it_comes_from():
    with pytest.raises(
        InputError, match=re.escape(f"token {VOCABULARY} and the model's embedding has {VOCABULARY} rows")
    ):
        build_inputs(tiny("llama"), [[5, VOCABULARY]])


ITEMS = [
    {"question": "where is paris", "choices": ["the city", "it is oslo", "france"], "answer": 2},
    {"question": "the capital of france is", "choices": ["paris city", "oslo"], "answer": 0},
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("template", ["none", "chat"])
def test_tasks_are_asked_as_lm_evals_own_model_asks_them(form, template, tmp_path):
    """Where a tokenizer ends every text, lm-eval's model scores what follows the end: there the plain form is right."""
    (tmp_path / "toy.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    (source,) = find_tasks(None, str(tmp_path))
    model = tiny("llama")
    right = ask_by(tokenizer_of(form.removesuffix(" </s>"), CHAT), template)
    theirs = score_task(HFLM(pretrained=model, tokenizer=right, batch_size=1), source, None, 0)
    tokenizer = ask_by(tokenizer_of(form, CHAT), template)
    ours = score_task(VariantLM(Variant("v", model, tokenizer)), source, None, 0)
    for own, other in zip(ours["log_probs"], theirs["log_probs"], strict=True):
        assert list(own) == pytest.approx(list(other), abs=1e-4)
    assert list(ours["choice"]) == list(theirs["choice"])
