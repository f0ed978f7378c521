"""A GGUF file's tokenizer: what begins and ends a text, how words are cut, which tokens play which part."""

import json

import pytest
from gguf import GGUFValueType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from data.errors import InputError
from probes.gguf_files import read_gguf
from probes.gguf_tokenizers import gguf_tokenizer
from probes.models import open_model
from tests.gguf_making import CONTROL, MERGES, NORMAL, ROWS, SPECIAL, WORDS, byte_pairs, write_gguf
from tests.tiny_models import tiny

TEXT, WHOLE, FLAG, LIST = GGUFValueType.STRING, GGUFValueType.UINT32, GGUFValueType.BOOL, GGUFValueType.ARRAY
SENTENCE = "the cat in a hat"


@pytest.fixture(scope="module")
def model():
    return tiny("llama", vocab_size=ROWS, head_dim=8)


def file_with(tmp_path, model, /, **keys):
    """A file with these keys of its tokenizer, or without those that are None."""
    prefix = "tokenizer.ggml."
    given = {prefix + name: value for name, value in keys.items() if value is not None}
    without = tuple(prefix + name for name, value in keys.items() if value is None)
    return write_gguf(tmp_path / "one.gguf", model, keys=given, without=without)


def read(path):
    return gguf_tokenizer(read_gguf(path))


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def independent(cut) -> Tokenizer:
    """The same vocabulary and merges, put together by the library's own parts."""
    merges = [(left, right) for left, right in map(str.split, MERGES)]
    made = Tokenizer(BPE({word: place for place, word in enumerate(WORDS)}, merges))
    made.pre_tokenizer, made.decoder = cut, decoders.ByteLevel()
    return made


def pieces(**keys):
    """The keys of a small SentencePiece vocabulary, as Llama 2 has it."""
    words = ["<unk>", "<s>", "</s>", *"▁ t h e c a i n o".split(), "th", "the", "▁the", "▁c", "at"]
    found = {
        "model": ("llama", TEXT),
        "tokens": (words, LIST),
        "scores": ([-float(place) for place in range(len(words))], LIST),
        "token_type": ([2, CONTROL, CONTROL] + [NORMAL] * (len(words) - 3), LIST),
    }
    return {f"tokenizer.ggml.{name}": value for name, value in (found | keys).items()}


@pytest.mark.parametrize(("flag", "first"), [(True, [0]), (False, []), (None, [])])
def test_a_text_begins_as_the_file_says(flag, first, model, tmp_path):
    told = None if flag is None else (flag, FLAG)
    path = file_with(tmp_path, model, add_bos_token=told)
    opened = open_model(str(path), dtype="float32", device="cpu")
    plain = independent(pre_tokenizers.ByteLevel(add_prefix_space=False)).encode(SENTENCE).ids
    assert opened.tokenizer(SENTENCE).input_ids == first + plain
    assert any("every text begins with '<s>'" in sentence for sentence in opened.read_beside) == bool(first)
    assert opened.tokenizer.decode(plain) == SENTENCE


def test_a_text_of_llama_2s_form_begins_with_a_token_unless_the_file_says_otherwise(model, tmp_path):
    small = tiny("llama", vocab_size=20, head_dim=8)
    assert read(write_gguf(tmp_path / "a.gguf", small, tokenizer=pieces()))[0]("the").input_ids[0] == 1
    without = pieces(add_bos_token=(False, FLAG))
    assert read(write_gguf(tmp_path / "b.gguf", small, tokenizer=without))[0]("the").input_ids[0] != 1


def test_a_text_of_llama_3s_form_begins_with_a_token_unless_the_file_says_otherwise(model, tmp_path):
    assert read(file_with(tmp_path, model, pre=("llama-bpe", TEXT)))[0]("the").input_ids[0] == 0


