"""A variant: the dense model, a compressed copy, or either with a repair; one form for all of them.

`VariantSpec` says what a variant is (hashable, so it is a key); `Variant` is the thing itself: a model, a
tokenizer, and the prompt, bank of prompts or trained prefix before every content. `inputs` builds what
any use of it reads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from data.errors import InputError
from probes.idp import PromptBank
from probes.inputs import Inputs, build_inputs, longest_content
from probes.prefix import Prefixes
from probes.prefix_tuning import TunedPrefix, with_prefix
from probes.prompts import SoftPrompt
from probes.sharing import Guard
from probes.windows import attention_mask

DIFFERENCE_FLOOR = 1e-6
"""Logits of a variant and its parent that nowhere differ by more are the same model twice."""


@dataclass(frozen=True)
class Choice:
    """IDP's decision for a batch."""

    kept: Int[Tensor, " batch"]
    scores: Float[Tensor, "batch prompt"]


@dataclass(frozen=True)
class Reading:
    """Where a variant stands after reading rows: what a continuation needs."""

    logits: Float[Tensor, "batch vocabulary"]
    """After the last token of each row."""
    cache: DynamicCache
    seen: Int[Tensor, "batch key"]
    """1 for every key that is prompt or content."""
    positions: Int[Tensor, "batch key"]
    """Position of every key."""
    next_position: Int[Tensor, "batch 1"]


