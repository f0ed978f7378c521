"""A model's structure copied, its weights shared."""

import copy

from transformers import PreTrainedModel


def share_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Copy the module tree and the configuration, but not one parameter or buffer.

    Modules of the copy can be replaced, hooked or adapted while the original's stay as they are; a weight
    changed in place changes in both. Costs kilobytes per module, whatever the size of the weights.
    """
    # deepcopy takes what is in its memo for already copied: so each tensor stands for itself.
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
