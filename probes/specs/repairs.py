"""Repairs as frozen values: what each is, how large, and how it is spoken; banks of prompts stand beside them."""

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from probes.specs.spec import Spec, SteppedSpec

Answers = Literal["true", "masked", "shuffled"]
Targets = Literal["attention", "all"]
EncoderKind = Literal["mlp", "lstm"]


class PromptSpec(SteppedSpec):
    """One soft prompt, tuned."""

    kind: Literal["prompt"] = "prompt"
    length: int = Field(ge=1, description="number of soft tokens")
    learning_rate: float = Field(gt=0)
    answers: Answers = "true"
    """What stands where the tuning text has an answer. The other two are placebos that have seen the style and no
    fact: `masked` cuts every answer out, `shuffled` deals the answers of a relation to other subjects."""

    @property
    def name(self) -> str:
        """As spoken: `prompt-8`, `prompt-8-120steps-masked`."""
        return f"prompt-{self.length}{self._ending}" + ("" if self.answers == "true" else f"-{self.answers}")

    @property
    def drawn_as(self) -> str:
        """A prompt, or the control that was tuned without true answers."""
        return self.kind if self.answers == "true" else self.answers


class PrefixSpec(Spec):
    """Trained keys and values at every layer.

    For the budget of a prompt of n, give n x width / (2 x layers x width of a layer's keys), at least 1: a slot holds
    as many numbers as 2 x layers soft tokens where every query head has its own key head.
    """

    kind: Literal["prefix"] = "prefix"
    length: int = Field(ge=1, description="number of slots at each layer")
    learning_rate: float = Field(gt=0)
    encoder_width: int | None = Field(
        default=None, ge=1, description="inner width of the perceptron that makes them while tuned; none unless given"
    )

    @property
    def name(self) -> str:
        """As spoken: `prefix-2`, `prefix-2-mlp64`."""
        return f"prefix-{self.length}" + ("" if self.encoder_width is None else f"-mlp{self.encoder_width}")


class PTuningSpec(Spec):
    """One soft prompt that an encoder made; kept, it costs what a prompt of its length costs."""

    kind: Literal["ptuning"] = "ptuning"
    length: int = Field(ge=1, description="number of soft tokens")
    learning_rate: float = Field(gt=0)
    encoder: EncoderKind = "mlp"
    encoder_width: int | None = Field(
        default=None, ge=1, description="inner width of the encoder; the embeddings' unless given"
    )

    @property
    def name(self) -> str:
        """As spoken: `ptuning-8`, `ptuning-8-lstm`, `ptuning-8-mlp64`."""
        width = "" if self.encoder_width is None else str(self.encoder_width)
        shape = f"{self.encoder}{width}"
        return f"ptuning-{self.length}" + ("" if shape == "mlp" else f"-{shape}")


class LoraSpec(SteppedSpec):
    """Low-rank additions to the weights, tuned."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(ge=1)
    targets: Targets = "all"
    learning_rate: float = Field(gt=0)

    @property
    def name(self) -> str:
        """As spoken: `lora-r8`, `lora-r8-120steps`."""
        return f"lora-r{self.rank}{self._ending}"


VectorSpec = Annotated[PromptSpec | PrefixSpec | PTuningSpec, Field(discriminator="kind")]
"""What is kept as a few vectors: rows of numbers, a soft token or a slot each."""


class QuantisedSpec(Spec):
    """A tuned prompt or prefix kept in few bits: one scale and one minimum a vector (`probes/small_prompts.py`).

    It is made from the repair it names, which is tuned once, whether that stands in the study or not.
    """

    kind: Literal["quantised"] = "quantised"
    of: VectorSpec
    bits: Literal[2, 4, 8]

    @property
    def name(self) -> str:
        """As spoken: `prompt-8-4bit`."""
        return f"{self.of.name}-{self.bits}bit"

    @property
    def drawn_as(self) -> str:
        """What it is made from."""
        return self.of.drawn_as


class SparseSpec(Spec):
    """A tuned prompt or prefix of which the largest numbers are kept and the others are zero."""

    kind: Literal["sparse"] = "sparse"
    of: VectorSpec
    sparsity: float = Field(gt=0, lt=1, description="share of its numbers that are zero")

    @property
    def name(self) -> str:
        """As spoken: `prompt-8-sparse-50%`."""
        return f"{self.of.name}-sparse-{self.sparsity * 100:g}%"

    @property
    def drawn_as(self) -> str:
        """What it is made from."""
        return self.of.drawn_as


class TextSpec(Spec):
    """Words put before every question, untuned: what can be asked for without training anything.

    Its tokens stand before the question's as a prompt's vectors do, and the question is left as every other variant
    reads it, with whatever the tokenizer puts before a text. For equal budgets compare tokens: it adds no parameters.
    """

    kind: Literal["text"] = "text"
    text: str = Field(description="the words, as they are; no space is put behind them")

    @model_validator(mode="after")
    def _check(self) -> "TextSpec":
        if not re.search(r"\w", self.text):
            raise ValueError("text: there is no word in it; say what stands before every question")
        return self

    @property
    def name(self) -> str:
        """As spoken: `text-answer-in-one-word`, cut after five words; the study refuses two of one name."""
        return "-".join(["text", *re.findall(r"\w+", self.text.lower())[:5]])


class ReinjectionSpec(Spec):
    """What compression took from the weights, put back from the dense ones as far as a rank goes: a control.

    It adds what a LoRA of this rank over all layers adds, hence is to be compared with that one.
    """

    kind: Literal["reinjected"] = "reinjected"
    rank: int = Field(ge=1)

    @property
    def name(self) -> str:
        """As spoken."""
        return f"reinjected-r{self.rank}"


class FolderSpec(Spec):
    """A prompt, a prefix or a LoRA in a folder of peft's, made elsewhere: nobody here knows what it has read."""

    kind: Literal["adapter"] = "adapter"
    path: str = Field(min_length=1)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return f"adapter-{self.path.rstrip('/').rsplit('/', 1)[-1]}"


SmallSpec = QuantisedSpec | SparseSpec
"""What is made from a tuned prompt or prefix."""