@dataclass
class Variant:
    """A model ready to be asked; weights may be shared with its parent."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prompt: SoftPrompt | None = None
    bank: PromptBank | None = None
    prefix: TunedPrefix | None = None
    guard: Guard | None = None
    """Of the weights that it shares with others; looked at before every pass."""

    def __post_init__(self) -> None:
        """Refuse two prompts at once; a model with a prefix becomes a copy, sharing weights, that reads it."""
        shown = {"a prompt": self.prompt, "a bank": self.bank, "a prefix": self.prefix}
        held = [name for name, one in shown.items() if one is not None]
        if len(held) > 1:
            raise ValueError(f"{self.name} has {' and '.join(held)}: it can have one")
        if self.prefix is not None:
            self.model = with_prefix(self.model, self.prefix)

    def choose(self, rows: Sequence[Sequence[int]]) -> Choice | None:
        """IDP's choice for each row, from these tokens alone; None for every other variant."""
        if self.bank is None:
            return None
        scores = self.bank.scores(rows)
        return Choice(scores.argmax(dim=1), scores)

    def inputs(self, rows: Sequence[Sequence[int]], choice: Choice | None = None) -> Inputs:
        """Inputs for these rows behind the variant's prompt, or behind the prompts already chosen."""
        self.require_unchanged()
        if self.bank is not None:
            choice = choice or self.choose(rows)
            assert choice is not None
            prompts = [self.bank.prompts[int(index)] for index in choice.kept]
            return build_inputs(self.model, rows, prompts, content_start=self.bank.longest)
        if self.prompt is not None:
            return build_inputs(self.model, rows, [self.prompt] * len(rows))
        if self.prefix is not None:
            return build_inputs(self.model, rows, [self.prefix.placeholder] * len(rows))
        return build_inputs(self.model, rows)

    def require_unchanged(self) -> None:
        """Compare the counters of the weights that are shared.

        Raises:
            ChangedWeightsError: one of them was changed.
        """
        if self.guard is not None:
            self.guard.look()

    @cached_property
    def prefixes(self) -> Prefixes | None:
        """Keys and values of the variant's prompts at every layer; None where it has none."""
        if self.bank is not None:
            return Prefixes(self.model, self.bank.prompts)
        if self.prefix is not None:
            return self.prefix
        return None if self.prompt is None else Prefixes(self.model, [self.prompt])

    @torch.no_grad()
    def read(self, rows: Sequence[Sequence[int]], choice: Choice | None = None) -> Reading:
        """Read these rows behind the variant's prompt, whose keys and values are constants.

        Gives what a pass over `inputs` gives, without a pass over the prompt.
        """
        return self._read(rows, choice, 1)[1]

    @torch.no_grad()
    def last_logits(
        self, rows: Sequence[Sequence[int]], count: int, choice: Choice | None = None
    ) -> Float[Tensor, "batch count vocabulary"]:
        """Logits after each of the last tokens of these rows; those before a shorter row's first mean nothing."""
        return self._read(rows, choice, count)[0]

    def _read(
        self, rows: Sequence[Sequence[int]], choice: Choice | None, count: int
    ) -> tuple[Float[Tensor, "batch count vocabulary"], Reading]:
        self.require_unchanged()
        prefixes, cache = self.prefixes, DynamicCache()
        inputs = build_inputs(self.model, rows, content_start=0 if prefixes is None else prefixes.longest)
        seen, positions = inputs.attention_mask, inputs.position_ids
        if prefixes is not None:
            if self.bank is not None:
                choice = choice or self.choose(rows)
            kept = seen.new_zeros(len(rows)) if choice is None else choice.kept
            cache, slots = prefixes.chosen(kept)
            seen = torch.cat([slots, seen], dim=1)
            positions = torch.cat([prefixes.places(len(rows)), positions], dim=1)
        output = self.model(
            inputs_embeds=inputs.embeds,
            attention_mask=attention_mask(self.model, seen, positions, inputs.position_ids),
            position_ids=inputs.position_ids,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=count,
        )
        following = inputs.position_ids[:, -1:] + 1
        return output.logits, Reading(output.logits[:, -1], cache, seen, positions, following)

    def logits(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch vocabulary"]:
        """Logits after the last token of each row."""
        return self.read(rows).logits

    @torch.no_grad()
    def generate_rows(
        self,
        rows: Sequence[Sequence[int]],
        new_tokens: int,
        ended: Callable[[list[int]], bool] | None = None,
        choice: Choice | None = None,
    ) -> list[list[int]]:
        """Greedy continuations of a batch, each until it has `ended` or has so many tokens.

        IDP chooses once, from the rows, unless the choice has been made.

        Raises:
            InputError: when a row and its continuation are longer than the model's positions.
        """
        reading = self.read(rows, choice)
        # The last token said is never read.
        if int(reading.next_position.max()) + new_tokens - 1 > longest_content(self.model):
            raise InputError(
                f"{max(map(len, rows))} tokens and {new_tokens} new ones pass the model's "
                f"{longest_content(self.model)} positions: shorten the text or ask for fewer"
            )
        seen, positions = reading.seen, reading.positions
        position, logits = reading.next_position, reading.logits
        said: list[list[int]] = [[] for _ in rows]
        going = set(range(len(rows)))
        for place in range(new_tokens):
            token = logits.argmax(dim=-1, keepdim=True)
            for row in sorted(going):
                said[row].append(int(token[row]))
                if ended is not None and ended(said[row]):
                    going.discard(row)
            if not going or place == new_tokens - 1:
                break
            seen = torch.cat([seen, torch.ones_like(token)], dim=1)
            positions = torch.cat([positions, position], dim=1)
            output = self.model(
                inputs_embeds=self.model.get_input_embeddings()(token),
                attention_mask=attention_mask(self.model, seen, positions, position),
                position_ids=position,
                past_key_values=reading.cache,
                use_cache=True,
            )
            position, logits = position + 1, output.logits[:, -1]
        return said


def require_difference(variant: Variant, parent: Variant, rows: Sequence[Sequence[int]]) -> float:
    """Largest difference of logits between a variant and its parent.

    Raises:
        RuntimeError: when there is none, so that a comparison would be of a model with itself.
    """
    difference = float((variant.logits(rows) - parent.logits(rows)).abs().max())
    if not difference > DIFFERENCE_FLOOR:
        raise RuntimeError(
            f"'{variant.name}' does not differ from its parent '{parent.name}' (largest logit difference "
            f"{difference:.1e}): the repair or compression did nothing"
        )
    return difference
