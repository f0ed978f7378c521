"""One soft prompt, tuned."""

from typing import Literal

from pydantic import Field

from probes.specs.repairs.base import Answers, SteppedRepair


class PromptSpec(SteppedRepair):
    """One soft prompt, tuned."""

    kind: Literal["prompt"] = "prompt"
    length: int = Field(ge=1, title="Tokens", examples=[8], description="number of soft tokens")
    learning_rate: float = Field(gt=0, examples=[0.03])
    answers: Answers = "true"
    """What stands where the tuning text has an answer. The other two are placebos that have seen the style and no
    fact: `masked` cuts every answer out, `shuffled` deals the answers of a relation to other subjects."""

    of_vectors = True
    sized_by = "length"

    @property
    def name(self) -> str:
        """As spoken: `prompt-8`, `prompt-8-120steps-masked`."""
        return f"prompt-{self.length}{self._ending}" + ("" if self.answers == "true" else f"-{self.answers}")

    @property
    def drawn_as(self) -> str:
        """A prompt, or the control that was tuned without true answers."""
        return self.kind if self.answers == "true" else self.answers

    @property
    def told(self) -> Answers:
        """What stands where the tuning text has an answer."""
        return self.answers

    @property
    def prompt_lengths(self) -> tuple[int, ...]:
        """Its own."""
        return (self.length,)
