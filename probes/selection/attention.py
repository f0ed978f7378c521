"""The choice of IDP (arXiv 2310.00867, section 3.2): the prompt that the content pays most attention to.

1. All m prompts of the bank stand side by side before the content, blind to each other, each ending where the
   content starts: so their keys and values are constants (`probes/prefix.py`).
2. Read how much attention the content pays to each prompt.
3. Keep the prompt with the largest mean attention, mask the others, run the model.

The paper leaves open over which layers, heads and queries the mean runs, and whether the prompts compete in one
softmax. Here it runs over all heads of the first layer and all content queries, in one softmax, and is normalised by
the prompt's length; those are fields of `Selector`. With the first layer alone the choice costs one block and the
prompts' keys are constants.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from data.errors import InputError
from data.facts import Fact
from probes.families import family_of
from probes.inputs import Inputs, build_inputs
from probes.prefix import Prefixes
from probes.prompts import SoftPrompt
from probes.selection.base import Material, PromptSelector, Selection
from probes.selection.cut import first_layers
from probes.specs.repairs.idp import IdpSpec
from probes.specs.selectors import Cost, SelectorKind
from probes.windows import AttentionMask, by_layer_type, causal


@dataclass(frozen=True)
class Selector:
    """The paper's choice by attention, with what it leaves open made explicit."""

    layers: Literal["first", "all"] | tuple[int, ...] = "first"
    queries: Literal["all", "last"] = "all"
    """Which content positions' attention is averaged."""
    per_token: bool = True
    """Divide by the prompt's length, so that a long prompt has no head start."""
    heads: tuple[int, ...] | None = None
    """Which heads are averaged; all of them unless told."""
    softmax: Literal["joint", "separate"] = "joint"
    """Whether all prompts compete in one softmax, or each stands alone before the content."""

    def depth(self, model: PreTrainedModel) -> int:
        """How many blocks have to run."""
        if self.layers == "all":
            return len(family_of(model).blocks_of(model))
        return 1 if self.layers == "first" else max(self.layers) + 1


class AttentionSelector:
    """The paper's choice: the prompt that the content pays most attention to."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[SoftPrompt], settings: Selector) -> None:
        self.settings = settings
        self._prompts = list(prompts)
        self._depth = settings.depth(model)
        _check_places(model, settings)
        blocks = len(family_of(model).blocks_of(model))
        self._model = model if self._depth == blocks else first_layers(model, self._depth)

    @property
    def cost(self) -> Cost:
        """One block where the first layer alone is looked at."""
        if self._depth == 1:
            return "first_layer"
        return "full_pass" if self.settings.softmax == "joint" else "full_pass_per_prompt"

    @cached_property
    def _prefixes(self) -> Prefixes:
        """The keys and values of the whole bank, in the layers that are looked at."""
        return Prefixes(self._model, self._prompts)

    @torch.no_grad()
    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """Mean attention from content to each prompt (share of a row of the pattern, per prompt token).

        The content alone is read: it looks at the keys of the prompts, which are constants.
        """
        inputs = build_inputs(self._model, rows, content_start=self._prefixes.longest)
        if self.settings.softmax == "joint":
            received = self._received(inputs, *self._prefixes.side_by_side(len(rows)))
            mass = received.unflatten(1, (len(self._prompts), self._prefixes.longest)).sum(dim=2)
        else:
            alone = []
            for place in range(len(self._prompts)):
                cache, slots = self._prefixes.chosen(torch.full((len(rows),), place, device=inputs.embeds.device))
                alone.append(self._received(inputs, cache, slots[0].bool()).sum(dim=1))
            mass = torch.stack(alone, dim=1)
        if not self.settings.per_token:
            return mass
        return mass / torch.tensor([prompt.shape[0] for prompt in self._prompts]).to(mass)

    def _received(
        self, inputs: Inputs, cache: DynamicCache, seen: Bool[Tensor, " slot"]
    ) -> Float[Tensor, "batch slot"]:
        """Attention that each slot before the content receives, averaged over layers, heads and queries."""
        output = self._model.base_model(
            inputs_embeds=inputs.embeds,
            attention_mask=self._mask(inputs, seen),
            position_ids=inputs.position_ids,
            past_key_values=cache,
            output_attentions=True,
        )
        if not output.attentions or any(pattern is None for pattern in output.attentions):
            raise RuntimeError("the model returned no attention pattern: IDP needs eager attention")
        layers, heads = self.settings.layers, self.settings.heads
        looked_at = [output.attentions[layer] for layer in layers] if isinstance(layers, tuple) else output.attentions
        taken = looked_at if heads is None else [layer[:, list(heads)] for layer in looked_at]
        home = inputs.embeds.device
        pattern = torch.stack([layer.mean(dim=1).to(home) for layer in taken]).mean(dim=0)
        queries = inputs.content.clone()
        if self.settings.queries == "last":
            queries[:, :-1] = False
        weight = queries / queries.sum(dim=1, keepdim=True)
        return torch.einsum("bq,bqk->bk", weight.to(pattern.dtype), pattern[:, :, : len(seen)])

    def _mask(self, inputs: Inputs, seen: Bool[Tensor, " slot"]) -> AttentionMask:
        """What content sees behind prompts: of them what is seen by all, and the content before."""
        content, prefixes = inputs.content, self._prefixes
        batch, width = content.shape
        among = causal(width, width, content.device) & content[:, None, :]
        allowed = torch.cat([seen.expand(*among.shape[:2], -1), among], dim=2)
        places = prefixes.places(batch, len(seen) // prefixes.longest)
        positions = torch.cat([places, inputs.position_ids], dim=1)
        return by_layer_type(self._model, allowed, positions, inputs.position_ids)


def _check_places(model: PreTrainedModel, settings: Selector) -> None:
    """Refuse layers and heads that the model lacks."""
    there = {"layer": len(family_of(model).blocks_of(model)), "head": int(model.config.num_attention_heads)}
    asked = {
        "layer": settings.layers if isinstance(settings.layers, tuple) else (0,),
        "head": (0,) if settings.heads is None else settings.heads,
    }
    for kind, places in asked.items():
        if not places or min(places) < 0 or max(places) >= there[kind]:
            raise InputError(
                f"attention selector: {kind}s {list(places)} are not all in this model, whose {kind}s are "
                f"0 to {there[kind] - 1}"
            )


def settings_of(repair: IdpSpec) -> Selector:
    """The settings of a repair's choice by attention."""
    return Selector(repair.layers, repair.queries, repair.per_token, repair.heads, repair.softmax)


def _made(kind: SelectorKind, found: Material, people: Sequence[Fact]) -> AttentionSelector:
    return AttentionSelector(found.model, found.prompts, settings_of(found.repair))


def _compared(
    kinds: Sequence[SelectorKind], found: Material, people: Sequence[Fact]
) -> Iterator[tuple[str, PromptSelector]]:
    """The choice as it is set, and with the other softmax."""
    settings = settings_of(found.repair)
    other: Literal["joint", "separate"] = "separate" if settings.softmax == "joint" else "joint"
    for kind in kinds:
        yield kind.name, AttentionSelector(found.model, found.prompts, settings)
        yield f"{kind.name}-{other}", AttentionSelector(found.model, found.prompts, replace(settings, softmax=other))


SELECTION = Selection(_made, compare=_compared)
