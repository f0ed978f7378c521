"""What every way of reading a model has in common: the batch it takes, the reducer it feeds, the pass it runs."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from probes.families import ROLES, Family, Heads
from probes.sites import Site

Reducer = Callable[[Site, Tensor], None]
"""Takes a site and its tensor as it appears; what it wants to keep it must reduce or copy."""


class Batch(Protocol):
    """Sequences laid out [pad][prompt][content], as `probes.inputs.Inputs` builds them."""

    @property
    def embeds(self) -> Float[Tensor, "batch position width"]:
        """Embeddings, the prompt's before the content's."""

    @property
    def attention_mask(self) -> Int[Tensor, "batch position"]:
        """1 where there is a prompt or content, 0 at padding."""

    @property
    def position_ids(self) -> Int[Tensor, "batch position"]:
        """Positions, from 0 at the first token that is no padding."""

    @property
    def content(self) -> Bool[Tensor, "batch position"]:
        """True on content tokens."""


class Backend(Protocol):
    """One model made ready to be read; made once, run over many batches."""

    def __init__(self, model: PreTrainedModel) -> None: ...

    def run(
        self, inputs: Batch, sites: Sequence[Site], fire: Reducer, logits_at: Int[Tensor, " kept"] | None
    ) -> Float[Tensor, "batch kept vocabulary"]:
        """Run one pass, call `fire` for each site as often as it appears, and return the logits."""


def arguments(inputs: Batch, logits_at: Int[Tensor, " kept"] | None = None) -> dict[str, Any]:
    """Write a batch as the keywords of a Hugging Face causal model's `forward`, less the embeddings."""
    # A key-value cache would keep every layer's keys and values alive for nothing.
    keywords: dict[str, Any] = {
        "attention_mask": inputs.attention_mask,
        "position_ids": inputs.position_ids,
        "use_cache": False,
    }
    return keywords if logits_at is None else keywords | {"logits_to_keep": logits_at}


class CaptureError(RuntimeError):
    """A backend did not deliver what was asked: a site silent, doubled or of a wrong shape."""


def taken(site: Site, family: Family, heads: Heads, handled: Any) -> Tensor:
    """Take a site's tensor out of what its module was given or gave."""
    if isinstance(handled, tuple):
        # Some modules answer with a tensor, others with a tuple, and versions of transformers differ on which.
        handled = handled[member_of(site)]
    role = next((role for role in ROLES if role == site.kind), None)
    return handled if role is None else family.heads_of(role, handled, heads.width)


def member_of(site: Site) -> int:
    """Which member of the tuple holds a site's tensor, where its module answers with a tuple."""
    return 1 if site.kind.reads == "second output" else 0


def first_given(positional: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """What a module was given to work on, however it was called."""
    return positional[0] if positional else keywords["hidden_states"]
