"""One soft prompt, never tuned: what would move answers without any knowledge coming back."""

from typing import Literal

from pydantic import Field

from probes.specs.repairs.base import Repair

PlaceboKind = Literal["vocabulary", "gaussian"]
PLACEBO_KINDS: tuple[PlaceboKind, ...] = ("vocabulary", "gaussian")


DRAWS = 1000
"""Untrained prompts of one length in a replicate, at most."""
SEEDED_BY_HUNDREDS = 100
"""Draws whose seeds lie between those of the replicates before and after."""
EARLY, LATE = 10_000, 1_000_000_000
"""Where the seeds of those draws begin, and where the seeds of all later ones do, far above the former and below 2**32:
a generator of torch reads no more of its seed."""


class PlaceboSpec(Repair):
    """One soft prompt, never tuned."""

    kind: Literal["placebo"] = "placebo"
    length: int = Field(ge=1)
    draw: PlaceboKind
    """How it is drawn."""
    number: int = Field(default=0, ge=0, lt=DRAWS)
    """Which of its replicate's draws it is."""

    def seed(self, replicate: int) -> int:
        """What its generator is seeded with in a replicate; no two draws of any replicates share one.

        >>> PlaceboSpec(length=8, draw="gaussian", number=99).seed(0)
        10099
        """
        if self.number < SEEDED_BY_HUNDREDS:
            return EARLY + replicate * SEEDED_BY_HUNDREDS + self.number
        return LATE + replicate * DRAWS + self.number

    @property
    def readable(self) -> bool:
        """The first draw of a replicate stands for the others."""
        return self.number == 0

    @property
    def name(self) -> str:
        """As spoken; the draws of both kinds share a name, since their distribution is what counts."""
        return f"placebo-{self.length}"

    @property
    def untuned_length(self) -> int:
        """Its tokens."""
        return self.length

    @property
    def draw_number(self) -> int:
        """Which of its replicate's draws it is."""
        return self.number
