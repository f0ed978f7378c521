"""The one table of supported architectures: where the parts we hook and compress stand in each of them.

Every path is dotted: `blocks` and `final_norm` from the model, the rest from one block. A model that is not
in the table is refused by name rather than guessed at, since a wrong path yields plausible numbers.
"""

from dataclasses import dataclass, replace

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from data.errors import InputError


@dataclass(frozen=True)
class Family:
    """Where one architecture keeps its parts."""

    model_type: str
    """`config.model_type`, the key of the table."""
    blocks: str
    """From the model: the list of blocks."""
    attention: str
    """From a block: the attention module, whose first output is what it adds to the residual stream."""
    mlp: str
    """From a block: the module whose output is what the MLP adds to the residual stream."""
    final_norm: str
    """From the model: the norm before the head (absent from an OPT that norms after each block)."""
    linears: tuple[str, ...]
    """From a block: every linear layer, in the order in which they run."""
    conv1d: bool = False
    """Linear layers are GPT-2's Conv1D, which stores its weight as [in, out]."""
    parallel: bool = False
    """Attention and MLP read the same residual stream; `family_of` sets it from the model's configuration."""

    def blocks_of(self, model: PreTrainedModel) -> nn.ModuleList:
        """Return the model's list of blocks, the first block first."""
        blocks = model.get_submodule(self.blocks)
        if not isinstance(blocks, nn.ModuleList):
            raise InputError(f"{self.blocks} of this {self.model_type} model is not a list of blocks.")
        return blocks

    def linears_of(self, model: PreTrainedModel) -> dict[str, nn.Linear | Conv1D]:
        """Return every linear layer inside the blocks by full name: what compression may touch, and no more.

        Raises InputError where a block holds a linear layer the table does not name, or lacks one it names.
        """
        found: dict[str, nn.Linear | Conv1D] = {}
        for index, block in enumerate(self.blocks_of(model)):
            parts = {name: part for name, part in block.named_modules() if isinstance(part, nn.Linear | Conv1D)}
            if odd := set(parts) ^ set(self.linears):
                raise InputError(
                    f"Block {index} of this {self.model_type} model differs from the supported layout in "
                    f"{', '.join(sorted(odd))}; open a model with unmodified blocks."
                )
            found |= {f"{self.blocks}.{index}.{name}": parts[name] for name in self.linears}
        return found


_ATTENTION_LLAMA = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_LLAMA = Family(
    model_type="llama",
    blocks="model.layers",
    attention="self_attn",
    mlp="mlp",
    final_norm="model.norm",
    linears=(*_ATTENTION_LLAMA, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
)
_TABLE = {
    family.model_type: family
    for family in (
        _LLAMA,
        replace(_LLAMA, model_type="qwen2"),
        Family(
            model_type="opt",
            blocks="model.decoder.layers",
            attention="self_attn",
            mlp="fc2",
            final_norm="model.decoder.final_layer_norm",
            linears=(*_ATTENTION_LLAMA[:3], "self_attn.out_proj", "fc1", "fc2"),
        ),
        Family(
            model_type="gpt2",
            blocks="transformer.h",
            attention="attn",
            mlp="mlp",
            final_norm="transformer.ln_f",
            linears=("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
            conv1d=True,
        ),
        Family(
            model_type="gpt_neox",
            blocks="gpt_neox.layers",
            attention="attention",
            mlp="mlp",
            final_norm="gpt_neox.final_layer_norm",
            linears=(
                "attention.query_key_value",
                "attention.dense",
                "mlp.dense_h_to_4h",
                "mlp.dense_4h_to_h",
            ),
        ),
    )
}
SUPPORTED = tuple(_TABLE)
"""The model types that can be opened, hooked and compressed."""


def family_of(model: PreTrainedModel) -> Family:
    """Look a model's family up by `config.model_type`; raise InputError, naming the supported ones."""
    model_type = getattr(model.config, "model_type", None)
    if model_type not in _TABLE:
        raise InputError(f"Models of type {model_type!r} are not supported; open one of type {', '.join(SUPPORTED)}.")
    parallel = bool(getattr(model.config, "use_parallel_residual", False))
    return replace(_TABLE[model_type], parallel=parallel)
