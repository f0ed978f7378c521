"""Keys and values of prompts, computed once.

Prompts come first and attention is causal, so what a prompt's positions hold at any layer is the same whatever
follows: a constant of the variant. A pass over content then reads these keys and values and never the prompt.

Each prompt is right-aligned: its last vector stands one position before the content, whichever prompt is shown.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer


class Prefixes:
    """The keys and values of one prompt or several, padded on the left to the longest.

    `keys[layer]` and `values[layer]` have the shape [prompt, head, slot, head width]; `seen` says which slots of
    a prompt are its own and which are padding. `ends` are the last hidden states after each prompt's last vector:
    what the model says of the first content token.
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Float[Tensor, "length width"]]) -> None:
        """Read each prompt alone; gradients reach a prompt that asks for them, as it does while it is tuned."""
        longest = max(prompt.shape[0] for prompt in prompts)
        self.longest = longest
        self.seen: Bool[Tensor, "prompt slot"] = torch.zeros(
            len(prompts), longest, dtype=torch.bool, device=model.device
        )
        keys: list[list[Tensor]] = []
        values: list[list[Tensor]] = []
        ends: list[Tensor] = []
        for index, prompt in enumerate(prompts):
            length = prompt.shape[0]
            self.seen[index, longest - length :] = True
            cache, hidden = _read_alone(model, prompt, longest - length)
            layers = keys_and_values(cache)
            ends.append(hidden[-1])
            pad = (0, 0, longest - length, 0)
            keys.append([torch.nn.functional.pad(one, pad) for one, _ in layers])
            values.append([torch.nn.functional.pad(one, pad) for _, one in layers])
        self.keys = [torch.cat(layer) for layer in zip(*keys, strict=True)]
        self.values = [torch.cat(layer) for layer in zip(*values, strict=True)]
        self.ends: Float[Tensor, "prompt width"] = torch.stack(ends)

    def chosen(self, kept: Int[Tensor, " batch"]) -> tuple[DynamicCache, Int[Tensor, "batch slot"]]:
        """For each row the keys and values of one prompt, and the mask of its slots."""
        cache = DynamicCache()
        for layer, held in enumerate(zip(self.keys, self.values, strict=True)):
            # One prompt is every row's: laid out without a copy, and its gradient is a plain sum over rows.
            keys, values = (
                one.expand(len(kept), -1, -1, -1) if len(one) == 1 else one[kept.to(one.device)] for one in held
            )
            cache.update(keys, values, layer)
        return cache, self.seen[kept].long()

    def places(self, batch: int, prompts: int = 1) -> Int[Tensor, "batch slot"]:
        """Position of every slot of a row: of one prompt, or of several that stand side by side."""
        return torch.arange(self.longest, device=self.seen.device).repeat(batch, prompts)

    def side_by_side(self, batch: int) -> tuple[DynamicCache, Bool[Tensor, " prompt*slot"]]:
        """For each row the keys and values of all prompts, blind to each other, and which slots are theirs."""
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            cache.update(_in_a_row(keys, batch), _in_a_row(values, batch), layer)
        return cache, self.seen.flatten()


def keys_and_values(cache: DynamicCache) -> list[tuple[Float[Tensor, "..."], Float[Tensor, "..."]]]:
    """What a cache holds, layer by layer, each tensor of the shape [row, head, position, head width]."""
    layers = []
    for layer in cache.layers:
        if not isinstance(layer, DynamicLayer) or layer.keys is None or layer.values is None:
            raise RuntimeError(f"a {type(layer).__name__} holds no keys and values: only full attention is supported")
        layers.append((layer.keys, layer.values))
    return layers


def _read_alone(
    model: PreTrainedModel, prompt: Float[Tensor, "length width"], first: int
) -> tuple[DynamicCache, Float[Tensor, "length width"]]:
    """Cache and last hidden states of this prompt alone, its first vector standing at position `first`."""
    length = prompt.shape[0]
    positions = torch.arange(first, first + length, device=model.device)[None]
    mask = torch.ones_like(positions)
    cache = DynamicCache()
    output = model.base_model(
        inputs_embeds=prompt[None].to(model.dtype),
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    )
    return cache, output.last_hidden_state[0]


def _in_a_row(
    stacked: Float[Tensor, "prompt head slot width"], batch: int
) -> Float[Tensor, "batch head prompt*slot width"]:
    """Prompts one after the other, the same for every row."""
    return stacked.transpose(0, 1).flatten(1, 2)[None].expand(batch, -1, -1, -1)
