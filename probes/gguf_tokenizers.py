"""The tokenizer that a GGUF file holds, with what the library's own reader drops.

That reader takes vocabulary and merges, and leaves out how words are cut before they are merged, whether a text
begins with a token, and which tokens were added by hand; and of the token that ends a text it makes the one that
begins it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from data.errors import InputError
from probes.families import gguf_readings
from probes.gguf_files import GgufFile

_PREFIX = "tokenizer.ggml."
_BESIDE = "put the model's own tokenizer.json and tokenizer_config.json beside the file, which are read instead"
_CONTROL, _USER = 3, 4
"""Kinds of tokens: those that never stand in a text as such, and those that were added by hand."""
_DIGITS_ONE = r"\p{N}"
_DIGITS_THREE = r"\p{N}{1,3}"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Llama 3 and Qwen 2 cut a text before they merge; they differ in how many digits stay together."""


def _like_gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _like_smollm() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _like_gpt2()])


def _by(digits: str) -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(_WORDS % digits), behavior="isolated", invert=False)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


@dataclass(frozen=True)
class _Cut:
    """How a family of tokenizers treats a text before it merges."""

    make: Callable[[], pre_tokenizers.PreTokenizer]
    whole: bool = False
    """A word that is in the vocabulary is taken as it is, whatever merges would make of it."""
    composed: bool = False
    """A text is brought into Unicode's composed form first."""
    begins: bool = False
    """A text begins with the begin token where the file does not say."""


_GPT2 = _Cut(_like_gpt2)
_LLAMA3 = _Cut(lambda: _by(_DIGITS_THREE), whole=True, begins=True)
_QWEN2 = _Cut(lambda: _by(_DIGITS_ONE), composed=True)
_CUTS: Mapping[str, _Cut] = {
    "gpt-2": _GPT2,
    "phi-2": _GPT2,
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama3": _LLAMA3,
    "dbrx": _Cut(lambda: _by(_DIGITS_THREE)),
    "smaug-bpe": _Cut(lambda: _by(_DIGITS_THREE)),
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "smollm": _Cut(_like_smollm),
    "starcoder": _Cut(_like_smollm),
    "refact": _Cut(_like_smollm),
}


@dataclass
class _Said:
    """The tokenizer's keys in one file."""

    file: GgufFile
    told: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def get(self, name: str, default: Any = None) -> Any:
        """A key's value."""
        self.used.add(name)
        return self.file.keys.get(_PREFIX + name, default)

    def refusal(self, name: str, why: str) -> InputError:
        """The sentence that names a key."""
        return InputError(f"model '{self.file.path}': its key {_PREFIX}{name} {why}: {_BESIDE}")


_ROLES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
_PIECES = "llama"
_UNNAMED = {"bos_token": 1, "eos_token": 2, "unk_token": 0}
"""Of SentencePiece's vocabularies, where the special tokens stand unless a file says otherwise."""
_NAMES = (
    *("eot", "eom", "seperator", "mask", "cls", "prefix", "suffix", "middle"),
    *(f"fim_{part}" for part in ("pre", "suf", "mid", "pad", "rep", "sep")),
)
"""Tokens that have a name and no part in encoding a text: of chats, of filling in, of other kinds of models."""
_HARMLESS: Mapping[str, tuple[Any, ...] | None] = {f"{name}_token_id": None for name in _NAMES} | {
    "add_sep_token": (False,),
    "remove_extra_whitespaces": (False,),
    "token_type_count": None,
    "precompiled_charsmap": ([],),
}
"""Keys that change no token, with the values of which that is true (None: all)."""


def special_ids(file: GgufFile) -> dict[str, int | None]:
    """The ids of the tokens that play a part, by the names that a tokenizer has for them."""
    unnamed = _UNNAMED if file.keys.get(f"{_PREFIX}model") == _PIECES else {}
    return {role: file.keys.get(f"{_PREFIX}{part}_token_id", unnamed.get(role)) for role, part in _ROLES.items()}


def gguf_tokenizer(file: GgufFile) -> tuple[PreTrainedTokenizerBase, tuple[str, ...]]:
    """The tokenizer that a file holds, and what of it was read beside the vocabulary, as sentences.

    Raises:
        InputError: it holds none, or one that cannot be read exactly, named.
    """
    said = _Said(file)
    tokens = said.get("tokens")
    model = said.get("model")
    if not tokens or model not in _MODELS:
        known = " and ".join(f"'{name}'" for name in _MODELS)
        raise said.refusal("model", f"is {model!r}, and tokenizers of {known} are read")
    rows = file.tensors["token_embd.weight"].shape[0]
    if len(tokens) > rows:
        raise said.refusal("tokens", f"lists {len(tokens)} words, and the model's embedding has {rows} rows")
    built, begins = _MODELS[model](said, tokens)
    _add_tokens(built, said, tokens)
    named = {role: _named(said, role, place, tokens) for role, place in special_ids(file).items()}
    flags = _flags(said, begins, named)
    _check_rest(said)
    _begin_and_end(built, named, flags)
    read = PreTrainedTokenizerFast(
        tokenizer_object=built,
        clean_up_tokenization_spaces=False,
        chat_template=file.keys.get("tokenizer.chat_template"),
        **{role: name for role, name in named.items() if name is not None},
    )
    return read, tuple(said.told)


