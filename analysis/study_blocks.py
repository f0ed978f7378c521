"""Blocks of a study that not every study has: where repairs are moved to, and what they have to have alike."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from probes.specs import AnyCompression, LoraSpec, PrefixSpec, PromptSpec, PTuningSpec, Spec, TransferredSpec

MOVABLE = (PromptSpec, PrefixSpec, PTuningSpec, LoraSpec)
Rule = Literal["parameters", "tokens", "steps"]


class Windows(Spec):
    """Windows of running text."""

    batch: int = Field(ge=1, description="windows per step")
    length: int = Field(ge=2, description="tokens of a window")


class Transfer(Spec):
    """Which repairs are used where they were not tuned as well; every tuned thing is made once."""

    repairs: tuple[str, ...] = Field(min_length=1)
    """Names of single repairs: prompt, prefix, p-tuning or LoRA."""
    compressions: bool = True
    """Used on every compression and on dense, wherever they were tuned."""
    relations: tuple[str, ...] = ()
    """Tuned on the facts of these relations alone as well, and asked all; none unless told."""
    text: Windows | None = None
    """Tuned on running text alone as well, this much of it a step."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.compressions or self.relations or self.text):
            raise ValueError("name what repairs are moved across: compressions, relations or text")
        return self

    def specs(
        self, repairs: Sequence[Spec], here: AnyCompression | None, compressions: Sequence[AnyCompression]
    ) -> list[TransferredSpec]:
        """What is used on one compression (None: dense) and was tuned elsewhere or on other things."""
        found = []
        for repair in repairs:
            if not isinstance(repair, MOVABLE) or repair.name not in self.repairs:
                continue
            if self.compressions:
                sources = [one for one in (None, *compressions) if one != here]
                found += [TransferredSpec(of=repair, source=source) for source in sources]
            if self.relations:
                found.append(TransferredSpec(of=repair, source=here, read=self.relations))
            if self.text is not None:
                found.append(TransferredSpec(of=repair, source=here, read="text"))
        return found


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
