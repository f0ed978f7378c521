"""TransformerLens' bridge."""

import copy
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from jaxtyping import Float, Int
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformer_lens.model_bridge.sources import build_bridge_from_module
from transformers import PreTrainedModel

from data.errors import InputError
from probes.backends.protocol import Batch, Reducer, arguments
from probes.families import Family, family_of
from probes.sharing import share_weights
from probes.sites import Kind, Site


class BridgeBackend:
    """TransformerLens' TransformerBridge on a copy that shares the model's weights: unfolded, uncentred.

    The bridge splits the fused query-key-value layer of GPT-2 and GPT-NeoX once, when it is made, and may
    copy it: a change of those weights would go unseen afterwards, so `run` raises RuntimeError after one.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        own = share_weights(model)  # bridging replaces modules in place
        self.family = family = family_of(own)
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
        hooks = [(self.hook_name(site), partial(_fire_point, site, fire)) for site in sites]
        with self.bridge.hooks(fwd_hooks=hooks):
            # The bridge takes a tensor of floats for embeddings.
            return self.bridge(inputs.embeds, **arguments(inputs, logits_at))

    def hook_name(self, site: Site) -> str:
        """TransformerLens' name of a site's hook."""
        if not site.kind.in_block:
            return site.kind.hook
        # Where each sum is normed, the bridge's hook_resid_mid is the sum after the MLP, before its norm.
        mid = site.kind is Kind.RESID_MID and self.family.post_norm
        return f"blocks.{site.layer}.{'ln1.hook_out' if mid else site.kind.hook}"


def _fire_point(site: Site, fire: Reducer, tensor: Tensor, hook: object) -> None:
    fire(site, tensor)


def _forget_pattern(attention: nn.Module, received: Any, output: Any) -> None:
    # Bridges of fused attention keep their last pattern: over all layers, the cache that streaming avoids.
    attention._pattern = None  # type: ignore[assignment]


def _fused(model: PreTrainedModel, family: Family) -> Iterable[nn.Module]:
    return [block.get_submodule(family.value) for block in family.blocks_of(model)] if family.fused else []


def _merge_fused_adapters(own: PreTrainedModel, family: Family) -> None:
    """Replace LoRA on fused layers by merged layers: the bridge splits the base weight, adapter forgotten."""
    for block in family.blocks_of(own) if family.fused else []:
        layer = block.get_submodule(family.value)
        if isinstance(layer, LoraLayer):
            layer = copy.deepcopy(layer)  # merging writes into the base weight, which is the caller's
            if not layer.disable_adapters:
                layer.merge(safe_merge=True)
            block.set_submodule(family.value, layer.get_base_layer(), strict=True)
