"""lm-eval through the adapter: its own model's numbers for dense, a plain single pass's for every other variant."""

from functools import partial

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel

from data.errors import InputError
from probes.idp import PromptBank
from probes.inputs import build_inputs
from probes.lm_eval_adapter import VariantLM
from probes.lora import adapted
from probes.prefix_tuning import TunedPrefix, draw_prefix
from probes.prompts import draw_prompt
from probes.selection.attention import Selector
from probes.variants import Variant
from tests.byte_tokens import byte_tokenizer
from tests.sequences import shifted_lora
from tests.tiny_models import POSITIONS, tiny

assert_equal = partial(torch.testing.assert_close, rtol=0, atol=1e-4)
KINDS = ("plain", "prompt", "prefix", "idp", "lora")
LONG = " ".join(f"w{41 + place % 20}" for place in range(POSITIONS + 20))
PAIRS = [
    ("ada lives in", " oslo"),
    ("ada lives in", " berliners"),
    ("ada lives in ", "london"),
    ("the home of bruno is near the town of", " paris oslo turin"),
    ("celia", " works"),
    ("", "dario was born"),
    (LONG, " oslo"),
    (LONG + " town", " berliners turin"),
    ("celia", " oslo turin paris"),
    ("celia", " " + " ".join(LONG.split()[:18])),  # read apart from the shorter ones
    ("ada lives in", " " + " ".join(LONG.split()[3:25])),
]


def requests_of(pairs, kind="loglikelihood") -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=pair, idx=0) for pair in pairs]


def variant_of(kind: str, model: PreTrainedModel, tokenizer) -> Variant:
    if kind == "prompt":
        return Variant(kind, model, tokenizer, prompt=draw_prompt(model, 3, seed=2))
    if kind == "prefix":
        return Variant(kind, model, tokenizer, prefix=TunedPrefix(draw_prefix(model, 2, seed=1), model))
    if kind == "idp":
        prompts = [draw_prompt(model, length, length) for length in (2, 5, 3)]
        return Variant(kind, model, tokenizer, bank=PromptBank(model, prompts, Selector()))
    return Variant(kind, adapted(shifted_lora(model)) if kind == "lora" else model, tokenizer)


def by_hand(variant: Variant, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """One full pass over prompt, context and continuation, one row, nothing cached; the last token is never read."""
    row = [*context, *continuation[:-1]]
    if variant.prefix is not None:
        inputs = build_inputs(variant.model, [row], [variant.prefix.placeholder])
        arguments = inputs.forward_arguments()
    else:
        prompt, first = variant.prompt, 0
        if variant.bank is not None:
            kept = int(variant.bank.choose([context])[0])
            prompt, first = variant.bank.prompts[kept], variant.bank.longest - len(variant.bank.prompts[kept])
        embeds = variant.model.get_input_embeddings()(torch.tensor(row))
        embeds = embeds if prompt is None else torch.cat([prompt, embeds])
        positions = torch.arange(first, first + len(embeds))[None]
        arguments = {"inputs_embeds": embeds[None], "position_ids": positions}
    with torch.no_grad():
        logits = variant.model(**arguments, use_cache=False).logits[0][-len(row) :].double().log_softmax(-1)
    told = list(zip(logits[len(context) - 1 :], continuation, strict=True))
    return sum(float(one[token]) for one, token in told), all(int(one.argmax()) == token for one, token in told)


def test_dense_is_scored_as_lm_eval_scores_it(model, tokenizer):
    asked = requests_of(PAIRS)
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3).loglikelihood(asked, disable_tqdm=True)
    lm = VariantLM(Variant("dense", model, tokenizer), batch=3)
    ours = lm.loglikelihood(asked)
    assert_equal([one[0] for one in ours], [one[0] for one in theirs])
    assert [one[1] for one in ours] == [one[1] for one in theirs]
    # 84 tokens and one to be scored into 64 read; 85 and five, the last of which is not read.
    assert lm.cut == {PAIRS[6]: 20, PAIRS[7]: 25}


@pytest.mark.parametrize("kind", KINDS)
def test_every_variant_is_scored_as_by_hand(kind, tokenizer):
    variant = variant_of(kind, tiny("llama").requires_grad_(False), tokenizer)
    lm = VariantLM(variant, batch=3)
    noted: list[tuple] = []
    inner = lm._loglikelihood_tokens

    def noting(asked, **rest):
        noted.extend(asked)
        return inner(asked, **rest)

    lm._loglikelihood_tokens = noting  # type: ignore[method-assign, assignment]
    scored = lm.loglikelihood(requests_of(PAIRS))
    prompt = {"plain": 0, "prompt": 3, "prefix": 2, "idp": 5, "lora": 0}[kind]
    assert lm.max_length == POSITIONS - prompt
    for (_, context, continuation), found in zip(noted, scored, strict=True):
        room = POSITIONS - prompt + 1 - len(continuation)
        total, greedy = by_hand(variant, context[-room:], continuation)
        assert_equal(found[0], total)
        assert found[1] == greedy


