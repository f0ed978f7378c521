"""Prefix tuning (Li & Liang, arXiv 2101.00190): trained keys and values before the content, at every layer.

1. Start from the keys and values that n drawn words leave at every layer (section 7.4: the activations of real words).
2. Freeze the model; move those numbers alone by the loss on the tuning text. Nothing is computed at their places.
3. Or (section 4.3) let a two-layer perceptron make them from n vectors while they are tuned, and keep only what it
   makes in the end. It starts at random, as the paper's and peft's does.

A prompt's keys and values hang together through the model; a prefix's are free at every layer, so it holds
2 x layers x (width of all keys of a layer) numbers a slot where a prompt holds one width. What would count against
it as a repair: at the size of a prompt, returning no more than the prompt does.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from peft import PrefixEncoder, PrefixTuningConfig
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from data.errors import InputError
from probes.families import Heads, family_of
from probes.inputs import longest_content
from probes.prefix import Prefixes
from probes.prompts import SoftPrompt, draw_prompt
from probes.sharing import share_weights

FlatPrefix = Float[Tensor, "slot layer*2*head*head_width"]
"""A prefix as peft stores it: for each slot the key heads of layer 0, its value heads, those of layer 1, ..."""


@dataclass(frozen=True)
class PrefixShape:
    """What of a model's shape decides the form of its prefixes."""

    layers: int
    heads: int
    """Heads that have keys of their own: fewer than query heads where those share them."""
    head_width: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> "PrefixShape":
        """Read the shape off a model's configuration."""
        heads = Heads.of(model)
        return cls(len(family_of(model).blocks_of(model)), heads.key, heads.width)

    @property
    def per_slot(self) -> int:
        """Numbers in one slot."""
        return self.layers * 2 * self.heads * self.head_width


class TunedPrefix(Prefixes):
    """A trained prefix in the form in which the keys and values of prompts are read; gradients pass through it."""

    def __init__(self, flat: FlatPrefix, model: PreTrainedModel) -> None:
        """Lay the numbers out.

        Raises:
            InputError: they are another model's, or leave no place for content.
        """
        shape = PrefixShape.of(model)
        if flat.ndim != 2 or flat.shape[1] != shape.per_slot:
            raise InputError(
                f"a prefix of shape {tuple(flat.shape)} is not this model's: its {shape.layers} layers of "
                f"{shape.heads} key heads, {shape.head_width} wide, make {shape.per_slot} numbers a slot"
            )
        _check_length(model, flat.shape[0])
        self.flat = flat
        self.longest = flat.shape[0]
        self.seen = torch.ones(1, self.longest, dtype=torch.bool, device=flat.device)
        parts = flat.to(model.dtype).unflatten(1, (shape.layers, 2, shape.heads, shape.head_width))
        by_layer = parts.permute(1, 2, 3, 0, 4)[:, :, None]
        blocks = family_of(model).blocks_of(model)
        homes = [next(block.parameters()).device for block in blocks]  # several, where the model is spread over GPUs
        self.keys = [layer[0].to(home) for layer, home in zip(by_layer, homes, strict=True)]
        self.values = [layer[1].to(home) for layer, home in zip(by_layer, homes, strict=True)]
        embeddings: Any = model.get_input_embeddings()
        width: int = embeddings.weight.shape[1]
        self.placeholder: SoftPrompt = flat.new_zeros(self.longest, width).detach()
        """What stands at the prefix's places where inputs are embeddings: nothing."""


def flatten(prefixes: Prefixes) -> FlatPrefix:
    """The keys and values of one prompt in peft's order."""
    home = prefixes.seen.device
    stacked = torch.stack([torch.stack(pair).to(home) for pair in zip(prefixes.keys, prefixes.values, strict=True)])
    return stacked[:, :, 0].permute(3, 0, 1, 2, 4).flatten(1)


