"""One word for one place in a model: `3.resid_post` in plots, tables, links and tests alike."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import total_ordering
from typing import Literal, Self

from transformers import PreTrainedModel

from data.errors import InputError
from probes.families import family_of

Axes = Literal["batch position width", "batch head query key"]


class Kind(StrEnum):
    """What is read at a layer, in the order in which a pass computes it; a new kind is one more line.

    Each line: the name; the `Family` field that leads from the block to the module ("" is the block itself);
    what is read of that module; the axes of the tensor; TransformerLens' name of the hook, below its block.
    """

    RESID_PRE = "resid_pre", "", "input", "batch position width", "hook_resid_pre"
    PATTERN = "pattern", "attention", "second output", "batch head query key", "attn.hook_pattern"
    ATTN_OUT = "attn_out", "attention", "output", "batch position width", "hook_attn_out"
    MLP_OUT = "mlp_out", "mlp", "output", "batch position width", "hook_mlp_out"
    RESID_POST = "resid_post", "", "output", "batch position width", "hook_resid_post"

    part: str
    reads: Literal["input", "output", "second output"]
    axes: Axes
    hook: str

    def __new__(
        cls,
        name: str,
        part: str = "",
        reads: str = "output",
        axes: str = "batch position width",
        hook: str = "",
    ) -> Self:
        """Make the member that a line describes; `Kind("pattern")` finds one by name."""
        kind = str.__new__(cls, name)
        kind._value_ = name
        kind.part, kind.axes, kind.hook = part, axes, hook  # type: ignore[assignment]
        kind.reads = reads  # type: ignore[assignment]
        return kind

    @property
    def turn(self) -> int:
        """Place of the kind among those of its layer, in order of computation."""
        return list(Kind).index(self)


@total_ordering
@dataclass(frozen=True)
class Site:
    """One place: a layer, counted from zero, and what is read there.

    Sites sort in the order in which a pass computes them. A kind may be given by name; an unknown one, or a
    negative layer, raises InputError.
    """

    layer: int
    kind: Kind

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "kind", Kind(self.kind))
        except ValueError:
            raise InputError(f"{self.kind!r} is no kind of site; the kinds are {', '.join(Kind)}.") from None
        if self.layer < 0:
            raise InputError(f"A site's layer counts from 0; {self.layer} was given.")

    def __str__(self) -> str:
        return f"{self.layer}.{self.kind}"

    def __lt__(self, other: "Site") -> bool:
        return (self.layer, self.kind.turn) < (other.layer, other.kind.turn)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a site written as `3.resid_post`; raise InputError for anything that `str` would not write."""
        layer, _, kind = text.partition(".")
        # Digits alone, so that "03", "+3" and "٣" do not become second spellings of one site.
        if layer.isascii() and layer.isdecimal() and str(int(layer)) == layer and kind in list(Kind):
            return cls(int(layer), Kind(kind))
        raise InputError(f"{text!r} is no site; write a layer and a kind, as in 3.resid_post.")


def sites_of(model: PreTrainedModel, kinds: Iterable[str]) -> tuple[Site, ...]:
    """Name every site of the given kinds in the model, in order of computation.

    Raises InputError for an unknown kind, or a model of a family that cannot be hooked.
    """
    layers = len(family_of(model).blocks_of(model))
    kinds = tuple(kinds)
    return tuple(sorted({Site(layer, kind) for layer in range(layers) for kind in kinds}))  # type: ignore[arg-type]
