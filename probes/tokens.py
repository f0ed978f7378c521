"""Texts, questions and answers in tokens: the one place where a tokenizer is asked.

1. A tokenizer may put tokens before a text and end tokens behind it. What stands before stays; what ends a text is left
   out, since every text here is gone on from (by an answer, the next paragraph, the next token).
2. A question is asked as plain text, an answer following after a space, or (`ask_by`) as a user's turn of the
   tokenizer's own chat template, the answer beginning the assistant's: as lm-eval asks chat models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

import jinja2
from transformers import PreTrainedTokenizerBase

from data.errors import InputError

Template = Literal["none", "chat"]
"""How facts and tasks are asked: as plain text, or through the tokenizer's own chat template."""
_PROBES = ("a", "the", "1", "A.")
_ASKED_BY = "_palimpsest_asked_by"


@dataclass(frozen=True)
class Ends:
    """What a tokenizer puts around a text."""

    opening: tuple[int, ...]
    closing: tuple[int, ...]


@lru_cache(maxsize=32)
def ends_of(tokenizer: PreTrainedTokenizerBase) -> Ends:
    """The tokens before and behind every text.

    Raises:
        InputError: a text's own tokens are others with and without them, so that no boundary exists.
    """
    for probe in _PROBES:
        whole = list(tokenizer(probe).input_ids)
        own = list(tokenizer(probe, add_special_tokens=False).input_ids)
        if not own:
            continue
        for first in range(len(whole) - len(own) + 1):
            if whole[first : first + len(own)] == own:
                return Ends(tuple(whole[:first]), tuple(whole[first + len(own) :]))
        raise InputError(f"the tokenizer writes '{probe}' otherwise beside its special tokens: no text has a boundary")
    return Ends(tuple(tokenizer("").input_ids), ())


def ended_note(tokenizer: PreTrainedTokenizerBase) -> str:
    """What has to be said of a tokenizer that ends every text; empty for others."""
    closing = ends_of(tokenizer).closing
    if not closing:
        return ""
    named = " ".join(str(token) for token in tokenizer.convert_ids_to_tokens(list(closing)))
    return f"its tokenizer ends every text with {named}, which is left out: a question is gone on from"


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text with whatever the tokenizer puts before a text."""
    return _rows(tokenizer, [text])[0]


def _rows(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts as they stand, each to be gone on from."""
    if not texts:
        return []
    ending = len(ends_of(tokenizer).closing)
    return [list(row[: len(row) - ending]) for row in tokenizer(list(texts)).input_ids]


def tokens_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """The tokens of a text as the tokenizer writes them, whatever it puts before a text included."""
    return [str(token) for token in tokenizer.convert_ids_to_tokens(encode(tokenizer, text))]


def ask_by(tokenizer: PreTrainedTokenizerBase, template: Template) -> PreTrainedTokenizerBase:
    """The tokenizer, from now on asked this way: in place, so that nobody who holds it can ask otherwise.

    Raises:
        InputError: it has no chat template.
    """
    if template == "chat" and not has_template(tokenizer):
        raise InputError("template: chat, and the model's tokenizer has no chat template: leave it out, or set none")
    setattr(tokenizer, _ASKED_BY, template)
    return tokenizer


def has_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer says how its model is to be talked to."""
    return bool(getattr(tokenizer, "chat_template", None))


def asked_by(tokenizer: PreTrainedTokenizerBase) -> Template:
    """How questions are asked with this tokenizer."""
    return cast(Template, getattr(tokenizer, _ASKED_BY, "none"))


def written(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """A question as the model reads it, its special tokens spelt out where a template writes them.

    Raises:
        InputError: the template does not take a user's turn alone.
    """
    if asked_by(tokenizer) == "none":
        return question
    turn = [{"role": "user", "content": question}]
    try:
        return str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
    except (jinja2.TemplateError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"the chat template does not take a user's turn alone ({' '.join(str(error).split())[:120]}): "
            "set template: none"
        ) from error


def encode_questions(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]) -> list[list[int]]:
    """Token ids of questions, each up to where its answer begins."""
    if asked_by(tokenizer) == "none":
        return _rows(tokenizer, questions)
    return _templated(tokenizer, [written(tokenizer, question) for question in questions])


def _templated(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts in which a template has written every special token."""
    found: Any = tokenizer(list(texts), add_special_tokens=False).input_ids if texts else []
    return [list(row) for row in found]


def encode_continuations(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]]
) -> list[tuple[list[int], list[int]]]:
    """Token ids of each question and of the answer that follows it: after a space, or as the assistant's first words.

    Raises:
        InputError: when a question's tokens are not a prefix of the whole's, so that no boundary exists.
    """
    questions = list(dict.fromkeys(question for question, _ in pairs))
    openings = dict(zip(questions, encode_questions(tokenizer, questions), strict=True))
    if asked_by(tokenizer) == "none":
        wholes = _rows(tokenizer, [f"{question} {answer}" for question, answer in pairs])
    else:
        texts = {question: written(tokenizer, question) for question in questions}
        wholes = _templated(tokenizer, [f"{texts[question]}{answer}" for question, answer in pairs])
    encoded = []
    for (question, answer), whole in zip(pairs, wholes, strict=True):
        opening = openings[question]
        if whole[: len(opening)] != opening or len(whole) == len(opening):
            raise InputError(
                f"the tokenizer merges the end of '{question}' with '{answer}': rephrase the question so that "
                "the answer starts a token"
            )
        encoded.append((opening, whole[len(opening) :]))
    return encoded


def require_rows(tokenizer: PreTrainedTokenizerBase, rows: int, name: str) -> None:
    """Refuse a tokenizer that writes words for which the model's embedding has no row.

    Special tokens that no text is given (such as padding that was added later) may lie past the last row.

    Raises:
        InputError: naming the words.
    """
    special = set(tokenizer.all_special_tokens) - {tokenizer.unk_token}
    beyond = sorted(
        (place, token) for token, place in tokenizer.get_vocab().items() if place >= rows and token not in special
    )
    opening = [place for place in ends_of(tokenizer).opening if place >= rows]
    beyond += [(place, str(tokenizer.convert_ids_to_tokens(place))) for place in opening]
    if beyond:
        named = ", ".join(f"'{token}'" for _, token in beyond[:3]) + (", ..." if len(beyond) > 3 else "")
        count = "1 word" if len(beyond) == 1 else f"{len(beyond)} words"
        raise InputError(
            f"model '{name}': its tokenizer has {count} past the last of its embedding's {rows:,} rows "
            f"({named}): resize the embedding (resize_token_embeddings) and save both, or take its own tokenizer"
        )
