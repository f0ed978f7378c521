"""Activation patching: put the dense model's state into a variant at one place and see whether the answer returns.

Meng et al., arXiv 2202.05262 (causal tracing, here without corrupting the input: compression is the corruption);
Zhang & Nanda, arXiv 2309.16042 (measure by logit difference, which a single flipped argmax cannot fake):

1. Read a question under the source and under the target; both content parts end in the same column.
2. Run the target again with the source's state at one place (a site, or one head before the output projection)
   and at chosen content positions. Nothing else is changed.
3. Measure the log-odds of the right answer's first token against the first tokens of the other candidates.

Placebos, at the same place and positions: the source's state for another fact (same relation, other person,
other answer), and the target's own state moved as far as the patch moves it, in a random direction. What would
count against "the state was missing here": a placebo that restores as much.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from data.errors import InputError
from probes.capture import CaptureError
from probes.families import family_of
from probes.inputs import Inputs
from probes.sites import Kind, Site, module_at
from probes.states import Question
from probes.variants import Variant

Arm = Literal["patched", "other fact", "noise"]
ARMS: tuple[Arm, ...] = ("patched", "other fact", "noise")
PATCHABLE = (Kind.RESID_PRE, Kind.ATTN_OUT, Kind.MLP_OUT, Kind.RESID_POST)
"""Not resid_mid: no module hands it on, so that a change would reach what the MLP reads and not what it adds to."""
Change = Callable[[Tensor], Tensor | None]
"""Takes a place's tensor, batch x position x width, and returns what is to stand there (None: as it was)."""


@dataclass(frozen=True, order=True)
class Place:
    """Where a state is put: a site, or one head of its attention, before the heads are projected and summed."""

    site: Site
    head: int | None = None

    def __post_init__(self) -> None:
        if self.site.kind not in PATCHABLE or (self.head is not None and self.site.kind != Kind.ATTN_OUT):
            raise InputError(f"{self} cannot be patched: {', '.join(PATCHABLE)} can, and heads of attn_out.")

    def __str__(self) -> str:
        return str(self.site) if self.head is None else f"{self.site}.{self.head}"


def output_projection(model: PreTrainedModel, layer: int) -> nn.Module:
    """Return the linear layer that an attention ends in: what enters it is the heads' results side by side."""
    family = family_of(model)
    return family.module_of(model, layer, family.output_projection)


