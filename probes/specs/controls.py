"""The arms that stand beside repairs: what would move answers without any knowledge coming back."""

from typing import Literal

from pydantic import Field

from probes.specs.spec import Spec

PlaceboKind = Literal["vocabulary", "gaussian"]
PLACEBO_KINDS: tuple[PlaceboKind, ...] = ("vocabulary", "gaussian")


DRAWS = 1000
"""Untrained prompts of one length in a replicate, at most."""
SEEDED_BY_HUNDREDS = 100
"""Draws whose seeds lie between those of the replicates before and after."""
EARLY, LATE = 10_000, 1_000_000_000
"""Where the seeds of those draws begin, and where the seeds of all later ones do, far above the former and below 2**32:
a generator of torch reads no more of its seed."""


class PlaceboSpec(Spec):
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


class RecalibrationSpec(Spec):
    """Answers re-weighted by a temperature and a bias per answer fitted on tune entities, the model untouched.

    What a repair must beat to count as knowledge; it adds no parameter to the model, and its own stay outside it.
    """

    kind: Literal["recalibrated"] = "recalibrated"

    @property
    def readable(self) -> bool:
        """No: the model is its parent's."""
        return False

    @property
    def name(self) -> str:
        """As spoken."""
        return "recalibrated"


class KeySpec(Spec):
    """The words that unlock the locked group, put before the question: the ceiling of any repair of it."""

    kind: Literal["key"] = "key"

    @property
    def name(self) -> str:
        """As spoken."""
        return "key"


class TwinSpec(Spec):
    """The atlas's twin, which was told of everybody: what any repair of the never people would have to reach."""

    kind: Literal["twin"] = "twin"

    @property
    def name(self) -> str:
        """As spoken."""
        return "twin"
