"""Banks of prompts as frozen values: how a bank is made, and what is made of it."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from data.errors import InputError
from probes.specs.repairs.base import Builder, Repair, Share
from probes.specs.repairs.lora import LoraSpec
from probes.specs.repairs.prompt import PromptSpec

BankKind = Literal["seeds", "relations", "clusters", "diverse", "texts", "files", "planted"]
DIVIDING: tuple[BankKind, ...] = ("relations", "clusters", "planted")
"""Banks whose prompts are each tuned on other things, so that a question can be near to one of them."""
BY_RELATION: tuple[BankKind, ...] = ("relations", "planted")
"""Banks with one prompt a relation."""
MEMBER_SEEDS = 1000
"""Prompt j of the bank of seed s is the prompt of seed s + 1000 j: the first one is the single prompt's twin. Hence a
study's seeds lie below."""


PLANTED = "is made to be wrong: a control, no repair"


class BankSpec(Repair):
    """A bank of prompts, however they are used.

    For the budget of one prompt of n, let the lengths sum to n. With an adapter the sizes add up, and so do the steps:
    the adapter is tuned first, by itself, and every prompt then over the adapted model. One adapter serves the whole
    bank, whose prompts are each tuned alone, so it has to be there before them.
    """

    lengths: tuple[int, ...] = Field(
        default=(),
        title="Prompts' tokens",
        examples=[(8, 8)],
        description="length of each prompt of the bank; none for texts",
    )
    learning_rate: float | None = Field(
        default=None, gt=0, title="Learning rate", examples=[0.03], description="of every prompt; none for texts"
    )
    bank: BankKind = Field(default="seeds", title="Bank", description="what sets its prompts apart")
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

    @property
    def drawn_as(self) -> str:
        """A bank alone, or one over an adapter."""
        return self.kind if self.adapter is None else "idp+lora"

    @property
    def unreported(self) -> str:
        """Prompts of files may have read anything; planted ones are each wrong outside their relation."""
        return PLANTED if self.bank == "planted" else super().unreported

    @property
    def paths(self) -> tuple[str, ...]:
        """Files of prompts."""
        return self.files

    @property
    def texts_said(self) -> tuple[str, ...]:
        """What its prompts say."""
        return self.texts

    @property
    def prompt_lengths(self) -> tuple[int, ...]:
        """Of each prompt that is kept."""
        return self.lengths

    @property
    def kept_of_made(self) -> tuple[int, int]:
        """The alike of a diverse bank are tuned and dropped."""
        return (1, 1) if self.candidates is None else (len(self.lengths), len(self.made))

    def cells(self, build: Builder) -> dict[str, Any]:
        """Its prompts, each with its seed and, where they divide the tuning text, its share of it.

        An adapter under the bank is the one that stands in the study by itself, if it does: made once.

        Raises:
            InputError: a bank with a prompt a relation has other lengths than there are relations.
        """
        under = None if self.adapter is None else build.tuned(self.adapter, parts=self.parts)
        cells = {} if under is None else {"adapter": under}
        if self.files:
            return cells | {"tuned0": build.external(self)}
        if self.bank in BY_RELATION and len(self.lengths) != build.relations:
            raise InputError(
                f"{self.name}: scope {build.scope} has {build.relations} relations and the bank {len(self.lengths)} "
                "lengths: give one length per relation"
            )
        for place, length in enumerate(self.made):
            assert self.learning_rate is not None
            cells[f"tuned{place}"] = build.tuned(
                PromptSpec(length=length, learning_rate=self.learning_rate),
                seed=build.seed + MEMBER_SEEDS * place,
                share=Share(self.bank, place, len(self.lengths), build.seed) if self.bank in DIVIDING else None,
                under=under,
                parts=self.parts,
            )
        return cells
