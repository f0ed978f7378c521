"""Plain torch hooks on the Hugging Face modules."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from probes.backends.protocol import Batch, Reducer, arguments, first_given, taken
from probes.families import Heads, family_of
from probes.sites import Site, module_at

Take = Callable[[Any], Tensor]


class HookBackend:
    """Plain torch hooks on the Hugging Face modules: nothing is replaced, so this is the referee."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.family = family_of(model)
        self.heads = Heads.of(model)

    def run(
        self, inputs: Batch, sites: Sequence[Site], fire: Reducer, logits_at: Int[Tensor, " kept"] | None
    ) -> Float[Tensor, "batch kept vocabulary"]:
        """Run one pass of the model itself; its hooks are gone afterwards, whatever happens."""
        handles: list[RemovableHandle] = []
        try:
            handles.extend(self._attach(site, fire) for site in sites)
            return self.model(inputs_embeds=inputs.embeds, **arguments(inputs, logits_at)).logits
        finally:
            for handle in handles:
                handle.remove()

    def _attach(self, site: Site, fire: Reducer) -> RemovableHandle:
        module = module_at(self.model, site)
        take = partial(taken, site, self.family, self.heads)
        if site.kind.reads == "input":
            return module.register_forward_pre_hook(partial(_fire_input, site, take, fire), with_kwargs=True)
        return module.register_forward_hook(partial(_fire_output, site, take, fire))


def _fire_input(
    site: Site, take: Take, fire: Reducer, module: nn.Module, positional: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    fire(site, take(first_given(positional, keywords)))


def _fire_output(site: Site, take: Take, fire: Reducer, module: nn.Module, received: Any, output: Any) -> None:
    fire(site, take(output))