def test_a_text_ends_as_the_file_says(model, tmp_path):
    tokenizer, told = read(file_with(tmp_path, model, add_bos_token=(True, FLAG), add_eos_token=(True, FLAG)))
    ids = tokenizer(SENTENCE).input_ids
    assert (ids[0], ids[-1]) == (0, 1)
    assert "every text ends with '</s>'" in told


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe"])
def test_the_token_that_ends_a_text_is_not_the_one_that_begins_it(pre, model, tmp_path):
    tokenizer, _ = read(file_with(tmp_path, model, pre=(pre, TEXT)))
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == SPECIAL
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1, 2)
    assert len(tokenizer) == ROWS  # none was added behind the embedding's last row


def test_a_flag_without_its_token_is_refused(model, tmp_path):
    path = file_with(tmp_path, model, add_bos_token=(True, FLAG), bos_token_id=None)
    assert "add_bos_token is true, and the file does not say which token" in refusal(path)
    assert "eos_token_id is 999" in refusal(file_with(tmp_path, model, eos_token_id=(999, WHOLE)))


TEXTS = st.text(st.sampled_from("the cat12345'sSLLl \n\té中#user.,!?_-"), max_size=30)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS, pre=st.sampled_from(["gpt-2", "llama-bpe", "qwen2", "smollm"]))
def test_words_are_cut_as_the_file_says(text, pre, model, tmp_path):
    """By the published expressions, applied with an engine of their own: a word's tokens never reach past it."""
    regex = pytest.importorskip("regex")
    contractions = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    old = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    new = contractions + r"|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    expressions = {"gpt-2": old, "llama-bpe": new % r"\p{N}{1,3}", "qwen2": new % r"\p{N}"}
    path = file_with(tmp_path, model, pre=(pre, TEXT), add_bos_token=(False, FLAG), token_type=None)
    tokenizer, _ = read(path)
    if pre == "smollm":  # digits stand alone, and what is left between them is cut as GPT-2 cuts it
        words = [word for part in regex.split(r"(\p{N})", text) for word in regex.findall(old, part)]
    else:
        words = regex.findall(expressions[pre], text)
    assert "".join(words) == text
    plain = independent(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    if pre == "llama-bpe":
        plain.model.ignore_merges = True
    assert tokenizer(text).input_ids == [token for word in words for token in plain.encode(word).ids]


def test_llama_3_takes_a_whole_word_of_its_vocabulary_as_it_is(model, tmp_path):
    tokenizer, _ = read(file_with(tmp_path, model, pre=("llama-bpe", TEXT), merges=(["a t"], LIST)))
    assert tokenizer.convert_ids_to_tokens(tokenizer("the").input_ids[1:]) == ["the"] if "the" in WORDS else True
    assert tokenizer.convert_ids_to_tokens(tokenizer("123").input_ids[1:]) == ["123"]
    other, _ = read(file_with(tmp_path, model, merges=(["a t"], LIST)))
    assert other.convert_ids_to_tokens(other("123").input_ids) == ["1", "2", "3"]


def test_tokens_added_by_hand_are_found_in_a_text(model, tmp_path):
    tokenizer, told = read(file_with(tmp_path, model))
    assert tokenizer.convert_ids_to_tokens(tokenizer("at##user##in").input_ids) == ["at", "##user##", "in"]
    assert any("##user##" in sentence for sentence in told)


@pytest.mark.parametrize(("model_type", "pieces"), [("gpt2", ["123"]), ("qwen2", ["1", "2", "3"])])
def test_an_older_file_that_does_not_say_how_words_are_cut_is_read_as_its_family_cuts(model_type, pieces, tmp_path):
    """GPT-2 keeps a number together, which the merges then make one token; Qwen 2 cuts it into digits."""
    tokenizer, told = read(file_with(tmp_path, tiny(model_type, vocab_size=ROWS), pre=None))
    assert tokenizer.convert_ids_to_tokens(tokenizer("123").input_ids) == pieces
    assert any("words are cut as" in sentence for sentence in told)


def test_a_way_of_cutting_that_is_not_known_is_refused_and_a_tokenizer_beside_is_read(model, tmp_path):
    path = file_with(tmp_path, model, pre=("palimpsest", TEXT))
    assert "tokenizer.ggml.pre is 'palimpsest'" in refusal(path)
    assert "put the model's own tokenizer.json" in refusal(path)
    own = PreTrainedTokenizerFast(tokenizer_object=independent(pre_tokenizers.ByteLevel(add_prefix_space=False)))
    own.save_pretrained(tmp_path)
    opened = open_model(str(path), dtype="float32", device="cpu")
    assert opened.tokenizer(SENTENCE).input_ids == own(SENTENCE).input_ids
    assert any("tokenizer.json beside the file" in sentence for sentence in opened.read_beside)
    assert "is not in the file" in refusal(file_with(tmp_path, model, pre=None))


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"model": ("t5", TEXT)}, "model is 't5'"),
        ({"remove_extra_whitespaces": (True, FLAG)}, "remove_extra_whitespaces may change"),
        ({"unheard_of": (3, WHOLE)}, "unheard_of may change"),
        ({"add_space_prefix": (True, FLAG)}, "add_space_prefix is true"),
        ({"merges": (["zz qq"], LIST)}, "merges merges 'zz and qq'"),
        ({"token_type": ([1, 1], LIST)}, f"token_type gives 2 kinds for {ROWS} tokens"),
    ],
)
def test_what_changes_tokens_and_is_not_read_is_refused_by_name(keys, named, model, tmp_path):
    assert f"tokenizer.ggml.{named}" in refusal(file_with(tmp_path, model, **keys))


