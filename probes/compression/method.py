"""What a way of compressing a model is: a name, what it does to weights, and the function that does it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # a study names methods and computes nothing: it is read without torch
    from jaxtyping import Int
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from probes.specs.compression import CompressionSpec

Apply = Callable[["Target"], None]
Unit = Literal["row", "columns", "layer"]


@dataclass(frozen=True)
class Method:
    """One way of compressing the linear layers of a model."""

    name: str
    """As a study names it, and the first part of the spoken name."""
    does: Literal["prunes", "quantises"]
    """Prunes: sets weights to zero (sparsity, pattern). Quantises: leaves few levels (bits, group_size)."""
    words: str
    """What it is, in one line, for pages and messages."""
    source: str
    """The paper, or where the rule comes from."""
    apply: Apply
    """Compress the named layers of a copied model in place."""
    unit: Unit = "layer"
    """Of a pruner: where the fraction of zeros holds to within one element."""

    @property
    def leaves_out(self) -> tuple[str, ...]:
        """Fields of a recipe that are another method's."""
        return ("bits",) if self.prunes else ("sparsity", "pattern", "then_method", "then_bits")

    @property
    def prunes(self) -> bool:
        """Whether it sets weights to zero."""
        return self.does == "prunes"


@dataclass(frozen=True)
class Target:
    """What a method is applied to."""

    model: "PreTrainedModel"
    """A copy of the dense model whose named layers are Linear: changed in place."""
    tokenizer: "PreTrainedTokenizerBase"
    spec: "CompressionSpec"
    names: list[str]
    """Full names of the layers."""
    blocks: "Int[Tensor, 'samples length']"
    """Calibration text, read one by one in this order."""
