"""A bank of prompts of which one is kept per input."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from probes.specs.repairs.bank import DIVIDING, BankSpec
from probes.specs.selectors import SelectorKind, selector_of, selectors
from probes.specs.spec import Choices

RouterStates = Literal["first", "last"]
BOUND = "looks at the answers: a bound, no repair"


def _known(selector: str) -> str:
    """Refuse a selector that is not there."""
    return selector_of(selector).name


def _offered() -> dict[str, str]:
    """Every selector with what it keeps."""
    return {kind.name: kind.words for kind in selectors()}


def _places(letter: str) -> Callable[[Any], str]:
    """Layers or heads as spoken: `l0,3`; all of them are `all`."""
    return lambda places: places if isinstance(places, str) else letter + ",".join(map(str, places))


_SPOKEN: dict[str, Callable[[Any], str]] = {
    "layers": _places("l"),
    "heads": _places("h"),
    "per_token": lambda _: "mass",
}
"""Settings of a selector that are not spoken as they are written."""


class IdpSpec(BankSpec):
    """A bank of prompts of which one is kept per input."""

    kind: Literal["idp"] = "idp"
    selector: Annotated[str, AfterValidator(_known), Choices(_offered)] = Field(
        default="attention", title="Selector", description="keeps, for each question:"
    )
    layers: Literal["first", "all"] | tuple[int, ...] = "first"
    heads: tuple[int, ...] | None = None
    queries: Literal["all", "last"] = "all"
    per_token: bool = True
    softmax: Literal["joint", "separate"] = "joint"
    states: RouterStates = Field(default="first", description="router: hidden states that are averaged")

    asked = "bank"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.allows(self.chooses_by):
            raise ValueError(
                f"selector {self.selector}: needs prompts tuned on different texts: bank relations or clusters"
            )
        return self

    @property
    def name(self) -> str:
        """As spoken: `idp-3x8-attention`, `idp-4,16-router` where lengths differ, `idp-4x8-relations-random`.

        With an adapter: `idp-3x8-attention-on-lora-r4`.
        """
        return self.spoken("idp", self.selector, *self._settings)

    @property
    def chooses_by(self) -> SelectorKind:
        """What is known of its selector."""
        return selector_of(self.selector)

    def allows(self, kind: SelectorKind) -> bool:
        """Whether the bank's prompts are such that a selector can choose among them."""
        return kind.needs != "clusters" or self.bank in DIVIDING

    @property
    def unreported(self) -> str:
        """A selector that looks at the answers shows what a choice could give."""
        return BOUND if self.chooses_by.bound else super().unreported

    @property
    def readable(self) -> bool:
        """Whether its selector keeps one prompt for any text."""
        return not self.chooses_by.rowless

    @property
    def _settings(self) -> list[str]:
        """What of the selector's settings is not the usual, so that two of them can stand in one study."""
        told = {name: getattr(self, name) for name in self.chooses_by.settings}
        usual = {name: type(self).model_fields[name].default for name in told}
        return [_SPOKEN.get(name, str)(value) for name, value in told.items() if value != usual[name]]
