"""Banks of prompts as frozen values: how a bank is made, and what is made of it."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from probes.specs.repairs import LoraSpec
from probes.specs.selectors import SelectorKind, selector_of
from probes.specs.spec import Spec

BankKind = Literal["seeds", "relations", "clusters", "diverse", "texts", "files", "planted"]
DIVIDING: tuple[BankKind, ...] = ("relations", "clusters", "planted")
"""Banks whose prompts are each tuned on other things, so that a question can be near to one of them."""
RouterStates = Literal["first", "last"]


class BankSpec(Spec):
    """A bank of prompts, however they are used.

    For the budget of one prompt of n, let the lengths sum to n. With an adapter the sizes add up, and so do the steps:
    the adapter is tuned first, by itself, and every prompt then over the adapted model. One adapter serves the whole
    bank, whose prompts are each tuned alone, so it has to be there before them.
    """

    lengths: tuple[int, ...] = Field(default=(), description="length of each prompt of the bank; none for texts")
    learning_rate: float | None = Field(default=None, gt=0, description="of every prompt; none for texts")
    bank: BankKind = "seeds"
    candidates: int | None = Field(default=None, description="diverse: prompts tuned before the alike are dropped")
    texts: tuple[str, ...] = Field(default=(), description="texts: what the prompts say, word for word")
    files: tuple[str, ...] = Field(default=(), description="files: safetensors with one prompt or several, in order")
    adapter: LoraSpec | None = Field(default=None, description="low-rank additions under the bank, tuned before it")

    @model_validator(mode="after")
    def _check_bank(self) -> Self:
        for kind, held in (("texts", self.texts), ("files", self.files)):
            if held and self.bank != kind:
                raise ValueError(f"{kind}: only a bank of {kind} has them; set bank: {kind} or leave them out")
        if self.bank == "texts":
            self._check_texts()
        elif self.bank == "files":
            self._check_files()
        elif len(self.lengths) < 2 or self.learning_rate is None:
            raise ValueError(f"a bank of {self.bank} is tuned: give two lengths or more and a learning_rate")
        elif min(self.lengths) < 1:
            raise ValueError("a prompt of length 0 is no prompt: give lengths of 1 or more")
        if (self.bank == "diverse") != (self.candidates is not None):
            raise ValueError("candidates: how many prompts a diverse bank is picked from; for no other bank")
        if self.candidates is not None and (self.candidates <= len(self.lengths) or len(set(self.lengths)) > 1):
            raise ValueError("a diverse bank picks prompts of one length from more candidates than it keeps")
        return self

    def _check_texts(self) -> None:
        """A bank of texts is what it says, untuned."""
        if len(self.texts) < 2 or not all(text.strip() for text in self.texts):
            raise ValueError("a bank of texts needs two texts or more, none empty")
        if self.lengths or self.learning_rate is not None:
            raise ValueError("a bank of texts is not tuned: leave lengths and learning_rate out")

    def _check_files(self) -> None:
        """A bank of files was made elsewhere."""
        if not self.files:
            raise ValueError("a bank of files needs files: paths of safetensors with prompts")
        if self.lengths or self.learning_rate is not None:
            raise ValueError("a bank of files is not tuned here: leave lengths and learning_rate out")

    @property
    def tuned(self) -> bool:
        """Whether its prompts are tuned here."""
        return self.bank not in ("texts", "files")

    @property
    def parts(self) -> int:
        """How many things are tuned for it, its adapter among them."""
        return len(self.made) + (self.adapter is not None)

    @property
    def made(self) -> tuple[int, ...]:
        """Length of every prompt that is tuned for this bank, kept or not."""
        return self.lengths if self.candidates is None else self.lengths[:1] * self.candidates

    def spoken(self, first: str, *last: str) -> str:
        """The bank with words before and behind it: `FIRST-3x8-relations-LAST`, and the adapter it stands on."""
        same = len(set(self.lengths)) == 1
        shape = f"{len(self.lengths)}x{self.lengths[0]}" if same else ",".join(map(str, self.lengths))
        source = [] if self.bank == "seeds" else [self.bank]
        under = [] if self.adapter is None else ["on", self.adapter.name]
        if not self.tuned:
            shape = str(len(self.texts) or len(self.files))
        return "-".join([first, shape, *source, *last, *under])


def _known(selector: str) -> str:
    """Refuse a selector that is not there."""
    return selector_of(selector).name


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
    selector: Annotated[str, AfterValidator(_known)] = "attention"
    layers: Literal["first", "all"] | tuple[int, ...] = "first"
    heads: tuple[int, ...] | None = None
    queries: Literal["all", "last"] = "all"
    per_token: bool = True
    softmax: Literal["joint", "separate"] = "joint"
    states: RouterStates = Field(default="first", description="router: hidden states that are averaged")

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
    def drawn_as(self) -> str:
        """A bank alone, or one over an adapter."""
        return self.kind if self.adapter is None else "idp+lora"

    @property
    def chooses_by(self) -> SelectorKind:
        """What is known of its selector."""
        return selector_of(self.selector)

    def allows(self, kind: SelectorKind) -> bool:
        """Whether the bank's prompts are such that a selector can choose among them."""
        return kind.needs != "clusters" or self.bank in DIVIDING

    @property
    def bound(self) -> bool:
        """Whether its selector looks at the answers."""
        return self.chooses_by.bound

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


class EnsembleSpec(BankSpec):
    """A bank of prompts that are all asked, and the mean of their log-probabilities taken: no prompt is chosen.

    It carries what its bank carries, and every answer costs one pass per prompt.
    """

    kind: Literal["ensemble"] = "ensemble"

    @property
    def name(self) -> str:
        """As spoken: `ensemble-3x8`, `ensemble-2-texts`."""
        return self.spoken("ensemble")

    @property
    def drawn_as(self) -> str:
        """A bank alone, or one over an adapter."""
        return self.kind if self.adapter is None else "idp+lora"

    @property
    def readable(self) -> bool:
        """No: every prompt answers."""
        return False

    @property
    def idp(self) -> IdpSpec:
        """The same bank as an IDP that keeps every prompt: its prompts are the same cells."""
        return IdpSpec(**{name: getattr(self, name) for name in BankSpec.model_fields}, selector="mixture")
