"""What the model itself says behind each prompt: of the question, or of what follows it.

    likelihood    mean log-likelihood of the question behind each prompt
    entropy       least entropy of the next token behind each prompt
    margin        largest gap between the two likeliest next tokens

One pass per prompt gives all three.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from data.facts import Fact
from probes.inputs import build_inputs
from probes.prefix import Prefixes
from probes.prompts import SoftPrompt
from probes.selection.base import Material, PromptSelector, Selection
from probes.specs.selectors import Cost, SelectorKind
from probes.windows import attention_mask

OUTPUT_READINGS = ("likelihood", "entropy", "margin")


class OutputSelector:
    """What the model itself says behind each prompt: of the question (likelihood), or of what follows it.

    likelihood: mean log-probability of the question's tokens, nats per token (the tokenizer's own opening token is
    left out); entropy: minus the entropy of the next token, nats; margin: gap of the two largest probabilities.
    """

    cost: Cost = "full_pass_per_prompt"

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[SoftPrompt],
        reading: str,
        shared: dict[tuple[tuple[int, ...], ...], dict[str, Tensor]] | None = None,
    ) -> None:
        """Read one of `OUTPUT_READINGS`; selectors of the others that are handed the same `shared` share its passes."""
        self._model, self._prompts, self._reading, self._shared = model, list(prompts), reading, shared

    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """This selector's reading of every prompt."""
        if self._shared is None:
            return self.readings(rows)[self._reading]
        asked = tuple(tuple(row) for row in rows)
        if asked not in self._shared:
            self._shared[asked] = self.readings(rows)
        return self._shared[asked][self._reading]

    @torch.no_grad()
    def readings(self, rows: Sequence[Sequence[int]]) -> dict[str, Float[Tensor, "batch prompt"]]:
        """All three readings from the same passes, one per prompt, whose keys and values are constants."""
        prefixes = self._prefixes
        inputs = build_inputs(self._model, rows, content_start=prefixes.longest)
        batch, width = inputs.attention_mask.shape
        # The column before each row's first token, once the prompt's end stands in front.
        before = width - torch.tensor([len(row) for row in rows], device=inputs.attention_mask.device)
        found: dict[str, list[Tensor]] = {name: [] for name in OUTPUT_READINGS}
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
    ) -> dict[str, Float[Tensor, " batch"]]:
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


def _compared(
    kinds: Sequence[SelectorKind], found: Material, people: Sequence[Fact]
) -> Iterator[tuple[str, PromptSelector]]:
    """All three from the same passes."""
    shared: dict[tuple[tuple[int, ...], ...], dict[str, Tensor]] = {}
    for kind in kinds:
        yield kind.name, OutputSelector(found.model, found.prompts, kind.name, shared)


SELECTION = Selection(
    lambda kind, found, people: OutputSelector(found.model, found.prompts, kind.name), compare=_compared
)