@pytest.mark.parametrize("opening", [False, True])
def test_tokens_are_lm_evals_own(opening):
    own = byte_tokenizer(opening)
    model = tiny("llama", vocab_size=len(own))
    pairs = [
        ("aa", " ab"),
        ("aa  ", "ab"),
        ("aa ", " ab"),
        ("", " abc"),
        ("<bos>ab", "c"),
        ("xyz\n", "ab"),
        ("b", "c d"),
    ]
    found = []
    for lm in (HFLM(pretrained=model, tokenizer=own), VariantLM(Variant("dense", model, own))):
        noted: list[tuple] = []
        lm._loglikelihood_tokens = lambda asked, noted=noted, **rest: noted.extend(asked) or []  # type: ignore
        lm.loglikelihood(requests_of(pairs[:-1]), disable_tqdm=True)
        found.append(noted)
    assert found[0] == found[1]
    merged = VariantLM(Variant("dense", model, own))
    with pytest.raises(InputError, match="leaves nothing of 'c' after 'b'"):
        merged.loglikelihood(requests_of([("b", "c")]))


def test_idp_chooses_from_the_context_whatever_is_scored(tokenizer):
    variant = variant_of("idp", tiny("llama").requires_grad_(False), tokenizer)
    contexts = [f"{name} {verb}" for name in ("ada", "bruno", "celia", "dario") for verb in ("lives in", "works near")]
    answers = (" oslo", " berliners", " turin paris town", " ada")
    lm = VariantLM(variant, batch=2)
    lm.loglikelihood(requests_of([(context, answer) for context in contexts for answer in answers]))
    assert variant.bank is not None
    for context in contexts:
        alone = int(variant.bank.choose([tokenizer(context).input_ids])[0])
        assert {lm.chosen[context, answer] for answer in answers} == {alone}
    assert len(set(lm.chosen.values())) > 1  # else the choice could not be seen to hold


@pytest.mark.parametrize("kind", KINDS)
def test_rolling_scores_every_token_once_in_windows_less_the_prompt(kind, tokenizer):
    variant = variant_of(kind, tiny("gpt2").requires_grad_(False), tokenizer)
    lm = VariantLM(variant, batch=4, window=30)
    tokens = tokenizer(LONG).input_ids
    windows = lm.windows(LONG)
    assert [token for _, scored in windows for token in scored] == tokens
    assert all(len(context) + len(scored) - 1 <= lm.max_length == 30 for context, scored in windows)
    expected = sum(by_hand(variant, list(context), list(scored))[0] for context, scored in windows)
    ((total, counted),) = lm.rolled([LONG])
    assert counted == len(tokens)
    assert total == pytest.approx(expected, abs=1e-3)
    whole = VariantLM(variant)
    assert whole.max_length == POSITIONS - (0 if variant.prefixes is None else variant.prefixes.longest)


def test_rolling_of_dense_is_lm_evals(model, tokenizer):
    asked = requests_of([(LONG,), ("ada lives in oslo",)], "loglikelihood_rolling")
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2, max_length=25).loglikelihood_rolling(asked)
    ours = VariantLM(Variant("dense", model, tokenizer), batch=2, window=25).loglikelihood_rolling(asked)
    torch.testing.assert_close(ours, [float(one) for one in theirs], rtol=1e-5, atol=1e-3)


SETTINGS = {"until": ["oslo", "town"], "do_sample": False, "max_gen_toks": 9}
CONTEXTS = ["ada lives in", "the home of bruno is near the town of", "celia", LONG, "dario was born"]


def test_dense_says_what_lm_eval_lets_it_say(model, tokenizer):
    asked = requests_of([(context, dict(SETTINGS)) for context in CONTEXTS], "generate_until")
    # One at a time: lm-eval cuts a batch by its longest row.
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1).generate_until(asked, disable_tqdm=True)
    lm = VariantLM(Variant("dense", model, tokenizer), batch=3)
    assert lm.generate_until(asked) == theirs
    assert lm.cut == {(LONG, ""): 84 - (POSITIONS - 9)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_variant_says_in_a_batch_what_it_says_alone(kind, tokenizer):
    variant = variant_of(kind, tiny("opt").requires_grad_(False), tokenizer)
    lm = VariantLM(variant, batch=4)
    never = {"until": ["no such word"], "max_gen_toks": 6}
    short = [context for context in CONTEXTS if context != LONG]
    said = lm.generate_until(requests_of([(context, dict(never)) for context in short], "generate_until"))
    for context, text in zip(short, said, strict=True):
        alone = variant.generate_rows([tokenizer(context).input_ids], 6)[0]
        ended = alone.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in alone else 6
        assert text == tokenizer.decode(alone[:ended], skip_special_tokens=True)
        if variant.bank is not None:
            assert lm.chosen[context, ""] == int(variant.bank.choose([tokenizer(context).input_ids])[0])


def test_what_cannot_be_scored_is_said(tokenizer):
    lm = VariantLM(variant_of("prompt", tiny("llama").requires_grad_(False), tokenizer))
    with pytest.raises(InputError, match=r"an answer of 84 tokens .* longer than the 61"):
        lm.loglikelihood(requests_of([("ada", " " + LONG)]))
    with pytest.raises(InputError, match="asks for sampled text"):
        lm.generate_until(requests_of([("ada", {"do_sample": True, "temperature": 1.0})], "generate_until"))
    with pytest.raises(InputError, match="asks for 61 new tokens and the model has room for 61"):
        lm.generate_until(requests_of([("ada", {"max_gen_toks": 61})], "generate_until"))
