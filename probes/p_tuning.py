"""P-tuning (Liu et al., arXiv 2103.10385): a prompt whose vectors a small encoder makes while it is tuned.

1. n vectors drawn at random pass an encoder: a perceptron, or the paper's bidirectional LSTM with a perceptron behind
   it (section 3.2). Both are peft's own; what comes out stands before the content's embeddings.
2. Freeze the model; move vectors and encoder by the loss on the tuning text.
3. Drop the encoder: what it makes in the end is a soft prompt like any other, and that alone is kept.

The encoder ties the vectors to each other, which is to ease the search; it adds nothing to what a prompt can say.
Here all of the prompt stands in front, while the paper spreads it around the question. What would count against it:
returning no more than a prompt of the same length that was tuned directly.
"""

from typing import cast

import torch
from jaxtyping import Int
from peft import PromptEncoder, PromptEncoderConfig, PromptEncoderReparameterizationType
from torch import Tensor, nn
from transformers import PreTrainedModel

from data.errors import InputError
from probes.prompts import SoftPrompt
from probes.specs.repairs.ptuning import EncoderKind


class EncodedPrompt(nn.Module):
    """An encoder with its vectors; called, it gives the soft prompt that they make now."""

    def __init__(
        self, model: PreTrainedModel, length: int, *, kind: EncoderKind = "mlp", width: int | None = None, seed: int
    ) -> None:
        """Draw vectors and encoder; the encoder's inner width is the embeddings' unless given.

        Raises:
            InputError: a length below one.
        """
        super().__init__()
        if length < 1:
            raise InputError(f"a prompt of length {length} is no prompt: give a length of 1 or more")
        embeddings = cast(nn.Embedding, model.get_input_embeddings()).weight.shape[1]
        config = PromptEncoderConfig(
            num_virtual_tokens=length,
            token_dim=embeddings,
            num_transformer_submodules=1,
            encoder_reparameterization_type=PromptEncoderReparameterizationType(kind.upper()),
            encoder_hidden_size=embeddings if width is None else width,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.encoder = PromptEncoder(config).to(model.device)
        self._places: Int[Tensor, " slot"] = torch.arange(length, device=model.device)

    def forward(self) -> SoftPrompt:
        """The vectors as the encoder makes them now."""
        return self.encoder(self._places[None])[0]
