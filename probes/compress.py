"""Compression of a dense language model, through llm-compressor, baked to plain dense weights and proved.

GPTQ (arXiv 2210.17323), SparseGPT (2301.00774), Wanda (2306.11695), round-to-nearest and magnitude pruning.

1. Copy the model (the caller's is never changed), GPT-2's Conv1D layers as Linear, which is all that the
   compressor knows; target every linear layer inside the blocks by its full name, never head or embeddings.
2. Run the calibration blocks through it one by one in the given order, block of layers after block of layers:
   each layer is compressed on the activations that the compressed layers before it produce.
3. Prune, or quantise, or both: then GPTQ holds the pruned weights at zero while it spreads its error.
4. Bake the weights of the forward pass into a copy of the dense model and prove the result (`probes.bake`).

GPTQ orders columns by activation (the library's default, "static") and sets scales by each row's or group's
extremes; it and SparseGPT dampen their Hessian by 1 %. Where a Hessian cannot be inverted both libraries'
modifiers carry on with round-to-nearest or an identity: here that is an error.
"""

import copy
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from jaxtyping import Int
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from data.errors import InputError
from probes.bake import CompressionProof, Promise, bake, effective_weights, prove, quiet
from probes.families import family_of
from probes.inputs import longest_content
from probes.spreading import gathered, place_as

_QUANTISERS = ("gptq", "rtn")
COLUMNS = 128  # SparseGPT and GPTQ work through a weight this many columns at a time
LABEL = r"^[a-z0-9]+(-[a-z0-9]+)*$"