def _bytes(said: _Said, tokens: list[str]) -> tuple[Tokenizer, bool]:
    """Byte pairs, as GPT-2, Llama 3 and Qwen have them; and whether a text begins with a token unless the file says."""
    name = said.get("pre") or gguf_readings()[said.file.architecture].cut
    if name is None or name not in _CUTS:
        why = "is not in the file, so that how it cuts words is unknown" if name is None else f"is {name!r}"
        raise said.refusal("pre", f"{why}, and {', '.join(_CUTS)} are read")
    cut = _CUTS[name]
    said.told.append(f"words are cut as '{name}' cuts them")
    vocabulary = {token: place for place, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in said.get("merges", [])]
    if odd := [one for one in merges if len(one) != 2 or not {*one, "".join(one)} <= vocabulary.keys()]:
        raise said.refusal("merges", f"merges {' and '.join(odd[0])!r}, which its vocabulary does not hold")
    built = Tokenizer(BPE(vocabulary, merges, ignore_merges=cut.whole))
    built.pre_tokenizer = cut.make()
    if cut.composed:
        built.normalizer = normalizers.NFC()
    if said.get("add_space_prefix", False):
        raise said.refusal("add_space_prefix", "is true for a tokenizer of byte pairs, which is not read here")
    built.decoder = decoders.ByteLevel()
    said.get("scores")  # of byte pairs the order of the merges decides
    return built, cut.begins


def _pieces(said: _Said, tokens: list[str]) -> tuple[Tokenizer, bool]:
    """SentencePiece's byte pairs, as Llama 2 has them: the best piece that two neighbours make is merged first."""
    scores = said.get("scores")
    if scores is None or len(scores) != len(tokens):
        raise said.refusal("scores", "does not give every token's score")
    said.get("pre")  # a text is not cut before it is merged
    if said.get("merges"):
        raise said.refusal("merges", "stands beside scores, and which of them counts is not known here")
    vocabulary = {token: place for place, token in enumerate(tokens)}
    unknown = _named(said, "unk_token", special_ids(said.file)["unk_token"], tokens)
    built = Tokenizer(
        BPE(vocabulary, _merges(vocabulary, scores), unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    spaces: list[Any] = [normalizers.Replace(" ", "▁")]
    undone: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if said.get("add_space_prefix", True):
        spaces.insert(0, normalizers.Prepend("▁"))
        undone.append(decoders.Strip(content=" ", left=1))
    built.normalizer = normalizers.Sequence(spaces)
    built.decoder = decoders.Sequence(undone)
    return built, True


def _merges(vocabulary: Mapping[str, int], scores: list[float]) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, the best pieces first."""
    found = [
        (scores[place], len(piece), piece[:cut], piece[cut:])
        for piece, place in vocabulary.items()
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    found.sort(key=lambda one: one[0], reverse=True)
    return [(left, right) for _, _, left, right in found]


_MODELS = {"gpt2": _bytes, _PIECES: _pieces}


def _add_tokens(built: Tokenizer, said: _Said, tokens: list[str]) -> None:
    """Tokens that are found in a text before it is cut: control tokens, and those added by hand."""
    kinds = said.get("token_type") or []
    if kinds and len(kinds) != len(tokens):
        raise said.refusal("token_type", f"gives {len(kinds)} kinds for {len(tokens)} tokens")
    special = [token for token, kind in zip(tokens, kinds, strict=False) if kind == _CONTROL]
    added = [token for token, kind in zip(tokens, kinds, strict=False) if kind == _USER and token]
    built.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    built.add_tokens([AddedToken(token, normalized=False, special=False) for token in added])
    if added:
        said.told.append(f"{len(added)} tokens added by hand, such as '{added[0]}'")


def _named(said: _Said, role: str, place: int | None, tokens: list[str]) -> str | None:
    """The token that plays a part."""
    key = f"{_ROLES[role]}_token_id"
    said.get(key)
    if place is None:
        return None
    if not 0 <= place < len(tokens):
        raise said.refusal(key, f"is {place}, and there are {len(tokens)} tokens")
    return tokens[place]


def _flags(said: _Said, begins: bool, named: Mapping[str, str | None]) -> dict[str, bool]:
    """Whether a text begins and ends with a token."""
    flags = {"bos_token": bool(said.get("add_bos_token", begins)), "eos_token": bool(said.get("add_eos_token", False))}
    for role, verb in (("bos_token", "begins"), ("eos_token", "ends")):
        if flags[role] and named[role] is None:
            raise said.refusal(f"add_{role}", "is true, and the file does not say which token that is")
        if flags[role]:
            said.told.append(f"every text {verb} with '{named[role]}'")
    return flags


def _begin_and_end(built: Tokenizer, named: Mapping[str, str | None], flags: Mapping[str, bool]) -> None:
    """Let the tokenizer put before and behind a text what the file asks for."""
    begin, end = (named[role] if flags[role] else None for role in ("bos_token", "eos_token"))
    around = [one for one in (begin, "$A", end) if one is not None]
    pair = [*around, *(one for one in (begin, "$B", end) if one is not None)]
    places = [(one, built.token_to_id(one)) for one in dict.fromkeys((begin, end)) if one is not None]
    if places:
        built.post_processor = processors.TemplateProcessing(single=around, pair=pair, special_tokens=places)


def _check_rest(said: _Said) -> None:
    """Refuse whatever else the file says of its tokenizer, unless it changes no token."""
    for key, value in said.file.keys.items():
        name = key.removeprefix(_PREFIX)
        if not key.startswith(_PREFIX) or name in said.used:
            continue
        allowed = _HARMLESS.get(name, ())
        if allowed is not None and value not in allowed:
            raise said.refusal(name, "may change how a text becomes tokens, and is not read here")
