"""The arms that stand beside repairs: what would move answers without any knowledge coming back."""

from typing import Literal

from pydantic import Field

from probes.specs.spec import Spec

PlaceboKind = Literal["vocabulary", "gaussian"]
PLACEBO_KINDS: tuple[PlaceboKind, ...] = ("vocabulary", "gaussian")


class PlaceboSpec(Spec):
    """One soft prompt, never tuned."""

    kind: Literal["placebo"] = "placebo"
    length: int = Field(ge=1)
    draw: PlaceboKind

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