class CompressionSpec(BaseModel):
    """One way of compressing a model, to be read from a study; equal specifications compress alike."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    method: Literal["gptq", "sparsegpt", "wanda", "rtn", "magnitude"]
    """Quantisers: gptq, rtn (round to nearest). Pruners: sparsegpt, wanda, magnitude."""
    bits: Literal[2, 3, 4, 8] | None = None
    """Bits of each weight, for a quantiser."""
    group_size: int | None = Field(default=None, ge=2)
    """Columns that share a scale; None for one scale per output channel."""
    symmetric: bool = True
    """Zero in the middle of the levels; otherwise each group has its own zero point."""
    sparsity: float | None = Field(default=None, gt=0, lt=1)
    """Fraction of each layer's weights to be zero, for a pruner; a pattern sets it."""
    pattern: str | None = None
    """`n:m`, at most n weights not zero among every m neighbours of a row, such as "2:4"."""
    then_method: Literal["gptq", "rtn"] | None = None
    """The quantiser that follows a pruner, keeping its zeros; gptq where only `then_bits` is given."""
    then_bits: Literal[2, 3, 4, 8] | None = None
    """Bits of that quantiser."""
    samples: int = Field(default=128, ge=1)
    """Number of calibration blocks."""
    block_length: int = Field(default=512, ge=1)
    """Tokens in a calibration block."""
    label: str | None = Field(default=None, pattern=LABEL)
    """What tells it apart from a recipe that is read aloud alike, such as the same bits from fewer samples."""

    @field_validator("pattern", mode="before")
    @classmethod
    def _pattern_is_text(cls, value: object) -> object:
        if value is not None and not isinstance(value, str):
            raise ValueError('pattern must be text such as "2:4": quote it, as YAML reads a bare 2:4 as 124')
        return value

    @field_validator("pattern")
    @classmethod
    def _pattern_is_possible(cls, value: str | None) -> str | None:
        if value is not None:
            kept, among = _split(value)
            if not (0 < kept < among and COLUMNS % among == 0):
                raise ValueError(f"pattern {value!r} must keep n of m weights, 0 < n < m, m dividing {COLUMNS}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: object) -> object:
        """Write down what follows from other fields, so that two spellings of one recipe are equal."""
        if not isinstance(given, dict):
            return given
        pattern = given.get("pattern")
        if isinstance(pattern, str) and given.get("sparsity") is None:
            kept, among = _split(pattern)
            given = given | {"sparsity": 1 - kept / among}
        if given.get("then_bits") is not None and given.get("then_method") is None:
            given = given | {"then_method": "gptq"}
        return given

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        prunes = self.method not in _QUANTISERS
        wrong = {
            f"{self.method} needs bits: 2, 3, 4 or 8": not prunes and self.bits is None,
            f"{self.method} quantises: leave out sparsity and pattern": not prunes and self.sparsity is not None,
            f"{self.method} already quantises: leave out then_method and then_bits": not prunes
            and self.then_method is not None,
            f"{self.method} needs sparsity or pattern": prunes and self.sparsity is None,
            f"{self.method} prunes: for bits as well, set then_bits": prunes and self.bits is not None,
            "then_method needs then_bits: 2, 3, 4 or 8": self.then_method is not None and self.then_bits is None,
            "group_size and symmetric say how to quantise, and nothing here quantises": self.quantiser is None
            and (self.group_size is not None or not self.symmetric),
        }
        if self.pattern is not None and self.sparsity is not None:
            kept, among = _split(self.pattern)
            wrong[f"sparsity {self.sparsity:g} contradicts pattern {self.pattern}; leave sparsity out"] = (
                abs(self.sparsity - (1 - kept / among)) > 1e-9
            )
        for sentence, is_so in wrong.items():
            if is_so:
                raise ValueError(sentence)
        return self

    @property
    def pruner(self) -> str | None:
        """The pruning method, or None."""
        return None if self.method in _QUANTISERS else self.method

    @property
    def quantiser(self) -> str | None:
        """The quantising method, first or second, or None."""
        return self.method if self.method in _QUANTISERS else self.then_method

    @property
    def quantiser_bits(self) -> int | None:
        """Bits of each weight in the end, or None."""
        return self.bits or self.then_bits

    @property
    def name(self) -> str:
        """The recipe read aloud, such as `sparsegpt-2:4+gptq-4bit-g64`."""
        parts = []
        if self.pruner is not None and self.sparsity is not None:
            parts.append(f"{self.pruner}-{self.pattern or f'{100 * self.sparsity:g}%'}")
        if self.quantiser is not None:
            group = "" if self.group_size is None else f"-g{self.group_size}"
            parts.append(f"{self.quantiser}-{self.quantiser_bits}bit{group}{'' if self.symmetric else '-asym'}")
        return "+".join(parts) + (f"-{self.label}" if self.label else "")

    @property
    def promise(self) -> Promise:
        """What every compressed weight must satisfy."""
        units: dict[str, Literal["row", "columns", "layer"]] = {"wanda": "row", "sparsegpt": "columns"}
        return Promise(
            sparsity=self.sparsity,
            unit=units.get(self.method, "layer"),
            pattern=_split(self.pattern) if self.pattern else None,
            bits=self.quantiser_bits,
            group_size=self.group_size,
        )


def _split(pattern: str) -> tuple[int, int]:
    """Read `n:m`."""
    kept, _, among = pattern.partition(":")
    if not (kept.isdecimal() and among.isdecimal() and int(among) > 0):
        raise ValueError(f"pattern {pattern!r} must be written n:m, such as 2:4")
    return int(kept), int(among)


@dataclass(frozen=True)
class Compressed:
    """A compressed model as plain dense weights, and the proof that it is what was asked."""

    model: PreTrainedModel
    """Of the dense model's class, without hooks or quantisation config; `save_pretrained` works."""
    proof: CompressionProof


def compress(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    spec: CompressionSpec,
    blocks: Int[Tensor, "samples length"],
    *,
    seed: int,
) -> Compressed:
    """Compress a copy of `model` on the calibration blocks and return it baked and proved.

    `blocks` are token ids, `spec.samples` by `spec.block_length`; `seed` sets torch's generator meanwhile.
    Raises InputError for a model or blocks that do not fit, RuntimeError if the result fails its proof.
    """
    family = family_of(model)
    names = list(family.linears_of(model))
    _check_blocks(model, spec, blocks)
    _check_widths(model, spec, names)
    copied = gathered(_copy_with_linears(model, names))
    pruned = None
    devices = list({weight.device for weight in model.parameters() if weight.is_cuda})
    with quiet(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        # Imported where it is needed: it takes seconds.
        from probes import oneshot

        if spec.pruner == "magnitude":
            # The library's own magnitude modifier does nothing under `oneshot`, without a word.
            prune_by_magnitude(copied, names, spec.promise)
        elif spec.pruner is not None:
            oneshot.prune(copied, tokenizer, spec, names, blocks)
        if spec.pruner is not None and spec.quantiser is not None:
            pruned = {name: weight == 0 for name, weight in effective_weights(copied, names)}
        if spec.quantiser is not None:
            oneshot.quantise(copied, tokenizer, spec, names, blocks)
        place_as(copied, model)
        baked = bake(model, effective_weights(copied, names))
        proof = prove(model, copied, baked, names, spec.promise, blocks[-1], pruned)
    return Compressed(model=baked, proof=proof)


def _check_blocks(model: PreTrainedModel, spec: CompressionSpec, blocks: Int[Tensor, "samples length"]) -> None:
    if blocks.ndim != 2 or 0 in blocks.shape:
        raise InputError("There is no calibration block to compress on; give at least one block of token ids.")
    if tuple(blocks.shape) != (spec.samples, spec.block_length):
        raise InputError(
            f"{spec.name} asks for {spec.samples} calibration blocks of {spec.block_length} tokens, but has "
            f"{blocks.shape[0]} of {blocks.shape[1]}; change samples and block_length, or give longer text."
        )
    longest = longest_content(model)
    if blocks.shape[1] > longest:
        raise InputError(
            f"Calibration blocks of {blocks.shape[1]} tokens do not fit the model's {longest} positions; "
            "lower block_length."
        )
    if int(blocks.min()) < 0 or int(blocks.max()) >= model.config.vocab_size:
        raise InputError(
            f"A calibration block holds a token outside the model's vocabulary of {model.config.vocab_size}; "
            "use the model's own tokenizer."
        )


def _check_widths(model: PreTrainedModel, spec: CompressionSpec, names: list[str]) -> None:
    among = _split(spec.pattern)[1] if spec.pattern else None
    for field, divisor in (("group_size", spec.group_size), ("pattern", among)):
        for name in names:
            layer: Any = model.get_submodule(name)
            width = layer.weight.shape[0 if isinstance(layer, Conv1D) else 1]
            if divisor is not None and width % divisor != 0:
                raise InputError(f"{name} is {width} wide, which {divisor} does not divide; choose another {field}.")


@torch.no_grad()
def _copy_with_linears(model: PreTrainedModel, names: list[str]) -> PreTrainedModel:
    """Copy a model, with each Conv1D among the named layers as the Linear that computes the same."""
    copied = copy.deepcopy(model).eval()
    for name in names:
        layer = copied.get_submodule(name)
        if isinstance(layer, Conv1D):
            width_in, width_out = layer.weight.shape
            linear = nn.Linear(width_in, width_out, device=layer.weight.device, dtype=layer.weight.dtype)
            linear.weight.copy_(layer.weight.t())
            linear.bias.copy_(layer.bias)
            parent, _, leaf = name.rpartition(".")
            setattr(copied.get_submodule(parent), leaf, linear)
    return copied


@torch.no_grad()
def prune_by_magnitude(model: PreTrainedModel, names: list[str], promise: Promise) -> None:
    """Set the smallest weights of each named layer to zero in place: n:m, or a fraction of the layer."""
    for name in names:
        layer: Any = model.get_submodule(name)
        weight: Tensor = layer.weight.data
        if promise.pattern is not None:
            kept, among = promise.pattern
            groups, count = weight.reshape(-1, among), among - kept
        else:
            groups, count = weight.reshape(1, -1), round((promise.sparsity or 0.0) * weight.numel())
        smallest = groups.abs().argsort(dim=1, stable=True)[:, :count]
        weight.copy_(groups.scatter(1, smallest, 0.0).reshape_as(weight))
