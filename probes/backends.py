"""Ways to read a model's tensors in one pass: TransformerLens' bridge, plain hooks, the model's own report.

A backend is a class with `run`, made from a model, and one line in BACKENDS. `probes.capture` checks what
backends have in common: a backend itself only runs the pass and reports what appears.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformer_lens.model_bridge.sources import build_bridge_from_module
from transformers import PreTrainedModel

from data.errors import InputError
from probes.families import Family, family_of
from probes.sharing import share_weights
from probes.sites import Kind, Site

Reducer = Callable[[Site, Tensor], None]
"""Takes a site and its tensor as it appears; what it wants to keep it must reduce or copy."""


class Batch(Protocol):
    """Sequences laid out [pad][prompt][content], as `probes.inputs.Inputs` builds them."""

    @property
    def embeds(self) -> Float[Tensor, "batch position width"]:
        """Embeddings, the prompt's before the content's."""

    @property
    def attention_mask(self) -> Int[Tensor, "batch position"]:
        """1 where there is a prompt or content, 0 at padding."""

    @property
    def position_ids(self) -> Int[Tensor, "batch position"]:
        """Positions, from 0 at the first token that is no padding."""

    @property
    def content(self) -> Bool[Tensor, "batch position"]:
        """True on content tokens."""


class Backend(Protocol):
    """One model made ready to be read; made once, run over many batches."""

    def __init__(self, model: PreTrainedModel) -> None: ...

    def run(
        self, inputs: Batch, sites: Sequence[Site], fire: Reducer, logits_at: Int[Tensor, " kept"] | None
    ) -> Float[Tensor, "batch kept vocabulary"]:
        """Run one pass, call `fire` for each site as often as it appears, and return the logits."""


def arguments(inputs: Batch, logits_at: Int[Tensor, " kept"] | None = None) -> dict[str, Any]:
    """Write a batch as the keywords of a Hugging Face causal model's `forward`, less the embeddings."""
    # A key-value cache would keep every layer's keys and values alive for nothing.
    keywords: dict[str, Any] = {
        "attention_mask": inputs.attention_mask,
        "position_ids": inputs.position_ids,
        "use_cache": False,
    }
    return keywords if logits_at is None else keywords | {"logits_to_keep": logits_at}


class HookBackend:
    """Plain torch hooks on the Hugging Face modules: nothing is replaced, so this is the referee."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.family = family_of(model)

    def run(
        self, inputs: Batch, sites: Sequence[Site], fire: Reducer, logits_at: Int[Tensor, " kept"] | None
    ) -> Float[Tensor, "batch kept vocabulary"]:
        """Run one pass of the model itself; its hooks are gone afterwards, whatever happens."""
        handles: list[RemovableHandle] = []
        try:
            handles.extend(self._attach(site, fire) for site in sites)
            return self.model(inputs_embeds=inputs.embeds, **arguments(inputs, logits_at)).logits
        finally:
            for handle in handles:
                handle.remove()

    def _attach(self, site: Site, fire: Reducer) -> RemovableHandle:
        block = self.family.blocks_of(self.model)[site.layer]
        module = block.get_submodule(getattr(self.family, site.kind.part)) if site.kind.part else block
        if site.kind.reads == "input":
            return module.register_forward_pre_hook(partial(_fire_input, site, fire), with_kwargs=True)
        return module.register_forward_hook(partial(_fire_output, site, fire))


def _fire_input(
    site: Site, fire: Reducer, module: nn.Module, positional: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    fire(site, positional[0] if positional else keywords["hidden_states"])


def _fire_output(site: Site, fire: Reducer, module: nn.Module, received: Any, output: Any) -> None:
    place = 1 if site.kind.reads == "second output" else 0
    # Some modules answer with a tensor, others with a tuple, and versions of transformers differ on which.
    fire(site, output[place] if isinstance(output, tuple) else output)


class BridgeBackend:
    """TransformerLens' TransformerBridge on a copy that shares the model's weights: unfolded, uncentred.

    The bridge splits the fused query-key-value layer of GPT-2 and GPT-NeoX once, when it is made, and may
    copy it: a change of those weights would go unseen afterwards, so `run` raises RuntimeError after one.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        own = share_weights(model)  # bridging replaces modules in place
        family = family_of(own)
        self._frozen = [weight for part in _fused(own, family) for weight in part.parameters()]
        self._versions = [weight._version for weight in self._frozen]
        _merge_fused_adapters(own, family)
        # boot_transformers assembles the same, but changes the tokenizer it is given, or else fetches one.
        try:
            self.bridge = build_bridge_from_module(own, type(model).__name__, hf_config=own.config)
        except Exception as reason:  # the bridge asserts, and raises all sorts
            raise InputError(
                f"TransformerLens cannot bridge a {type(model).__name__} like this ({reason!r}): use 'hooks'."
            ) from reason
        for block in self.bridge.blocks:
            block.attn.register_forward_hook(_forget_pattern)

    def run(
        self, inputs: Batch, sites: Sequence[Site], fire: Reducer, logits_at: Int[Tensor, " kept"] | None
    ) -> Float[Tensor, "batch kept vocabulary"]:
        """Run one pass through the bridge; its hooks are gone afterwards, whatever happens."""
        if [weight._version for weight in self._frozen] != self._versions:
            raise RuntimeError("The model's weights changed after its bridge was made; make a new Recorder.")
        hooks = [(f"blocks.{site.layer}.{site.kind.hook}", partial(_fire_point, site, fire)) for site in sites]
        with self.bridge.hooks(fwd_hooks=hooks):
            # The bridge takes a tensor of floats for embeddings.
            return self.bridge(inputs.embeds, **arguments(inputs, logits_at))