def test_more_words_than_the_embedding_has_rows_are_refused(tmp_path):
    small = tiny("llama", vocab_size=ROWS - 1, head_dim=8)
    assert f"lists {ROWS} words, and the model's embedding has {ROWS - 1} rows" in refusal(
        write_gguf(tmp_path / "one.gguf", small)
    )


def test_the_chat_template_is_the_files(model, tmp_path):
    template = {"tokenizer.chat_template": ("{{ messages }}", TEXT)}
    assert read(write_gguf(tmp_path / "one.gguf", model, keys=template))[0].chat_template == "{{ messages }}"
    assert read(write_gguf(tmp_path / "two.gguf", model))[0].chat_template is None


def test_pieces_become_the_tokens_that_sentencepiece_makes_of_them(tmp_path):
    spm = pytest.importorskip("sentencepiece")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(
        "\n".join(f"the cat {n} in the hat saw that thin hen, then ate {n * 7} éclairs" for n in range(60))
    )
    spm.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(tmp_path / "pieces"),
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    theirs = spm.SentencePieceProcessor(model_file=str(tmp_path / "pieces.model"))
    count = theirs.get_piece_size()
    kinds = [
        2 if theirs.is_unknown(n) else CONTROL if theirs.is_control(n) else 6 if theirs.is_byte(n) else NORMAL
        for n in range(count)
    ]
    keys = pieces(
        tokens=([theirs.id_to_piece(n) for n in range(count)], LIST),
        scores=([float(theirs.get_score(n)) for n in range(count)], LIST),
        token_type=(kinds, LIST),
    )
    path = write_gguf(tmp_path / "one.gguf", tiny("llama", vocab_size=count, head_dim=8), tokenizer=keys)
    ours, _ = read(path)
    for text in ["the cat in the hat", "then  that thin hen ate 77", " éclairs 中 \n x", "hhhh aaa ttt", ""]:
        assert ours(text).input_ids == [1, *theirs.encode(text)]
        assert ours.decode(ours(text).input_ids, skip_special_tokens=True) == text


def test_keys_of_the_file_are_what_a_writer_makes(model, tmp_path):
    stored = read_gguf(file_with(tmp_path, model)).keys
    assert {name: stored[name] for name in byte_pairs()} == {name: value for name, (value, _) in byte_pairs().items()}
    assert json.dumps(stored)
