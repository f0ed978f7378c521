"""Selectors other than attention: what IDP's choice (arXiv 2310.00867, section 3.2) is to be compared with.

1. Each gives every prompt of a bank a score for every row, from the row's own tokens, never from an answer.
2. The prompt with the largest score is kept; of equal scores the first.

    random        drawn from a hash of the row: stable whatever stands beside it
    fixed         one prompt for all: the best on tune facts
    likelihood    mean log-likelihood of the question behind each prompt
    entropy       least entropy of the next token behind each prompt
    margin        largest gap between the two likeliest next tokens
    key           cosine of the question's mean embedding and the prompt's own mean vector
    cluster       the nearest centre of the questions that each prompt was tuned on
    router        a classifier trained on tune facts (`probes/router.py`)
    oracle        the right answer's log-probability in another phrasing: a bound, labelled, never a repair
    mixture       no choice: the mean of the probabilities over all prompts (`probes/mixture.py`)

What would count against attention: any of the first, which know nothing or cost less, being as good.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from data.errors import InputError
from probes.idp import Cost
from probes.inputs import build_inputs
from probes.prefix import Prefixes
from probes.prompts import SoftPrompt
from probes.specs.banks import SelectorKind
from probes.windows import attention_mask

OutputReading = Literal["likelihood", "entropy", "margin"]
OUTPUT_READINGS: tuple[OutputReading, ...] = get_args(OutputReading)


class RandomSelector:
    """A prompt drawn for each row from a hash of its tokens and a seed, so that order and batch do not matter."""

    cost: Cost = "none"

    def __init__(self, prompts: int, seed: int) -> None:
        self._prompts, self._seed = prompts, seed

    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """Numbers drawn uniformly from [0, 1)."""
        return torch.tensor(np.stack([self._drawn(row) for row in rows]))

    def _drawn(self, row: Sequence[int]) -> Float[np.ndarray, " prompt"]:
        content = f"{self._seed} {' '.join(str(int(token)) for token in row)}"
        digest = hashlib.sha256(content.encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big")).random(self._prompts)


class FixedSelector:
    """One prompt for every row."""

    cost: Cost = "none"

    def __init__(self, prompts: int, kept: int) -> None:
        self._prompts, self.kept = prompts, kept

    @classmethod
    def best(cls, log_probs: Float[np.ndarray, "fact prompt"] | None) -> "FixedSelector":
        """The prompt with the largest mean log-probability of the right answer over tune facts.

        Raises:
            InputError: no tune facts.
        """
        log_probs = required("fixed", log_probs)
        return cls(log_probs.shape[1], int(log_probs.mean(axis=0).argmax()))

    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """One for the prompt that is kept, zero for the others."""
        scores = torch.zeros(len(rows), self._prompts)
        scores[:, self.kept] = 1.0
        return scores


class OutputSelector:
    """What the model itself says behind each prompt: of the question (likelihood), or of what follows it.

    likelihood: mean log-probability of the question's tokens, nats per token (the tokenizer's own opening token is
    left out); entropy: minus the entropy of the next token, nats; margin: gap of the two largest probabilities.
    """

    cost: Cost = "full_pass_per_prompt"

    def __init__(self, model: PreTrainedModel, prompts: Sequence[SoftPrompt], reading: OutputReading) -> None:
        self._model, self._prompts, self._reading = model, list(prompts), reading

    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """This selector's reading of every prompt."""
        return self.readings(rows)[self._reading]

    @torch.no_grad()
    def readings(self, rows: Sequence[Sequence[int]]) -> dict[OutputReading, Float[Tensor, "batch prompt"]]:
        """All three readings from the same passes, one per prompt, whose keys and values are constants."""
        prefixes = self._prefixes
        inputs = build_inputs(self._model, rows, content_start=prefixes.longest)
        batch, width = inputs.attention_mask.shape
        # The column before each row's first token, once the prompt's end stands in front.
        before = width - torch.tensor([len(row) for row in rows], device=inputs.attention_mask.device)
        found: dict[OutputReading, list[Tensor]] = {name: [] for name in OUTPUT_READINGS}
        for place, end in enumerate(prefixes.ends):
            cache, slots = prefixes.chosen(torch.full_like(before, place))
            seen = torch.cat([slots, inputs.attention_mask], dim=1)
            positions = torch.cat([prefixes.places(batch), inputs.position_ids], dim=1)
            hidden = self._model.base_model(
                inputs_embeds=inputs.embeds,
                attention_mask=attention_mask(self._model, seen, positions, inputs.position_ids),
                position_ids=inputs.position_ids,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            hidden = torch.cat([hidden.new_zeros(batch, 1, hidden.shape[2]), hidden], dim=1)
            hidden[torch.arange(batch, device=before.device), before] = end
            for name, values in self._read(hidden, rows).items():
                found[name].append(values)
        return {name: torch.stack(columns, dim=1) for name, columns in found.items()}

    @cached_property
    def _prefixes(self) -> Prefixes:
        return Prefixes(self._model, self._prompts)

    def _read(
        self, hidden: Float[Tensor, "batch position width"], rows: Sequence[Sequence[int]]
    ) -> dict[OutputReading, Float[Tensor, " batch"]]:
        """The readings of rows that end in one column, each behind the end of its prompt."""
        head: nn.Module = self._model.get_output_embeddings()
        log_probs = head(hidden).float().log_softmax(dim=-1)
        said = torch.zeros(len(rows), hidden.shape[1] - 1, dtype=torch.long)
        counted = torch.zeros_like(said, dtype=torch.bool)
        for place, row in enumerate(rows):
            opened = len(row) > 1 and row[0] == self._model.config.bos_token_id
            said[place, -len(row) :] = torch.tensor(list(row))
            counted[place, int(opened) - len(row) :] = True
        said, counted = said.to(hidden.device), counted.to(hidden.device)
        taken = log_probs[:, :-1].gather(2, said[:, :, None])[:, :, 0].masked_fill(~counted, 0.0)
        following = log_probs[:, -1].exp()
        top = following.topk(2, dim=1).values
        return {
            "likelihood": taken.sum(dim=1) / counted.sum(dim=1),
            "entropy": torch.special.xlogy(following, following).sum(dim=1),
            "margin": top[:, 0] - top[:, 1],
        }


class KeySelector:
    """The prompt whose key is nearest to the row's mean input embedding."""

    cost: Cost = "none"

    def __init__(
        self,
        model: PreTrainedModel,
        keys: Float[Tensor, "prompt width"],
        distance: Literal["cosine", "euclidean"] = "cosine",
    ) -> None:
        self._model, self._keys, self._distance = model, keys.float(), distance

    @classmethod
    def of_prompts(cls, model: PreTrainedModel, prompts: Sequence[SoftPrompt]) -> "KeySelector":
        """Each prompt's own mean vector is its key."""
        return cls(model, torch.stack([prompt.float().mean(dim=0) for prompt in prompts]))

    @classmethod
    def of_clusters(cls, model: PreTrainedModel, centres: Float[Tensor, "prompt width"] | None) -> "KeySelector":
        """The centre of what each prompt was tuned on is its key.

        Raises:
            InputError: a bank whose prompts were all tuned on the same text.
        """
        if centres is None:
            raise InputError(
                "selector 'cluster' needs a bank whose prompts were tuned on different texts: name bank relations or "
                "clusters, or another selector"
            )
        return cls(model, centres, "euclidean")

    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """Cosine, or minus the Euclidean distance."""
        means = mean_embeddings(self._model, rows)
        if self._distance == "euclidean":
            return -torch.cdist(means, self._keys)
        return nn.functional.cosine_similarity(means[:, None], self._keys[None], dim=2)


class OracleSelector:
    """The prompt behind which the right answer was likeliest in another phrasing of the same fact: a bound.

    It looks at an answer, hence it is no repair; but never at the phrasing that is scored, so that luck in one
    question is not counted as knowledge.
    """

    cost: Cost = "full_pass_per_prompt"

    def __init__(self, known: Mapping[tuple[int, ...], Sequence[float]]) -> None:
        self._known = known
        """By the tokens of the question that will be asked: log-probabilities per prompt in the other phrasing."""

    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """Log-probability of the right answer in the other phrasing, nats.

        Raises:
            InputError: a row that is no question it was given.
        """
        if unknown := [row for row in rows if tuple(row) not in self._known]:
            raise InputError(f"selector 'oracle' knows questions alone: asked a row of {len(unknown[0])} tokens")
        return torch.tensor([list(self._known[tuple(row)]) for row in rows])


class MixtureSelector:
    """No choice: every prompt is kept, and `probes/mixture.py` scores their mean."""

    cost: Cost = "full_pass_per_prompt"

    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """Refuse.

        Raises:
            InputError: always, since no prompt is kept.
        """
        raise InputError("selector 'mixture' keeps no single prompt: score it with score_mixture, or name another")


def mean_embeddings(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> Float[Tensor, "row width"]:
    """Mean input embedding of each row, in fp32."""
    table = model.get_input_embeddings()
    means = [table(torch.tensor(list(row), device=model.device)).float().mean(dim=0) for row in rows]
    return torch.stack(means).detach()


def required(selector: SelectorKind, log_probs: np.ndarray | None) -> Float[np.ndarray, "fact prompt"]:
    """What a selector is trained on.

    Raises:
        InputError: there is nothing.
    """
    if log_probs is None or not len(log_probs):
        raise InputError(
            f"selector '{selector}' is fitted on tune facts and there are none: give facts of the tune split, or name "
            "another selector"
        )
    return log_probs
