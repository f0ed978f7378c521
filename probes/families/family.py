"""What a model family is: where the parts that we hook and compress stand in one architecture.

Every path is dotted: `blocks`, `final_norm` and `head` from the model, the rest from one block.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from data.errors import InputError
from probes.gguf_shapes import GgufReading

Role = Literal["query", "key", "value"]
ROLES: tuple[Role, ...] = ("query", "key", "value")


def _as_it_is(family: "Family", config: PretrainedConfig) -> "Family":
    """The layout of a family that has one alone."""
    return family


@dataclass(frozen=True)
class Family:
    """Where one architecture keeps its parts."""

    model_type: str
    """`config.model_type`, by which a model's family is found."""
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
    """From a block: the module that the residual stream enters once attention was added; None where attention and MLP
    read the same stream."""
    head: str = "lm_head"
    """From the model: the language-model head, whose output are the logits."""
    fused: Literal["by role", "by head"] | None = None
    """One layer makes queries, keys and values: all queries first, then all keys, or each head's three together."""
    conv1d: bool = False
    """Linear layers are GPT-2's Conv1D, which stores its weight as [in, out]."""
    post_norm: bool = False
    """A block norms each sum instead of what its parts read."""
    configured: Callable[["Family", PretrainedConfig], "Family"] = _as_it_is
    """The layout of a model with this configuration, where a family has several."""
    gguf: GgufReading | None = None
    """How its GGUF files are read; None where they are not."""

    @property
    def name(self) -> str:
        """As the registry knows it."""
        return self.model_type

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
