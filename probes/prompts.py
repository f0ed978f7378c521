"""Soft prompts: n vectors put before the content's embeddings, tuned or (as placebo) not.

Prompt tuning, Lester et al. (arXiv 2104.08691):
1. Start from the embeddings of n words drawn from the vocabulary (section 3.2, "sampled vocabulary").
2. Freeze the model; move only the n vectors, by the loss on the tuning text.

A placebo is a prompt that was never tuned: whatever it returns is owed to having a prompt at all. What would
count against a repair is a tuned prompt inside the distribution of these draws.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data.errors import InputError
from probes.specs.repairs.placebo import PlaceboKind
from probes.tokens import encode

SoftPrompt = Float[Tensor, "length width"]
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


def check_widths(prompts: Sequence[SoftPrompt]) -> None:
    """Refuse an empty bank and one whose prompts differ in width.

    Raises:
        InputError: naming the widths.
    """
    if not prompts:
        raise InputError("a bank without a prompt: give at least one")
    widths = sorted({int(prompt.shape[1]) for prompt in prompts})
    if len(widths) > 1:
        raise InputError(
            f"a bank holds prompts of widths {', '.join(map(str, widths))}: all must come from models of one width"
        )


def save_prompts(prompts: list[SoftPrompt], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """One safetensors file for a prompt or a bank of them, lengths as they are, with words on where they come from.

    Raises:
        InputError: prompts of several widths.
    """
    check_widths(prompts)
    names = [STORED_NAME] if len(prompts) == 1 else [f"{STORED_NAME}.{i}" for i in range(len(prompts))]
    tensors = {name: prompt.contiguous() for name, prompt in zip(names, prompts, strict=True)}
    save_file(tensors, path, metadata=None if metadata is None else dict(metadata))


def load_prompts(path: Path) -> list[SoftPrompt]:
    """What `save_prompts` wrote, in order.

    Raises:
        InputError: a file of something else, or prompts of several widths.
    """
    stored = load_file(path)
    names = [STORED_NAME] if set(stored) == {STORED_NAME} else [f"{STORED_NAME}.{i}" for i in range(len(stored))]
    if set(names) != set(stored):
        raise InputError(f"{path}: not a file of soft prompts (it holds {', '.join(sorted(stored)[:3])})")
    prompts = [stored[name] for name in names]
    check_widths(prompts)
    return prompts


def brought_prompts(files: Sequence[Path]) -> list[SoftPrompt]:
    """The prompts of several files as one bank, in order.

    Raises:
        InputError: a file that is missing or holds something else, or prompts of several widths.
    """
    prompts: list[SoftPrompt] = []
    for file in files:
        try:
            prompts += load_prompts(file)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"bank file '{file}' cannot be read as safetensors ({type(error).__name__}): give a file of prompts"
            ) from None
    check_widths(prompts)
    return prompts


def text_prompts(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[SoftPrompt]:
    """The input embeddings of given texts as prompts.

    Raises:
        InputError: a text that the tokenizer makes nothing of.
    """
    table = model.get_input_embeddings()
    rows = [encode(tokenizer, text) for text in texts]
    if empty := [text for text, row in zip(texts, rows, strict=True) if not row]:
        raise InputError(f"the text '{empty[0]}' has no tokens")
    return [table(torch.tensor(row, device=model.device)).detach().clone() for row in rows]
