"""Words put before every question, untuned."""

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from probes.specs.repairs.base import Repair


class TextSpec(Repair):
    """Words put before every question, untuned: what can be asked for without training anything.

    Its tokens stand before the question's as a prompt's vectors do, and the question is left as every other variant
    reads it, with whatever the tokenizer puts before a text. For equal budgets compare tokens: it adds no parameters.
    """

    kind: Literal["text"] = "text"
    text: str = Field(
        examples=["answer in one word:"], description="the words, as they are; no space is put behind them"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not re.search(r"\w", self.text):
            raise ValueError("text: there is no word in it; say what stands before every question")
        return self

    @property
    def name(self) -> str:
        """As spoken: `text-answer-in-one-word`, cut after five words; the study refuses two of one name."""
        return "-".join(["text", *re.findall(r"\w+", self.text.lower())[:5]])

    @property
    def texts_said(self) -> tuple[str, ...]:
        """Its words."""
        return (self.text,)
