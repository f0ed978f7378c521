"""Open variants of a finished run and ask them anything: from its stored cells, whatever version computed them.

Model libraries are loaded with this module: a page imports it when it is asked to. Only numbers leave it.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.allowance import bytes_free
from analysis.memory import PROCESS, QUESTION
from analysis.metrics.cosine import cosine_and_distance
from analysis.opening import open_variant, require_unchanged
from analysis.reading import Shown
from analysis.shapes import Shape
from analysis.stored_variants import Parts, find_parts
from analysis.work_examples import read_example
from data.errors import InputError
from data.facts import Candidates, Fact, Item
from probes.capture import Recorder
from probes.models import outline
from probes.sites import Kind, Site, sites_of
from probes.states import Question
from probes.tokens import encode
from probes.variants import Variant

ALONE = threading.Lock()
"""Variants of one parent share its weights and hooks change a model: one text is read at a time, whoever asks."""
MOST_TOKENS = 128
"""Tokens of a text: every head's pattern is kept, which grows with their square."""
LISTED = 10
"""Next tokens that are listed."""


@dataclass(frozen=True)
class Told:
    """What one variant makes of a text."""

    next_words: tuple[str, ...]
    """The likeliest next tokens, likeliest first."""
    next_log_probs: tuple[float, ...]
    """Of each, in nats."""
    shown: Shown
    """Attention and lens at every token; the 'right answer' of the lens is what the first variant says next."""
    states: Float[np.ndarray, "layer token width"]
    """The residual stream after each block, at the text's own tokens."""
    scores: tuple[float, ...]
    """What IDP's selector gave each prompt; none for any other variant."""
    kept: int | None
    """The prompt that IDP kept, counted from 0."""


def bytes_needed(parts: Sequence[Parts]) -> int:
    """Foretell what opening these variants at once takes: dense, a copy per compression, and one pass.

    Raises:
        InputError: the model's files are not there.
    """
    fields = parts[0].fields
    shape = Shape.of(outline(fields["model"]), fields["dtype"])
    copies = {one.needs.get("compressed") for one in parts} - {None}
    twins = any(one.spec.repair is not None and one.spec.repair.twin for one in parts)
    patterns = 4 * shape.layers * shape.heads * QUESTION**2
    return PROCESS + (1 + len(copies) + twins) * shape.weights + shape.layer(1, QUESTION) + patterns


def check_memory(parts: Sequence[Parts]) -> None:
    """Refuse what this machine has no memory for now.

    Raises:
        InputError: with what it takes and what there is.
    """
    needed, there = bytes_needed(parts), bytes_free()
    if needed > there:
        raise InputError(
            f"these variants take about {needed / 1e9:.1f} GB and {there / 1e9:.1f} GB are free: choose fewer "
            "compressions, or close what else is open"
        )


def open_parts(parts: Parts) -> Variant:
    """A variant, ready to be asked."""
    with ALONE:
        variant = open_variant(parts.fields, parts.spec, parts.needs)
        require_unchanged()
        return variant


def tokens_of(variant: Variant, text: str) -> list[int]:
    """A typed text in tokens.

    Raises:
        InputError: it has none, or too many.
    """
    tokens = encode(variant.tokenizer, text)
    if not tokens:
        raise InputError("type a text: this one has no tokens")
    if len(tokens) > MOST_TOKENS:
        raise InputError(f"this text has {len(tokens)} tokens: at most {MOST_TOKENS} are read with every head shown")
    return tokens


@torch.no_grad()
def ask(variants: Mapping[str, Variant], text: str) -> dict[str, Told]:
    """What variants of one model make of a text, by name; the lens is read for what the first one says next.

    Raises:
        InputError: a text without tokens, or longer than is shown whole.
    """
    with ALONE:
        first = next(iter(variants.values()))
        tokens = tokens_of(first, text)
        right = int(first.logits([tokens])[0].argmax())
        return {name: _ask(variant, tokens, right, text) for name, variant in variants.items()}


def _ask(variant: Variant, tokens: list[int], right: int, text: str) -> Told:
    log_probs = variant.logits([tokens])[0].float().log_softmax(-1)
    best = log_probs.topk(min(LISTED, len(log_probs)))
    read = read_example(variant, _question(tokens, right, text))
    choice = variant.choose([tokens])
    scores = () if choice is None else tuple(float(score) for score in choice.scores[0])
    return Told(
        next_words=tuple(str(variant.tokenizer.decode([token])) for token in best.indices.tolist()),
        next_log_probs=tuple(best.values.tolist()),
        shown=Shown(tokens=tuple(read.pop("tokens").tolist()), prompt=int(read.pop("prompt")), **read),
        states=_states(variant, tokens),
        scores=scores,
        kept=None if choice is None else int(choice.kept[0]),
    )


def _question(tokens: list[int], right: int, text: str) -> Question:
    """A typed text as the examples of a run are read: a question whose answer is the token that is looked for."""
    item = Item(Fact("typed", text, "", "typed", "test"), "measure", text, Candidates("typed", "typed", ("",), (1.0,)))
    return Question(item, tuple(tokens), right, ())


def _states(variant: Variant, tokens: list[int]) -> np.ndarray:
    held: dict[Site, Tensor] = {}

    def keep(site: Site, tensor: Tensor) -> None:
        held[site] = tensor[0, -len(tokens) :].float().cpu()

    with Recorder(variant.model, backend="hooks") as recorder:
        nothing = torch.empty(0, dtype=torch.long)
        recorder.stream(variant.inputs([tokens]), sites_of(variant.model, [Kind.RESID_POST]), keep, logits_at=nothing)
    return torch.stack([held[site] for site in sorted(held)]).numpy()


def drift_table(told: Mapping[str, Told], reference: str) -> pd.DataFrame:
    """How far each variant's residual stream lies from a reference's on this text: a row per variant and layer.

    Columns: variant, layer, value (1 - cosine, a mean over the text's tokens), tokens.
    """
    rows = []
    for name, one in told.items():
        cosine, _ = cosine_and_distance(torch.from_numpy(one.states), torch.from_numpy(told[reference].states))
        rows += [
            {"variant": name, "layer": layer, "value": float(value), "tokens": one.states.shape[1]}
            for layer, value in enumerate(cosine.mean(dim=1))
        ]
    return pd.DataFrame(rows, columns=["variant", "layer", "value", "tokens"])


__all__ = [
    "Parts",
    "Told",
    "ask",
    "bytes_free",
    "bytes_needed",
    "check_memory",
    "drift_table",
    "find_parts",
    "open_parts",
    "tokens_of",
]
