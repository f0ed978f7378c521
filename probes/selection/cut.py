"""A model's first blocks alone, for what reads no further."""

from transformers import PreTrainedModel

from probes.families import family_of
from probes.sharing import share_weights


def first_layers(model: PreTrainedModel, count: int) -> PreTrainedModel:
    """The model cut after its first blocks, sharing its weights: all that the choice needs."""
    cut = share_weights(model)
    blocks = family_of(cut).blocks_of(cut)
    del blocks[count:]
    cut.config.num_hidden_layers = count
    return cut