def _fire_point(site: Site, fire: Reducer, tensor: Tensor, hook: object) -> None:
    fire(site, tensor)


def _forget_pattern(attention: nn.Module, received: Any, output: Any) -> None:
    # Bridges of fused attention keep their last pattern: over all layers, the cache that streaming avoids.
    attention._pattern = None  # type: ignore[assignment]


def _fused_name(family: Family) -> str | None:
    """Name, below a block, the layer that makes queries, keys and values at once, if there is one."""
    inside = [name for name in family.linears if name.startswith(f"{family.attention}.")]
    # Two linear layers in an attention: one for all that goes in, one for what comes out.
    return inside[0] if len(inside) == 2 else None


def _fused(model: PreTrainedModel, family: Family) -> Iterable[nn.Module]:
    name = _fused_name(family)
    return [block.get_submodule(name) for block in family.blocks_of(model)] if name else []


def _merge_fused_adapters(own: PreTrainedModel, family: Family) -> None:
    """Replace LoRA on fused layers by merged layers: the bridge splits the base weight, adapter forgotten."""
    name = _fused_name(family)
    for block in family.blocks_of(own) if name else []:
        layer = block.get_submodule(str(name))
        if isinstance(layer, LoraLayer):
            layer = copy.deepcopy(layer)  # merging writes into the base weight, which is the caller's
            if not layer.disable_adapters:
                layer.merge(safe_merge=True)
            block.set_submodule(str(name), layer.get_base_layer(), strict=True)


BACKENDS: dict[str, type[Backend]] = {"transformer_lens": BridgeBackend, "hooks": HookBackend}


@torch.no_grad()
def reported(
    model: PreTrainedModel, inputs: Batch, sites: Iterable[Site]
) -> tuple[dict[Site, Tensor], Float[Tensor, "batch position vocabulary"]]:
    """Ask Hugging Face for the sites that it reports itself (as it reports them), and for the logits.

    The residual after the last block comes as `as_reported` makes it; of other kinds no site is returned.
    """
    patterns = any(site.kind == Kind.PATTERN for site in sites)
    # On a copy: the first such call leaves transformers' own capture hooks in the model for good.
    output = share_weights(model)(
        inputs_embeds=inputs.embeds,
        output_hidden_states=True,
        output_attentions=patterns,
        **arguments(inputs),
    )
    sources = {Kind.RESID_PRE: (output.hidden_states, 0), Kind.RESID_POST: (output.hidden_states, 1)}
    if patterns:
        sources[Kind.PATTERN] = (output.attentions, 0)
    found = {site: sources[site.kind] for site in sites if site.kind in sources}
    return {site: tensors[site.layer + shift] for site, (tensors, shift) in found.items()}, output.logits


@torch.no_grad()
def as_reported(model: PreTrainedModel, site: Site, tensor: Tensor) -> Tensor:
    """Do to the residual after the last block what Hugging Face does before it reports it: the final norm."""
    family = family_of(model)
    if site != Site(len(family.blocks_of(model)) - 1, Kind.RESID_POST):
        return tensor
    parent, _, name = family.final_norm.rpartition(".")
    # OPT-350m norms after each block, so has no final norm, but projects to the width of its embeddings.
    for step in (name, "project_out"):
        module = getattr(model.get_submodule(parent), step, None)
        tensor = tensor if module is None else module(tensor)
    return tensor
