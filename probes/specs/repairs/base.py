"""What every repair says of itself, and how one is read by the kind that a study names it by.

Attributes, so that a plan, a table or a page asks a repair what it is and keeps no list of kinds of its own. What a
new repair leaves out is what is said here: one that reads nothing, stands in no table apart and needs no cell.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import BeforeValidator, Field, SerializeAsAny

from probes.specs.compression import AnyCompression
from probes.specs.spec import Spec

Answers = Literal["true", "masked", "shuffled"]
Read = Literal["all", "text"] | tuple[str, ...]
"""What is tuned on: what the study's repairs read, running text alone, or facts of these relations alone."""
Asked = Literal["alone", "bank", "every prompt", "parent"]
"""How a variant's answers come about: by a pass of the model, by the prompt that a selector keeps for each question,
by a pass behind every prompt of a bank, or from its parent's answers."""


@dataclass(frozen=True)
class Share:
    """Which part of a bank's tuning text one of its prompts reads."""

    bank: str
    place: int
    count: int
    seed: int


class Builder(Protocol):
    """Adds the cells that a repair is made in, over one copy in one replicate. A cell is any value here."""

    @property
    def seed(self) -> int:
        """The repair's."""
        ...

    @property
    def scope(self) -> str:
        """Whose facts it is tuned on."""
        ...

    @property
    def relations(self) -> int:
        """How many relations the tune facts of its scope have."""
        ...

    def tuned(
        self,
        repair: "Repair",
        *,
        seed: int | None = None,
        share: Share | None = None,
        under: Any = None,
        parts: int = 1,
        over: AnyCompression | Literal["here"] | None = "here",
        read: Read = "all",
    ) -> Any:
        """One tuned thing.

        Args:
            repair: what is tuned.
            seed: the variant's own unless given.
            share: of its bank's tuning text.
            under: the cell of an adapter that it is tuned over.
            parts: of how many it is one; they share what the study's budget makes equal.
            over: the compression it is tuned on; None for the dense model.
            read: what it is tuned on.
        """
        ...

    def from_weights(self, repair: "Repair") -> Any:
        """What is computed from the dense weights and those of the copy."""
        ...

    def from_tuned(self, repair: "Repair", whole: Any) -> Any:
        """What is made from another repair's cell."""
        ...

    def external(self, repair: "Repair") -> Any:
        """What was made elsewhere: the bytes of its files are all that shapes it."""
        ...


class Repair(Spec):
    """A repair, or an arm beside repairs."""

    kind: str
    """As a study names it."""

    from_dense: ClassVar[bool] = False
    """Computed from the dense weights: asked only where compression took something, and judged apart."""
    movable: ClassVar[bool] = False
    """One tuned thing, so that it can be put on another copy than the one it was tuned on."""
    of_vectors: ClassVar[bool] = False
    """Kept as rows of numbers, a soft token or a slot each, so that it can be made smaller."""
    mergeable: ClassVar[bool] = False
    """Can be added to the weights, and then costs nothing at inference."""
    ceiling: ClassVar[bool] = False
    """Has what is asked for: what any repair would have to reach."""
    behind_key: ClassVar[bool] = False
    """Every question is asked behind the words that unlock the locked facts, over the parent as it is."""
    twin: ClassVar[bool] = False
    """Stands in the atlas's twin, which was told of everybody, in place of its parent."""
    asked: ClassVar[Asked] = "alone"
    sized_by: ClassVar[str] = ""
    """The field that its size goes by; empty where none does alone."""

    @property
    def name(self) -> str:
        """As spoken."""
        raise NotImplementedError

    @property
    def drawn_as(self) -> str:
        """What it counts as in figures: its kind, where it says nothing else."""
        return self.kind

    @property
    def unreported(self) -> str:
        """Why its answers are no evidence, whatever they are; empty for what can be reported."""
        return "was made elsewhere and may have read what is asked" if self.paths else ""

    @property
    def readable(self) -> bool:
        """Whether one model reads what it made row by row, so that its inside can be read."""
        return True

    @property
    def tuned(self) -> bool:
        """Whether something of it is tuned here, which a budget can make equal."""
        return self.movable

    @property
    def before_content(self) -> bool:
        """Whether it can stand before the content of a row."""
        return True

    @property
    def paths(self) -> tuple[str, ...]:
        """Files and folders it was made in elsewhere: nobody here knows what it has read."""
        return ()

    @property
    def told(self) -> Answers:
        """What stands where the tuning text has an answer."""
        return "true"

    @property
    def tuned_on(self) -> Read:
        """What it is tuned on."""
        return "all"

    @property
    def texts_said(self) -> tuple[str, ...]:
        """Words that it puts before a question as they are."""
        return ()

    @property
    def prompt_lengths(self) -> tuple[int, ...]:
        """Length of each prompt or prefix that is tuned for it, in soft tokens or slots."""
        return ()

    @property
    def untuned_length(self) -> int:
        """Soft tokens of a prompt that was drawn and never tuned."""
        return 0

    @property
    def draw_number(self) -> int:
        """Which of its replicate's draws it is; 0 for what is drawn once."""
        return 0

    @property
    def own_steps(self) -> int | None:
        """Tuning steps, where they are not the study's."""
        return None

    @property
    def kept_of_made(self) -> tuple[int, int]:
        """How many of the prompts that were tuned for it are kept, and how many were tuned."""
        return 1, 1

    def cells(self, build: Builder) -> dict[str, Any]:
        """The cells that it is made in, by role: `tuned0` for what stands alone; none where nothing is made."""
        return {}


