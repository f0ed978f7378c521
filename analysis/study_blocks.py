"""Blocks of a study that not every study has.

Where repairs are moved to, what they have to have alike, how much of each is needed, and the tasks and texts that
variants are scored on.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from data.names import read_name
from data.task_names import PAPER_NINE, TEXTS
from probes.specs.compression import AnyCompression
from probes.specs.repairs.base import NamedRepair, Repair
from probes.specs.repairs.transferred import TransferredSpec
from probes.specs.spec import Spec

Rule = Literal["parameters", "tokens", "steps"]
Name = Annotated[str, AfterValidator(read_name)]
"""A name of the facts, in the form in which they keep it."""


class Windows(Spec):
    """Windows of running text."""

    batch: int = Field(ge=1, description="windows per step")
    length: int = Field(ge=2, description="tokens of a window")


class Transfer(Spec):
    """Which repairs are used where they were not tuned as well; every tuned thing is made once."""

    repairs: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Names of single repairs: prompt, prefix, p-tuning or LoRA; the first prompt unless told."""
    compressions: bool = True
    """Used on every compression and on dense, wherever they were tuned."""
    relations: tuple[Name, ...] = ()
    """Tuned on the facts of these relations alone as well, and asked all; none unless told."""
    text: Windows | None = None
    """Tuned on running text alone as well, this much of it a step."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.compressions or self.relations or self.text):
            raise ValueError("name what repairs are moved across: compressions, relations or text")
        return self

    def specs(
        self, repairs: Sequence[Repair], here: AnyCompression | None, compressions: Sequence[AnyCompression]
    ) -> list[TransferredSpec]:
        """The repairs as used on one compression (None: dense), tuned elsewhere or on other things."""
        found = []
        for repair in repairs:
            if self.compressions:
                sources = [one for one in (None, *compressions) if one != here]
                found += [TransferredSpec(of=repair, source=source) for source in sources]
            if self.relations:
                found.append(TransferredSpec(of=repair, source=here, read=self.relations))
            if self.text is not None:
                found.append(TransferredSpec(of=repair, source=here, read="text"))
        return found


class Ablations(Spec):
    """Repairs of more or less of one thing, beside the study's own: on one compression, in the first replicate.

    They are answered apart, in the scope `ablations`; drift, tasks, the budget and the verdict leave them out.
    """

    compression: str | None = None
    """Name of one of the study's compressions; the first unless told."""
    repairs: tuple[NamedRepair, ...] = Field(min_length=1)


class Budget(Spec):
    """What every tuned repair of a study has alike, each taken as a whole: a bank's prompts and its adapter share it.

    steps       a repair of m parts tunes each for the m-th of `tuning.steps`
    tokens      a part of m tunes until it has read the m-th of what a single prompt reads in `tuning.steps`
    parameters  sizes are checked against those of the repair `to`, and a study that misses them is refused
    """

    equal: tuple[Rule, ...] = Field(min_length=1)
    to: str | None = None
    """Name of the repair that sizes are compared with; the first prompt unless told."""
    tolerance: float = Field(default=0.05, ge=0, lt=1)
    """Largest difference that counts as equal, as a share of that repair's parameters or tokens."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if {"steps", "tokens"} <= set(self.equal):
            raise ValueError("equal: tokens decide how many steps there are; name one of steps and tokens")
        return self


OWN_TEXT = "text"
"""Among the texts of perplexity: the held-out part of the study's own."""


class Perplexity(Spec):
    """Texts whose perplexity is taken, every token scored once, in windows that a prompt shortens."""

    texts: tuple[str, ...] = Field(default=(OWN_TEXT,), min_length=1)
    """`text`, or of a hub wikitext, ptb, c4."""
    window: int = Field(default=512, ge=2, description="tokens read at once, the prompt's not counted")
    documents: int = Field(default=64, ge=2, description="documents of each text at most; the first ones")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if unknown := set(self.texts) - {OWN_TEXT, *TEXTS}:
            there = ", ".join((OWN_TEXT, *TEXTS))
            raise ValueError(f"texts: there is no {', '.join(sorted(unknown))}; there are {there}")
        return self


class Tasks(Spec):
    """Standard tasks that variants are scored on through lm-eval, and the perplexity beside them."""

    names: tuple[str, ...] | None = None
    """lm-eval's names, or `paper-nine`; without them every file of the folder, or `paper-nine` where none is given."""
    files: str | None = None
    """A folder of JSONL files, one task each, where no hub is reached (see `data/task_files.py`); `atlas` ships."""
    items: int | None = Field(default=300, ge=2, description="items of each task at most, drawn with the seed")
    seed: int = 0
    batch: int = Field(default=16, ge=1, description="contexts per pass")
    other_batch: int | None = Field(
        default=3, ge=1, description="contexts per pass of the plan that dense is scored in again, for the floor"
    )
    replicates: int = Field(default=1, ge=1, description="the first so many seeds of the study")
    repairs: tuple[str, ...] | None = None
    """Arms scored, by name; all that can read a text unless told."""
    perplexity: Perplexity | None = Perplexity()

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, given: object) -> object:
        if isinstance(given, dict) and isinstance(given.get("names"), str):
            return given | {"names": [given["names"]]}
        return given

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.names is not None and not self.names:
            raise ValueError(f"names: name a task, or {PAPER_NINE}")
        if self.other_batch == self.batch:
            raise ValueError("other_batch: it is the batch itself; give another number, or null for no floor")
        return self
