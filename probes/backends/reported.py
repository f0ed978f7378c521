"""What Hugging Face itself reports of a pass: the referee's referee."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from probes.backends.protocol import Batch, arguments
from probes.families import family_of
from probes.sharing import share_weights
from probes.sites import Kind, Site


@torch.no_grad()
def reported(
    model: PreTrainedModel, inputs: Batch, sites: Iterable[Site]
) -> tuple[dict[Site, Tensor], Float[Tensor, "batch position vocabulary"]]:
    """Ask Hugging Face for the sites that it reports itself (as it reports them), and for the logits.

    The residual after the last block comes as `as_reported` makes it; of other kinds no site is returned.
    """
    patterns = any(site.kind == Kind.PATTERN for site in sites)
    # On a copy: the first such call leaves transformers' own capture hooks in the model for good.
    output = share_weights(model)(
        inputs_embeds=inputs.embeds,
        output_hidden_states=True,
        output_attentions=patterns,
        **arguments(inputs),
    )
    sources = {Kind.RESID_PRE: (output.hidden_states, 0), Kind.RESID_POST: (output.hidden_states, 1)}
    if patterns:
        sources[Kind.PATTERN] = (output.attentions, 0)
    found = {site: sources[site.kind] for site in sites if site.kind in sources}
    return {site: tensors[site.layer + shift] for site, (tensors, shift) in found.items()}, output.logits


@torch.no_grad()
def as_reported(model: PreTrainedModel, site: Site, tensor: Tensor) -> Tensor:
    """Do to the residual after the last block what Hugging Face does before it reports it: the final norm."""
    family = family_of(model)
    if site != Site(len(family.blocks_of(model)) - 1, Kind.RESID_POST):
        return tensor
    parent, _, name = family.final_norm.rpartition(".")
    # OPT-350m norms after each block, so has no final norm, but projects to the width of its embeddings.
    for step in (name, "project_out"):
        module = getattr(model.get_submodule(parent), step, None)
        tensor = tensor if module is None else module(tensor)
    return tensor
