"""lm-eval (EleutherAI's lm-evaluation-harness) scores any variant through this adapter.

1. Tokens are lm-eval's own: its split of context and continuation, its rule for the opening token, its windows.
2. The window is the model's positions less the prompt, whose tokens are never scored; a context that is too long for
   it loses its first tokens, as in lm-eval, and every such cut is counted.
3. IDP chooses once per request, from the request's context alone; of running text, from the token before a window
   (a window's own tokens are what is scored).

lm-eval's way with prompt adapters gives them the whole window (lm-evaluation-harness PR 533 and what followed), and
its batches are padded by their longest row; here rows are padded as everywhere (`probes/inputs.py`).
"""

import json
from collections.abc import Collection, Sequence
from typing import Any, cast

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from data.errors import InputError
from probes.continuations import Pair, Scored, score_pairs
from probes.inputs import longest_content
from probes.tokens import ends_of
from probes.variants import Variant

GENERATED = 256
"""Tokens said at most where a task does not say: lm-eval's own number."""


class VariantLM(TemplateLM):
    """One variant as lm-eval's model. What it noted of every request can be read afterwards."""

    def __init__(self, variant: Variant, *, batch: int = 16, window: int | None = None) -> None:
        super().__init__()
        prompt = 0 if variant.prefixes is None else variant.prefixes.longest
        room = longest_content(variant.model, prompt)
        self.variant, self.tokenizer, self.batch = variant, variant.tokenizer, batch
        self.max_length = room if window is None else min(window, room)
        """Tokens that are read at once beside the prompt."""
        self.add_bos_token: bool | None = None
        self.chat_template_args: dict[str, Any] = {}
        self.cut: dict[tuple[str, str], int] = {}
        """By context and continuation ("" where one is generated): tokens that the context lost."""
        self.chosen: dict[tuple[str, str], int] = {}
        """By context and continuation ("" where one is generated): the prompt that IDP kept."""

    apply_chat_template = HFLM.apply_chat_template

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **more: Any) -> list[int]:
        """Tokens of a text as lm-eval's own model has them, less what a tokenizer ends every text with."""
        found: list[int] = HFLM.tok_encode(cast(HFLM, self), string, add_special_tokens, **more)
        closing = list(ends_of(self.tokenizer).closing)
        return found[: -len(closing)] if closing and found[-len(closing) :] == closing else found

    @property
    def tokenizer_name(self) -> str:
        """By which lm-eval would keep the requests that it made: it is asked to keep none."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    @property
    def eot_token_id(self) -> int | None:
        """The token that ends a text; None where the tokenizer has none."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has no context: the opening token, else the end token, else padding.

        Raises:
            InputError: the tokenizer has none of these.
        """
        known = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id)
        found = next((one for one in known if one is not None), None)
        if found is None:
            raise InputError("the tokenizer has no opening, end or padding token: name one, so that a text can begin")
        return int(found)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation in nats, and whether greedy decoding says it; no bar is drawn."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """Log-likelihoods of continuations in nats, and whether each is what greedy decoding says.

        Raises:
            InputError: a continuation without tokens, or one that is longer than the window by itself.
        """
        pairs = [self._fitted(text, context, continuation) for text, context, continuation in requests]
        scored = score_pairs(self.variant, pairs, batch=self.batch)
        for (text, _, _), one in zip(requests, scored, strict=True):
            if one.chosen is not None:
                self.chosen[text] = one.chosen
        return [(one.log_prob, one.greedy) for one in scored]

    def _fitted(self, text: tuple[str, str], context: list[int], continuation: list[int]) -> Pair:
        """A request's tokens, the context cut from the left where both pass the window."""
        if not context or not continuation:
            raise InputError(f"the tokenizer leaves nothing of '{text[1]}' after '{text[0][-40:]}': mend the item")
        # The last token of a continuation is scored and never read.
        spare = self.max_length + 1 - len(continuation)
        if spare < 1:
            raise InputError(
                f"an answer of {len(continuation)} tokens ('{text[1][:40]}') is longer than the {self.max_length} "
                "that the model has room for beside its prompt: shorten the answer or the prompt"
            )
        if len(context) > spare:
            self.cut[text] = len(context) - spare
        return tuple(context[-spare:]), tuple(continuation)

    def windows(self, text: str) -> list[Pair]:
        """Windows of a text, every token scored once: what is read before each window, and its tokens."""
        rolled = get_rolling_token_windows(
            token_list=self.tok_encode(text),
            prefix_token=self.prefix_token_id,
            max_seq_len=self.max_length,
            context_len=1,
        )
        return [(tuple(context), tuple(tokens)) for context, tokens in map(make_disjoint_window, rolled)]

    def rolled(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Log-likelihood of each text in nats, and how many tokens it has."""
        windows = [self.windows(text) for text in texts]
        scored = iter(score_pairs(self.variant, [pair for mine in windows for pair in mine], batch=self.batch))
        found: list[tuple[float, int]] = []
        for mine in windows:
            parts: list[Scored] = [next(scored) for _ in mine]
            found.append((sum(part.log_prob for part in parts), sum(len(tokens) for _, tokens in mine)))
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts, in nats."""
        return [log_prob for log_prob, _ in self.rolled([request.args[0] for request in requests])]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What greedy decoding says after each context, up to the first stop.

        Raises:
            InputError: a task that asks for sampling, or for more tokens than there is room for.
        """
        results: dict[int, str] = {}
        alike: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            alike.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(place)
        for places in alike.values():
            contexts = [str(requests[place].args[0]) for place in places]
            said = self._said(contexts, dict(requests[places[0]].args[1]))
            results.update(zip(places, said, strict=True))
        return [results[place] for place in range(len(requests))]

    def _said(self, contexts: list[str], asked: dict[str, Any]) -> list[str]:
        """Greedy text after each of these contexts under one setting, in batches by length."""
        settings: dict[str, Any] = dict(normalize_gen_kwargs(asked, GENERATED))
        if settings["do_sample"]:
            raise InputError("a task asks for sampled text, which no two runs share: only greedy decoding is scored")
        new = int(settings["max_gen_toks"])
        spare = self.max_length - new
        if spare < 1:
            raise InputError(
                f"a task asks for {new} new tokens and the model has room for {self.max_length} beside its prompt: "
                "set max_gen_toks in the task or shorten the prompt"
            )
        end = None if self.eot_token_id is None else str(self.tokenizer.decode([self.eot_token_id]))
        stops = handle_stop_sequences(settings.get("until"), eos=end)
        rows = [self.tok_encode(context) or [self.prefix_token_id] for context in contexts]
        for context, row in zip(contexts, rows, strict=True):
            if len(row) > spare:
                self.cut[context, ""] = len(row) - spare
        said: dict[int, str] = {}
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        for first in range(0, len(order), self.batch):
            places = order[first : first + self.batch]
            read = [rows[place][-spare:] for place in places]
            choice = self.variant.choose(read)
            found = self.variant.generate_rows(read, new, lambda tokens: self._ended(tokens, stops), choice)
            for which, (place, tokens) in enumerate(zip(places, found, strict=True)):
                if choice is not None:
                    self.chosen[contexts[place], ""] = int(choice.kept[which])
                said[place] = postprocess_generated_text(self._text(tokens), stop=stops, think_end_token=None)
        return [said[place] for place in range(len(contexts))]

    @property
    def _ends(self) -> set[int]:
        """Tokens that end a text."""
        told = getattr(self.variant.model.generation_config, "eos_token_id", None)
        listed = told if isinstance(told, list) else [told]
        return {int(one) for one in (self.eot_token_id, *listed) if one is not None}

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _ended(self, tokens: list[int], stops: Collection[str]) -> bool:
        """Whether a text has ended by itself or has said a stop."""
        if tokens[-1] in self._ends:
            return True
        text = self._text(tokens)
        return any(stop and stop in text for stop in stops)
