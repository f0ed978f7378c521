"""Inputs: whatever stands before the content or beside it in the batch, a row is read as if it were alone."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from data.errors import InputError
from probes.inputs import build_inputs, longest_content
from probes.prompts import draw_prompt
from probes.tokens import encode, encode_continuations
from probes.variants import Variant
from tests.tiny_models import POSITIONS, VOCABULARY, WIDTH, tiny

ROWS = [[5, 9, 33, 7, 12], [40], [8, 8, 21]]
# Sums in another order: what equals but for fp32 rounding.
assert_equal = partial(torch.testing.assert_close, rtol=1e-5, atol=2e-5)


def prompts_of(model, lengths):
    return [draw_prompt(model, length, seed, "gaussian") for seed, length in enumerate(lengths)]


def read(model, inputs):
    with torch.no_grad():
        return model(**inputs.forward_arguments(), use_cache=False).logits


def read_alone(model, row, prompt=None, first=None):
    """Logits of one row by Hugging Face, nothing of ours between; `first` is the first token's position."""
    embeds = model.get_input_embeddings()(torch.tensor([row]))
    if prompt is not None:
        embeds = torch.cat([prompt[None], embeds], dim=1)
    positions = {} if first is None else {"position_ids": torch.arange(first, first + embeds.shape[1])[None]}
    with torch.no_grad():
        return model(inputs_embeds=embeds, use_cache=False, **positions).logits[0, -len(row) :]


def test_without_a_prompt_a_padded_batch_reads_as_its_token_ids_alone(model):
    inputs = build_inputs(model, ROWS)
    logits = read(model, inputs)
    for index, row in enumerate(ROWS):
        with torch.no_grad():
            alone = model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
        assert_equal(logits[index, inputs.content[index]], alone)


def test_behind_one_prompt_a_padded_batch_reads_as_its_rows_alone(model):
    prompt = draw_prompt(model, 4, seed=3)
    inputs = build_inputs(model, ROWS, [prompt] * len(ROWS))
    logits = read(model, inputs)
    for index, row in enumerate(ROWS):
        alone = read_alone(model, row, prompt)
        assert_equal(logits[index, inputs.content[index]], alone)
        assert (alone - read_alone(model, row)).abs().max() > 1e-2  # the prompt is seen


@pytest.mark.parametrize("content_start", [None, 6, 11])
def test_behind_prompts_of_many_lengths_content_starts_at_one_position(model, content_start):
    prompts = prompts_of(model, [2, 6, 3])
    inputs = build_inputs(model, ROWS, prompts, content_start=content_start)
    logits = read(model, inputs)
    start = content_start or 6
    for index, (row, prompt) in enumerate(zip(ROWS, prompts, strict=True)):
        assert inputs.position_ids[index, inputs.content[index]].tolist() == list(range(start, start + len(row)))
        alone = read_alone(model, row, prompt, first=start - len(prompt))
        assert_equal(logits[index, inputs.content[index]], alone)


@pytest.mark.parametrize("model_type", ["opt", "gpt2"])
def test_learned_positions_tell_where_content_starts(model_type):
    model = tiny(model_type)
    prompt = draw_prompt(model, 2, seed=0)
    near, far = (read(model, build_inputs(model, ROWS[:1], [prompt], content_start=start)) for start in (2, 9))
    assert (near - far).abs().max() > 1e-2


def test_a_batch_is_its_rows_built_one_by_one(model):
    prompts = prompts_of(model, [1, 5, 2])
    together = read(model, inputs := build_inputs(model, ROWS, prompts, content_start=5))
    for index, (row, prompt) in enumerate(zip(ROWS, prompts, strict=True)):
        single = build_inputs(model, [row], [prompt], content_start=5)
        assert single.attention_mask.all()
        assert_equal(together[index, inputs.content[index]], read(model, single)[0, single.content[0]])


@pytest.mark.parametrize("length", [0, 4])
def test_generate_continues_as_whole_forward_passes_do(model, length):
    prompt = draw_prompt(model, length, seed=1) if length else None
    variant = Variant("prompted", model, None, prompt=prompt)  # type: ignore[arg-type]
    row = list(ROWS[0])
    assert_equal(variant.logits([row])[0], read_alone(model, row, prompt)[-1])
    expected: list[int] = []
    for _ in range(6):
        expected.append(int(read_alone(model, row + expected, prompt)[-1].argmax()))
    assert variant.generate_rows([row], 6)[0] == expected


def test_generate_reads_no_position_that_is_not_there(model):
    variant = Variant("dense", model, None)  # type: ignore[arg-type]
    row = [5] * (POSITIONS - 3)
    assert len(variant.generate_rows([row], 4)[0]) == 4  # the fourth is said and not read
    with pytest.raises(InputError, match=f"pass the model's {POSITIONS} positions"):
        variant.generate_rows([row], 5)[0]


