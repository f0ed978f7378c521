"""Re-injection: the best low-rank repair of the weights that there is without training, computed from the dense ones.

1. For every linear layer that compression touched, take what it lost: W_dense - W_compressed.
2. Keep its r largest singular directions (Eckart & Young 1936: no matrix of that rank is nearer), as the two factors
   of a LoRA: ZeroQuant-V2's low-rank compensation (arXiv 2303.08302).

This is a control. It copies from the dense model what is missing, so that whatever it returns says nothing of what
the compressed model still holds: it shows how much room a repair of that size has, and never counts as recovery.
"""

from typing import cast

import torch
from jaxtyping import Float
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from data.errors import InputError
from probes.bake import oriented_weight
from probes.families import family_of
from probes.likeness import changed_outside
from probes.lora import adapted, add_lora


@torch.no_grad()
def reinject(dense: PreTrainedModel, compressed: PreTrainedModel, *, rank: int) -> PeftModel:
    """The compressed model, its weights shared, with the largest `rank` directions of what it lost added.

    Raises:
        InputError: the two differ in shape, or in what stands before and behind the layers, so that the difference of
            two weights is not what a layer lost.
    """
    family = family_of(dense)
    for one in changed_outside(dense, compressed):
        if one.name.startswith(f"{family.blocks}.") and not one.kind:
            raise InputError(
                f"re-injection: {one.name} differs from the dense model's by {one.relative:.2g} of it, as where norms "
                "are folded into layers, and what a layer lost cannot be read off its weight then: leave re-injection "
                "out for this checkpoint"
            )
    repaired = add_lora(compressed, rank=rank, targets="all", seed=0)
    layers = adapted(repaired)
    for name in family.linears_of(dense):
        ours, theirs = oriented_weight(compressed, name), oriented_weight(dense, name)
        if ours.shape != theirs.shape:
            raise InputError(
                f"re-injection: {name} is {tuple(theirs.shape)} in the dense model and {tuple(ours.shape)} in the other"
            )
        up, down = low_rank(theirs.float() - ours.float(), rank)
        layer = cast(LoraLayer, layers.get_submodule(name))
        # peft adds (alpha / r) B A: the factors are divided by that, so that what is added is their product.
        _weight(layer.lora_A).copy_(down)
        _weight(layer.lora_B).copy_(up / layer.scaling["default"])
    return repaired


def _weight(factor: nn.ModuleDict) -> Tensor:
    """The matrix of one factor of the adapter that was just added."""
    return cast(nn.Linear, factor["default"]).weight


def low_rank(lost: Float[Tensor, "out in"], rank: int) -> tuple[Float[Tensor, "out rank"], Float[Tensor, "rank in"]]:
    """Two factors of the nearest matrix of this rank, of equal size; zeros beyond the rank that the matrix has."""
    left, singular, right = torch.linalg.svd(lost, full_matrices=False)
    root = singular[:rank].sqrt()
    missing = rank - len(root)
    up = torch.nn.functional.pad(left[:, :rank] * root, (0, missing))
    down = torch.nn.functional.pad(right[:rank] * root[:, None], (0, 0, 0, missing))
    return up, down
