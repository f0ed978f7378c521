"""The one table of supported architectures: where the parts we hook and compress stand in each of them.

Every path is dotted: `blocks`, `final_norm` and `head` from the model, the rest from one block. A model that is not
in the table is refused by name rather than guessed at, since a wrong path yields plausible numbers.
"""

from dataclasses import dataclass, replace
from typing import Literal, Self

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from data.errors import InputError

Role = Literal["query", "key", "value"]
ROLES: tuple[Role, ...] = ("query", "key", "value")


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
    between: str | None
    """From a block: the module that the residual stream enters once attention was added; `family_of` corrects it by
    the model's configuration, to None where attention and MLP read the same stream."""
    head: str = "lm_head"
    """From the model: the language-model head, whose output are the logits."""
    fused: Literal["by role", "by head"] | None = None
    """One layer makes queries, keys and values: all queries first, then all keys, or each head's three together."""
    conv1d: bool = False
    """Linear layers are GPT-2's Conv1D, which stores its weight as [in, out]."""
    post_norm: bool = False
    """A block norms each sum instead of what its parts read; `family_of` sets it from the model's configuration."""

    @property
    def projections(self) -> tuple[str, ...]:
        """From a block: the linear layers of its attention, in the order in which they run."""
        return tuple(name for name in self.linears if name.startswith(f"{self.attention}."))

    @property
    def query(self) -> str:
        """From a block: the linear layer that makes the queries."""
        return self.projections[0]

    @property
    def key(self) -> str:
        """From a block: the linear layer that makes the keys."""
        return self.projections[0 if self.fused else 1]

    @property
    def value(self) -> str:
        """From a block: the linear layer that makes the values."""
        return self.projections[0 if self.fused else 2]

    @property
    def output_projection(self) -> str:
        """From a block: the linear layer that attention ends in; the heads' results enter it side by side."""
        return self.projections[-1]

    def heads_of(
        self, role: Role, made: Float[Tensor, "batch position made"], head_width: int
    ) -> Float[Tensor, "batch position head head_width"]:
        """Split what the layer of this role made into heads, a fused layer's into the three roles first."""
        place = ROLES.index(role)
        if self.fused == "by head":
            return made.unflatten(-1, (-1, 3 * head_width))[..., place * head_width : (place + 1) * head_width]
        if self.fused == "by role":
            made = made.chunk(3, dim=-1)[place]
        return made.unflatten(-1, (-1, head_width))

    def blocks_of(self, model: PreTrainedModel) -> nn.ModuleList:
        """Return the model's list of blocks, the first block first."""
        try:
            blocks: nn.Module | None = model.get_submodule(self.blocks)
        except AttributeError:
            blocks = None
        if not isinstance(blocks, nn.ModuleList):
            raise InputError(f"{self.blocks} of this {self.model_type} model is not a list of blocks.")
        return blocks

    def module_of(self, model: PreTrainedModel, layer: int, part: str) -> nn.Module:
        """Return one part of a block ("" is the block itself).

        Raises InputError where the block lacks what the table names.
        """
        return self._part(self.blocks_of(model)[layer], part, f"Block {layer} of this {self.model_type} model")

    def head_of(self, model: PreTrainedModel) -> nn.Module:
        """Return the language-model head; raise InputError where there is none."""
        return self._part(model, self.head, f"This {self.model_type} model")

    def _part(self, whole: nn.Module, part: str, spoken: str) -> nn.Module:
        try:
            return whole.get_submodule(part)
        except AttributeError:
            raise InputError(
                f"{spoken} has no {part!r}, which the supported layout names; open a model with unmodified blocks."
            ) from None

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
    between="post_attention_layernorm",
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
            between="final_layer_norm",
        ),
        Family(
            model_type="gpt2",
            blocks="transformer.h",
            attention="attn",
            mlp="mlp",
            final_norm="transformer.ln_f",
            linears=("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
            between="ln_2",
            fused="by role",
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
            between="post_attention_layernorm",
            fused="by head",
        ),
    )
}
SUPPORTED = tuple(_TABLE)
"""The model types that can be opened, hooked and compressed."""


def require_supported(model_type: str | None) -> str:
    """Give the type back if models of it can be opened; raise InputError, naming the supported ones, if not."""
    if model_type not in _TABLE:
        raise InputError(f"Models of type {model_type!r} are not supported; open one of type {', '.join(SUPPORTED)}.")
    return model_type


def family_of(model: PreTrainedModel) -> Family:
    """Look a model's family up by `config.model_type`; raise InputError, naming the supported ones."""
    family = _TABLE[require_supported(getattr(model.config, "model_type", None))]
    if getattr(model.config, "use_parallel_residual", False):
        return replace(family, between=None)
    if not getattr(model.config, "do_layer_norm_before", True):
        # The stream is normed as a whole after attention; what the MLP reads then is the stream itself.
        return replace(family, between="fc1", post_norm=True)
    return family


@dataclass(frozen=True)
class Heads:
    """How many heads an attention has and how wide they are."""

    query: int
    key: int
    """Heads that have keys of their own: fewer than query heads where those share them."""
    width: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> Self:
        """Read them off a model's configuration."""
        config = model.config
        key = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(int(config.num_attention_heads), int(key), int(width))
