"""Soft prompts: n vectors put before the content's embeddings, tuned or (as placebo) not.

Prompt tuning, Lester et al. (arXiv 2104.08691):
1. Start from the embeddings of n words drawn from the vocabulary (section 3.2, "sampled vocabulary").
2. Freeze the model; move only the n vectors, by the loss on the tuning text.

A placebo is a prompt that was never tuned: whatever it returns is owed to having a prompt at all. What would
count against a repair is a tuned prompt inside the distribution of these draws.
"""

from pathlib import Path
from typing import Literal, cast

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from data.errors import InputError

SoftPrompt = Float[Tensor, "length width"]
PlaceboKind = Literal["vocabulary", "gaussian"]
PLACEBO_KINDS: tuple[PlaceboKind, ...] = ("vocabulary", "gaussian")
STORED_NAME = "prompt_embeddings"
"""The name peft gives the tensor of a prompt-tuning adapter."""


def draw_prompt(model: PreTrainedModel, length: int, seed: int, kind: PlaceboKind = "vocabulary") -> SoftPrompt:
    """An untuned prompt: embeddings of drawn tokens, or Gaussian vectors of the same norms.

    Raises:
        InputError: a length below one.
    """
    if length < 1:
        raise InputError(f"a prompt of length {length} is no prompt: give a length of 1 or more")
    generator = torch.Generator().manual_seed(seed)
    table = cast(nn.Embedding, model.get_input_embeddings()).weight
    drawn = table[torch.randint(table.shape[0], (length,), generator=generator).to(table.device)]
    drawn = drawn.detach().clone()
    if kind == "vocabulary":
        return drawn
    noise = torch.randn(drawn.shape, generator=generator).to(drawn)
    return noise * (drawn.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True))


def save_prompts(prompts: list[SoftPrompt], path: Path) -> None:
    """One file for a prompt or a bank of them, lengths as they are."""
    names = [STORED_NAME] if len(prompts) == 1 else [f"{STORED_NAME}.{i}" for i in range(len(prompts))]
    save_file({name: prompt.contiguous() for name, prompt in zip(names, prompts, strict=True)}, path)


def load_prompts(path: Path) -> list[SoftPrompt]:
    """What `save_prompts` wrote, in order."""
    stored = load_file(path)
    if set(stored) == {STORED_NAME}:
        return [stored[STORED_NAME]]
    return [stored[f"{STORED_NAME}.{index}"] for index in range(len(stored))]
