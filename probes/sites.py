"""One word for one place in a model: `3.resid_post` in plots, tables, links and tests alike."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import total_ordering
from typing import Literal, Self

from torch import nn
from transformers import PreTrainedModel

from data.errors import InputError
from probes.families import Heads, family_of

Axes = Literal[
    "batch position width",
    "batch position head head_width",
    "batch position key_head head_width",
    "batch head query key",
    "batch position vocabulary",
]


class Kind(StrEnum):
    """What is read at a layer, in the order in which a pass computes it; a new kind is one more line.

    Each line: the name; the `Family` field that leads from the block to the module ("" is the block itself);
    what is read of that module; the axes of the tensor; TransformerLens' name of the hook, below its block.

    Queries, keys and values are as projected, bias included, before any rotation by position and any scaling:
    TransformerLens' hook_q, hook_k and hook_v. Heads that share keys have the keys' own number of them. At the
    places of a trained prefix they are a placeholder's: attention reads the prefix's keys and values there.

    `head_out` is what each head found: its pattern times the values, before the output projection (z elsewhere).
    The projection of all heads side by side is `attn_out`, so that the heads' shares add up to it, and its bias.

    `resid_mid` is the stream between attention and MLP, which a parallel block lacks. In an OPT that norms each sum
    it is the normed stream, which the MLP's output is added to.

    `logits` are the whole model's: their layer is the number of blocks.
    """

    RESID_PRE = "resid_pre", "", "input", "batch position width", "hook_resid_pre"
    QUERY = "query", "query", "output", "batch position head head_width", "attn.hook_q"
    KEY = "key", "key", "output", "batch position key_head head_width", "attn.hook_k"
    VALUE = "value", "value", "output", "batch position key_head head_width", "attn.hook_v"
    PATTERN = "pattern", "attention", "second output", "batch head query key", "attn.hook_pattern"
    HEAD_OUT = "head_out", "output_projection", "input", "batch position head head_width", "attn.hook_z"
    ATTN_OUT = "attn_out", "attention", "output", "batch position width", "hook_attn_out"
    RESID_MID = "resid_mid", "between", "input", "batch position width", "hook_resid_mid"
    MLP_OUT = "mlp_out", "mlp", "output", "batch position width", "hook_mlp_out"
    RESID_POST = "resid_post", "", "output", "batch position width", "hook_resid_post"
    LOGITS = "logits", "head", "output", "batch position vocabulary", "unembed.hook_out"

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
    def in_block(self) -> bool:
        """Whether every block has one; else the model has one, after its last block."""
        return self is not Kind.LOGITS

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


def kinds_of(model: PreTrainedModel) -> tuple[Kind, ...]:
    """Name every kind of site that the model has."""
    family = family_of(model)
    return tuple(kind for kind in Kind if not kind.part or getattr(family, kind.part) is not None)


def sites_of(model: PreTrainedModel, kinds: Iterable[str]) -> tuple[Site, ...]:
    """Name every site of the given kinds in the model, in order of computation; of all kinds, those that it has.

    Raises InputError for an unknown kind, one that the model lacks, or a model that cannot be hooked.
    """
    layers = len(family_of(model).blocks_of(model))
    asked = {Site(0, kind).kind for kind in kinds}  # type: ignore[arg-type]
    there = set(kinds_of(model))
    if asked == set(Kind):
        asked = there
    for kind in asked - there:
        raise InputError(f"This {family_of(model).model_type} model has no {kind}: {_lacking(kind)}.")
    found = {Site(layer, kind) for kind in asked for layer in (range(layers) if kind.in_block else [layers])}
    return tuple(sorted(found))


def _lacking(kind: Kind) -> str:
    """Why a model may have no site of a kind."""
    if kind is Kind.RESID_MID:
        return "attention and MLP of its blocks read the same residual stream, and nothing lies between them"
    return "its architecture has no such part"


def require_site(model: PreTrainedModel, site: Site) -> None:
    """Raise InputError, with the reason, for a site that the model lacks."""
    layers = len(family_of(model).blocks_of(model))
    if site.kind not in kinds_of(model):
        raise InputError(f"Site {site} is not in this model: {_lacking(site.kind)}.")
    if site.kind.in_block and site.layer >= layers:
        raise InputError(f"Site {site} is not in this model: its layers are 0 to {layers - 1}.")
    if not site.kind.in_block and site.layer != layers:
        raise InputError(f"Site {site} is not in this model: its {site.kind} are {layers}.{site.kind}.")


def module_name(model: PreTrainedModel, site: Site) -> str:
    """Dotted name, from the model, of the module that a site is read at."""
    family = family_of(model)
    part = getattr(family, site.kind.part) if site.kind.part else ""
    if not site.kind.in_block:
        return part
    return ".".join([family.blocks, str(site.layer), *([part] if part else [])])


def module_at(model: PreTrainedModel, site: Site) -> nn.Module:
    """The module that a site is read at.

    Raises InputError where the model lacks the site, or a module that the table of families names.
    """
    require_site(model, site)
    family = family_of(model)
    part = getattr(family, site.kind.part) if site.kind.part else ""
    return family.module_of(model, site.layer, part) if site.kind.in_block else family.head_of(model)


def sizes_of(model: PreTrainedModel, batch: int, length: int) -> dict[str, int]:
    """Length of every axis of a site in a batch of so many rows, so many tokens long."""
    config, heads = model.config, Heads.of(model)
    return {
        "batch": batch,
        "position": length,
        "query": length,
        "key": length,
        "width": config.hidden_size,
        "head": heads.query,
        "key_head": heads.key,
        "head_width": heads.width,
        "vocabulary": config.vocab_size,
    }