class SteppedRepair(Repair):
    """What may be tuned for other steps than the study's."""

    steps: int | None = Field(default=None, ge=1, description="tuning steps; those of the study unless given")

    movable = True

    @property
    def own_steps(self) -> int | None:
        """Tuning steps, where they are not the study's."""
        return self.steps

    @property
    def _ending(self) -> str:
        """The end of the name of a repair that has steps of its own."""
        return "" if self.steps is None else f"-{self.steps}steps"

    def cells(self, build: Builder) -> dict[str, Any]:
        """One tuned thing."""
        return {"tuned0": build.tuned(self)}


@dataclass(frozen=True)
class RepairKind:
    """One kind of repair: its value, where it is made, and the code that no other kind runs."""

    name: str
    """As a study names it."""
    spec: type[Repair]
    words: str
    """What it is, in one line, for pages and messages."""
    arm: bool = False
    """Stands beside repairs in every study, and is named in none."""
    code: tuple[str, ...] = ()
    """Modules that others import and that a cell without it does not run; `package.*` is all of a package. What its
    own two modules import need not be named."""
    module: str = ""
    """Where `REPAIR` says how it is made and opened; `probes.repairs.NAME` unless told."""

    @property
    def made_in(self) -> str:
        """The module that makes and opens it."""
        return self.module or f"probes.repairs.{self.name}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Every module that a cell with it runs and a cell without it need not."""
        return (self.spec.__module__, self.made_in, *self.code)


def reading(what: str, allowed: Callable[[RepairKind], bool]) -> Callable[[Any], Repair]:
    """A validator that makes a repair from keys and values by its kind.

    Args:
        what: what may stand there, as the end of a sentence.
        allowed: which kinds may.
    """

    def read(given: Any) -> Repair:
        # The list names every kind, some of which are made from others: it cannot stand before them.
        from probes.specs.repairs.registry import kind_of, kinds

        if isinstance(given, Repair):
            kind, stored = kind_of(given.kind), given
        elif isinstance(given, Mapping) and isinstance(given.get("kind"), str):
            kind, stored = kind_of(given["kind"]), None
        else:
            raise ValueError("a repair has keys and values, and names its kind, such as {kind: prompt, length: 8, ...}")
        if not allowed(kind):
            there = ", ".join(one.name for one in kinds() if allowed(one))
            raise ValueError(f"{kind.name}: this is no {what}; there are {there}")
        return kind.spec.model_validate(given) if stored is None else stored

    return read


AnyRepair = Annotated[SerializeAsAny[Repair], BeforeValidator(reading("repair", lambda kind: True))]
"""Every repair and every arm beside them."""
NamedRepair = Annotated[
    SerializeAsAny[Repair], BeforeValidator(reading("repair that a study can name", lambda kind: not kind.arm))
]
"""What a study can name as a repair."""
MovableRepair = Annotated[
    SerializeAsAny[Repair], BeforeValidator(reading("single tuned repair", lambda kind: kind.spec.movable))
]
"""What is one tuned thing."""
VectorRepair = Annotated[
    SerializeAsAny[Repair], BeforeValidator(reading("prompt or prefix", lambda kind: kind.spec.of_vectors))
]
"""What is kept as a few vectors."""