@contextmanager
def changing(model: PreTrainedModel, changes: Mapping[Place, Change]) -> Iterator[None]:
    """Let each function see, and replace, the tensor of its place in one pass; undone whatever happens.

    Raises InputError for a place that the model lacks, CaptureError where a hook fired other than once.
    """
    fired: Counter[Place] = Counter()
    handles = []
    try:
        for place, change in changes.items():
            module, hook = _module_of(model, place), partial(_change, model, place, change, fired)
            if place.head is not None or place.site.kind.reads == "input":
                handles.append(module.register_forward_pre_hook(partial(_on_input, hook), with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(partial(_on_output, hook)))
        yield
    finally:
        for handle in handles:
            handle.remove()
    for place in changes:
        if fired[place] != 1:
            raise CaptureError(f"The hook at {place} fired {fired[place]} times in one pass, expected 1.")


def _module_of(model: PreTrainedModel, place: Place) -> nn.Module:
    family, layer, heads = family_of(model), place.site.layer, model.config.num_attention_heads
    blocks = family.blocks_of(model)
    if layer >= len(blocks) or (place.head is not None and not 0 <= place.head < heads):
        raise InputError(f"{place} is not in this model: it has {len(blocks)} layers of {heads} heads, from 0.")
    if place.head is not None:
        return output_projection(model, layer)
    return module_at(model, place.site)


def _change(model: PreTrainedModel, place: Place, change: Change, fired: Counter[Place], whole: Tensor) -> Tensor:
    """Apply a change to its share of a tensor."""
    fired[place] += 1
    if place.head is None:
        changed = change(whole)
        return whole if changed is None else changed
    share = whole.shape[-1] // model.config.num_attention_heads
    here = slice(place.head * share, (place.head + 1) * share)
    changed = change(whole[..., here])
    if changed is None:
        return whole
    whole = whole.clone()
    whole[..., here] = changed
    return whole


def _on_input(hook: Change, module: nn.Module, positional: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    if positional:
        return (hook(positional[0]), *positional[1:]), keywords
    return positional, keywords | {"hidden_states": hook(keywords["hidden_states"])}


def _on_output(hook: Change, module: nn.Module, received: Any, output: Any) -> Any:
    # Some modules answer with a tensor, others with a tuple, and versions of transformers differ on which.
    return (hook(output[0]), *output[1:]) if isinstance(output, tuple) else hook(output)


@torch.no_grad()
def run_changed(variant: Variant, inputs: Inputs, changes: Mapping[Place, Change]) -> Float[Tensor, "batch vocabulary"]:
    """Logits after the last token of each row, of one pass with changes made on the way."""
    unfolded = {place: partial(_unfolded, change, inputs.attention_mask) for place, change in changes.items()}
    with changing(variant.model, unfolded):
        output = variant.model(**inputs.forward_arguments(), use_cache=False, logits_to_keep=1)
    return output.logits[:, -1]


def _unfolded(change: Change, asked: Int[Tensor, "batch position"], tensor: Tensor) -> Tensor | None:
    """Undo, for a change, the flattening of batch and position that OPT may do around its MLP.

    The change is made where the inputs are, wherever the layer may stand.
    """
    changed = change(tensor.view(*asked.shape, -1).to(asked.device))
    return None if changed is None else changed.view(tensor.shape).to(tensor.device)


@torch.no_grad()
def states_at(
    variant: Variant, rows: Sequence[Sequence[int]], places: Sequence[Place]
) -> tuple[dict[Place, Float[Tensor, "batch content width"]], Float[Tensor, "batch vocabulary"]]:
    """States of the content columns (as many as the longest row has, rows at their right end), and the logits."""
    columns = max(len(row) for row in rows)
    held: dict[Place, Tensor] = {}

    def keep(place: Place, tensor: Tensor) -> None:
        held[place] = tensor[:, -columns:].clone()

    logits = run_changed(variant, variant.inputs(rows), {place: partial(keep, place) for place in places})
    return held, logits


def patched_logits(
    variant: Variant,
    rows: Sequence[Sequence[int]],
    patches: Mapping[Place, Float[Tensor, "batch content width"]],
    positions: Bool[Tensor, "batch content"],
) -> Float[Tensor, "batch vocabulary"]:
    """Run a variant with states put where `positions` is true; the prompt's own positions are never touched."""
    columns, positions = positions.shape[1], positions.to(variant.model.device)

    def put(states: Tensor, tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor[:, -columns:] = torch.where(positions[..., None], states, tensor[:, -columns:])
        return tensor

    inputs = variant.inputs(rows)
    if (positions & ~inputs.content[:, -columns:]).any():
        raise ValueError("a position to be patched is not content: positions count from a row's right end")
    return run_changed(variant, inputs, {place: partial(put, states) for place, states in patches.items()})


def content_positions(
    rows: Sequence[Sequence[int]], last: int | Sequence[int] | None = None
) -> Bool[Tensor, "batch content"]:
    """Mark the last so many tokens of each row (one number for all, or one each), or all of them."""
    columns = max(len(row) for row in rows)
    most = [len(row) for row in rows] if last is None else [last] * len(rows) if isinstance(last, int) else last
    reach = torch.tensor([min(wanted, len(row)) for wanted, row in zip(most, rows, strict=True)])
    return torch.arange(columns, 0, -1)[None] <= reach[:, None]


def common_end(row: Sequence[int], other: Sequence[int]) -> int:
    """How many last tokens two rows share: what stands before (a key) may differ."""
    pairs = zip(reversed(row), reversed(other), strict=False)
    return next((place for place, (one, two) in enumerate(pairs) if one != two), min(len(row), len(other)))


def log_odds(logits: Float[Tensor, "item vocabulary"], questions: Sequence[Question]) -> Float[Tensor, " item"]:
    """Log-odds in nats of the right answer's first token against the other candidates' together."""
    logits = logits.double()
    pairs = zip(logits, questions, strict=True)
    return torch.stack([row[one.right] - row[list(one.others)].logsumexp(0) for row, one in pairs])


def fitting_donors(questions: Sequence[Question], reach: Sequence[int]) -> list[list[int]]:
    """For each question, those of the same relation, of other people with other answers, long enough for its reach.

    `reach` is how many content positions, from the right, the donor must have.
    """
    return [
        [
            place
            for place, other in enumerate(questions)
            if other.item.fact.relation == question.item.fact.relation
            and other.item.fact.subject != question.item.fact.subject
            and other.right != question.right
            and len(other.tokens) >= needed
        ]
        for question, needed in zip(questions, reach, strict=True)
    ]


def donors(questions: Sequence[Question], reach: Int[Tensor, " item"], seed: int) -> list[int]:
    """For each question draw one of its `fitting_donors`; raise InputError where there is none."""
    draw = random.Random(f"donors {seed}")
    drawn = []
    for question, needed, fitting in zip(
        questions, reach.tolist(), fitting_donors(questions, reach.tolist()), strict=True
    ):
        if not fitting:
            raise InputError(
                f"item '{question.item.name}' has no other fact of its relation, answered otherwise and at least "
                f"{needed} tokens long, to serve as placebo: add facts or patch fewer positions"
            )
        drawn.append(draw.choice(fitting))
    return drawn


@dataclass(frozen=True)
class Restoration:
    """Log-odds of the right answer in nats, before and after every patch."""

    places: tuple[Place, ...]
    source: Float[Tensor, " item"]
    target: Float[Tensor, " item"]
    """Unpatched."""
    arms: dict[Arm, Float[Tensor, "place item"]]
    """The target under each patch."""

    @property
    def restored(self) -> dict[Arm, Float[Tensor, "place item"]]:
        """How far each patch moves the target's log-odds."""
        return {arm: odds - self.target for arm, odds in self.arms.items()}


def _fitted(states: Float[Tensor, "batch other width"], columns: int) -> Float[Tensor, "batch content width"]:
    """The last columns of states; what a source with shorter rows lacks on the left is never patched."""
    return nn.functional.pad(states, (0, 0, max(columns - states.shape[1], 0), 0))[:, -columns:]


def restore(
    source: Variant,
    target: Variant,
    questions: Sequence[Question],
    places: Sequence[Place],
    *,
    last: int | None = None,
    seed: int,
    source_rows: Sequence[Sequence[int]] | None = None,
) -> Restoration:
    """Patch the source's states into the target, place by place, with both placebos; all questions in one batch.

    `last` is how many of a question's last tokens are patched, all by default. `source_rows` are the questions as
    the source reads them where it reads something before them: only tokens that both read, counted from the end,
    are patched. Three passes a place; what both models hold at every place is kept meanwhile: give few questions,
    or few places, at a time.
    """
    rows = [question.tokens for question in questions]
    read = rows if source_rows is None else source_rows
    shared = [common_end(row, other) for row, other in zip(rows, read, strict=True)]
    positions = content_positions(rows, shared if last is None else [min(last, most) for most in shared])
    columns = positions.shape[1]
    found, source_logits = states_at(source, read, places)
    given = {place: _fitted(states, columns) for place, states in found.items()}
    own, target_logits = states_at(target, rows, places)
    others = donors(questions, positions.sum(1), seed)
    generator = torch.Generator().manual_seed(seed)
    odds: dict[Arm, list[Tensor]] = {arm: [] for arm in ARMS}
    for place in places:
        noise = torch.randn(own[place].shape, generator=generator).to(own[place])
        push = (given[place] - own[place]).norm(dim=-1, keepdim=True)
        states: dict[Arm, Tensor] = {
            "patched": given[place],
            "other fact": given[place][others],
            "noise": own[place] + noise * push / noise.norm(dim=-1, keepdim=True),
        }
        for arm, state in states.items():
            odds[arm].append(log_odds(patched_logits(target, rows, {place: state}, positions), questions))
    arms = {arm: torch.stack(values) for arm, values in odds.items()}
    return Restoration(tuple(places), log_odds(source_logits, questions), log_odds(target_logits, questions), arms)
