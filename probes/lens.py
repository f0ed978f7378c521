"""Logit lens: what each layer would say if the model stopped there.

nostalgebraist 2020 ("interpreting GPT: the logit lens"); the divergence as in the tuned lens, arXiv 2303.08112,
section 3, which also warns that the plain lens is biased where early layers use a basis of their own:

1. Take the residual stream after each block at the last content position; at the last layer the model's logits.
2. Send it through the model's own final norm and head.
3. Compare layer by layer: KL from the dense model's lens to the variant's, and where the right answer stands.

A variant is decoded by its own head, which no compression here touches. What would count against "the answer
was there and got lost": a variant whose right answer is nowhere near the top at any layer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from probes.backends import as_reported
from probes.sites import Kind, Site
from probes.states import LastStates, Question, last_states
from probes.variants import Variant


@dataclass(frozen=True)
class LensReading:
    """The lens of one variant over the items, layer by layer."""

    log_prob: Float[Tensor, "layer item"]
    """Of the first token of the right answer, in nats, over the whole vocabulary."""
    rank: Int[Tensor, "layer item"]
    """Of that token: 1 is the top."""
    divergence: Float[Tensor, "layer item"] | None
    """KL from the reference's lens at the same layer to this one's, in bits; None without a reference."""

    @property
    def depth(self) -> Int[Tensor, " item"]:
        """Depth at which each answer appears; see `depth_of_answer`."""
        return depth_of_answer(self.rank)


def divergence_bits(
    reference: Float[Tensor, "... vocabulary"], log_probs: Float[Tensor, "... vocabulary"]
) -> Float[Tensor, "..."]:
    """KL(reference || other) of two log-distributions in nats, given in bits; exactly 0 for equal ones."""
    return (reference.exp() * (reference - log_probs)).sum(-1) / log(2)


def rank_of(log_probs: Float[Tensor, "... item vocabulary"], tokens: Int[Tensor, " item"]) -> Int[Tensor, "... item"]:
    """Rank of one token per item: how many are at least as likely, itself included.

    A tie counts against it, so that a flat distribution knows nothing.
    """
    own = log_probs.gather(-1, tokens.expand(log_probs.shape[:-1])[..., None])
    return (log_probs >= own).sum(-1)


def depth_of_answer(rank: Int[Tensor, "layer item"]) -> Int[Tensor, " item"]:
    """First layer from which the rank stays 1 to the end; the number of layers where it does not end at 1."""
    on_top_to_the_end = (rank == 1).long().flip(0).cumprod(0)
    return len(rank) - on_top_to_the_end.sum(0)


@torch.no_grad()
def decode(model: PreTrainedModel, residual: Float[Tensor, "item width"]) -> Float[Tensor, "item vocabulary"]:
    """Logits of residual states through the model's final norm (or projection out) and its head."""
    last = Site(model.config.num_hidden_layers - 1, Kind.RESID_POST)
    return cast(nn.Module, model.get_output_embeddings())(as_reported(model, last, residual))


def lens(model: PreTrainedModel, states: LastStates) -> Iterator[Float[Tensor, "item vocabulary"]]:
    """Log-probabilities in nats, one layer at a time: all layers at once would be layers x items x vocabulary."""
    for residual in states.residual[:-1]:
        yield decode(model, residual).float().log_softmax(-1)
    yield states.logits.float().log_softmax(-1)


def read_lens(
    variant: Variant,
    questions: Sequence[Question],
    *,
    reference: tuple[PreTrainedModel, LastStates] | None = None,
    batch: int = 64,
) -> LensReading:
    """Run a variant and read every layer's lens.

    `reference` is the dense model with its `last_states` for the same questions in the same order: its pass is
    made once for all variants. Raises ValueError for a reference of another size.
    """
    states = last_states(variant, [question.tokens for question in questions], batch=batch)
    if reference is not None and reference[1].residual.shape[:2] != states.residual.shape[:2]:
        raise ValueError(f"reference holds {reference[1].residual.shape}, the variant {states.residual.shape}")
    tokens = torch.tensor([question.right for question in questions], device=states.logits.device)
    theirs = None if reference is None else lens(*reference)
    log_prob, rank, divergence = [], [], []
    for log_probs in lens(variant.model, states):
        log_prob.append(log_probs.gather(-1, tokens[:, None])[:, 0])
        rank.append(rank_of(log_probs, tokens))
        if theirs is not None:
            divergence.append(divergence_bits(next(theirs), log_probs))
    return LensReading(torch.stack(log_prob), torch.stack(rank), torch.stack(divergence) if divergence else None)