@torch.no_grad()
def draw_prefix(model: PreTrainedModel, length: int, seed: int) -> FlatPrefix:
    """An untuned prefix: what an untuned prompt of drawn words leaves at every layer.

    Raises:
        InputError: a length below one, or one that leaves no place for content.
    """
    _check_length(model, length)
    return flatten(Prefixes(model, [draw_prompt(model, length, seed)])).contiguous()


def _check_length(model: PreTrainedModel, length: int) -> None:
    if length < 1:
        raise InputError(f"a prefix of length {length} is no prefix: give a length of 1 or more")
    if longest_content(model, length) < 1:
        raise InputError(
            f"a prefix of {length} leaves no place for content in the model's {longest_content(model)} positions: "
            "give a shorter one"
        )


class EncodedPrefix(nn.Module):
    """The perceptron that makes a prefix while it is tuned (section 4.3), peft's own."""

    def __init__(self, model: PreTrainedModel, length: int, width: int, seed: int) -> None:
        super().__init__()
        _check_length(model, length)
        shape = PrefixShape.of(model)
        config = PrefixTuningConfig(
            num_virtual_tokens=length,
            token_dim=shape.heads * shape.head_width,
            num_layers=shape.layers,
            num_attention_heads=shape.heads,
            encoder_hidden_size=width,
            prefix_projection=True,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.encoder = PrefixEncoder(config).to(model.device)
        self._places: Int[Tensor, " slot"] = torch.arange(length, device=model.device)

    def forward(self) -> FlatPrefix:
        """What it makes of its vectors now."""
        return self.encoder(self._places)


class _Slots(DynamicCache):
    """A cache that keeps nothing and puts a prefix's keys and values in the place of those at given positions."""

    def __init__(self, prefix: TunedPrefix, attention_mask: Int[Tensor, "batch position"]) -> None:
        super().__init__()
        self._prefix = prefix
        first = attention_mask.argmax(dim=1)[:, None]
        places = first + torch.arange(prefix.longest, device=attention_mask.device)
        self._places = places[:, None, :, None]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *rest: object, **more: object
    ) -> tuple[Tensor, Tensor]:
        """The layer's own keys and values, the prefix's written over them."""
        held = self._prefix.keys[layer_idx], self._prefix.values[layer_idx]
        return self._over(key_states, held[0]), self._over(value_states, held[1])

    def _over(self, own: Tensor, held: Tensor) -> Tensor:
        batch, heads, _, width = own.shape
        places = self._places.to(own.device).expand(-1, heads, -1, width)
        return own.scatter(2, places, held.to(own.dtype).expand(batch, -1, -1, -1))


@dataclass(frozen=True)
class _ReadPrefix:
    """Called before the decoder: a pass that brings no cache of its own gets the prefix at its first real positions."""

    prefix: TunedPrefix

    def __call__(
        self, module: nn.Module, positional: tuple[object, ...], keywords: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        if keywords.get("past_key_values") is not None:
            return positional, keywords
        mask = keywords.get("attention_mask")
        if not isinstance(mask, Tensor) or mask.ndim != 2:
            raise RuntimeError("a model with a prefix needs an attention mask of the shape [batch, position]")
        return positional, keywords | {"past_key_values": _Slots(self.prefix, mask)}


def with_prefix(model: PreTrainedModel, prefix: TunedPrefix) -> PreTrainedModel:
    """A copy that shares the weights and reads the prefix wherever its inputs have the prefix's placeholder.

    So that whatever reads a model from embeddings (every capture backend, Hugging Face's own report) sees a prefix as
    it sees a prompt: as the first positions. A pass that brings a cache is left as it is: the prefix is in it.
    """
    own = share_weights(model)
    # The decoder, since some causal models call it past their `base_model`.
    decoder = own.get_submodule(family_of(own).blocks.rpartition(".")[0])
    decoder.register_forward_pre_hook(_ReadPrefix(prefix), with_kwargs=True)
    return own