_LLAMA = tiny("llama")


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9)), min_size=1, max_size=5), further=st.integers(0, 9)
)
def test_layout_mask_and_positions(shapes, further):
    rows = [list(range(5, 5 + length)) for _, length in shapes]
    prompts = [torch.full((held, WIDTH), 0.5 + index) for index, (held, _) in enumerate(shapes)]
    start = max(held for held, _ in shapes) + further
    inputs = build_inputs(_LLAMA, rows, prompts, content_start=start)
    width = max(held + length for held, length in shapes)
    assert inputs.embeds.shape == (len(rows), width, WIDTH)
    assert inputs.attention_mask.sum(1).tolist() == [held + length for held, length in shapes]
    assert inputs.content.sum(1).tolist() == [length for _, length in shapes]
    for index, (held, length) in enumerate(shapes):
        pad = width - held - length
        assert inputs.attention_mask[index].tolist() == [0] * pad + [1] * (held + length)
        assert inputs.content[index].tolist() == [False] * (pad + held) + [True] * length
        assert inputs.position_ids[index, pad:].tolist() == list(range(start - held, start + length))
        assert torch.equal(inputs.embeds[index, pad : pad + held], prompts[index])
        assert torch.equal(inputs.embeds[index, pad + held :], _LLAMA.model.embed_tokens.weight[rows[index]])


def test_a_prompt_takes_the_models_dtype():
    model = tiny("llama").bfloat16()
    assert build_inputs(model, ROWS, [torch.zeros(2, WIDTH)] * 3).embeds.dtype == torch.bfloat16


def test_the_last_position_is_used_and_the_next_refused(model):
    prompt = draw_prompt(model, 4, seed=0)
    assert longest_content(model, 4) == POSITIONS - 4
    full = [5] * (POSITIONS - 4)
    assert_equal(read(model, build_inputs(model, [full], [prompt]))[0, 4:], read_alone(model, full, prompt))
    with pytest.raises(InputError, match=f"{len(full) + 1} tokens behind a prompt of 4 .* {POSITIONS} positions"):
        build_inputs(model, [[5], [*full, 5]], [prompt] * 2)


@pytest.mark.parametrize("rows", [[], [[]], [[5, 6], []]])
def test_a_text_without_tokens_is_refused(rows):
    with pytest.raises(InputError, match="no tokens"):
        build_inputs(_LLAMA, rows)


def test_what_makes_no_batch_is_refused():
    with pytest.raises(InputError, match="length 0"):
        draw_prompt(_LLAMA, 0, seed=0)
    with pytest.raises(ValueError, match="1 prompts for 3 rows"):
        build_inputs(_LLAMA, ROWS, [torch.zeros(2, WIDTH)])
    with pytest.raises(ValueError, match="inside a prompt"):
        build_inputs(_LLAMA, ROWS, [torch.zeros(4, WIDTH)] * 3, content_start=3)


def test_continuations_are_cut_where_the_answer_starts(tokenizer):
    pairs = [("the home of ada is", "london"), ("ada lives in", "oslo"), ("the home of ada is", "berliners")]
    encoded = encode_continuations(tokenizer, pairs)
    spoken = [[tokenizer.convert_ids_to_tokens(part) for part in pair] for pair in encoded]
    assert spoken == [
        ["the home of ada is".split(), ["lon", "##don"]],
        ["ada lives in".split(), ["oslo"]],
        ["the home of ada is".split(), ["ber", "##lin", "##er", "##s"]],
    ]


def test_what_a_tokenizer_puts_before_a_text_stays_with_the_question(tokenizer):
    begins = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()))
    begins.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 1)]
    )
    (question, answer), *_ = encode_continuations(begins, [("ada lives in", "london")])
    assert question == [1, *encode(tokenizer, "ada lives in")] == encode(begins, "ada lives in")
    assert answer == encode(tokenizer, "london")


@pytest.mark.parametrize(
    "pair", [("a b", "c"), ("a", "")], ids=["the answer joins the question's last token", "an answer without tokens"]
)
def test_a_boundary_that_does_not_exist_is_refused(pair):
    whole = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b c": 2, "b": 3}, unk_token="<unk>"))
    whole.pre_tokenizer = pre_tokenizers.Split("a ", "isolated")
    joining = PreTrainedTokenizerFast(tokenizer_object=whole, unk_token="<unk>")
    with pytest.raises(InputError, match="rephrase the question"):
        encode_continuations(joining, [pair])


def test_no_pairs_are_no_rows(tokenizer):
    assert encode_continuations(tokenizer, []) == []


def test_the_tiny_tokenizer_fits_the_tiny_models(tokenizer):
    assert len(tokenizer) == VOCABULARY
