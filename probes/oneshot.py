"""Driving llm-compressor in memory, without its defaults that shuffle, reach for the hub, or fail in silence.

1. Import it without letting it replace the process's log handlers.
2. Run one modifier on exactly the given blocks, in order, one by one.
3. Turn its fallbacks (an identity Hessian, rounding instead of GPTQ) into errors.
4. For a pruned model, make GPTQ keep the zeros: its own loop, with the correction held to the weights alive.

Importing this module costs seconds; `probes.compress` does so only when it compresses.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from compressed_tensors.offload import remove_dispatch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.utils import patch_attr
from jaxtyping import Bool, Float, Int
from loguru import logger
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from probes.compression.method import Target
from probes.specs.compression import CompressionSpec


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Import llm-compressor inside: with its logging off it leaves loguru's handlers alone."""
    switch = "LLM_COMPRESSOR_LOG_DISABLED"
    before = os.environ.get(switch)
    os.environ[switch] = "true"
    try:
        yield
    finally:
        os.environ.pop(switch)
        if before is not None:
            os.environ[switch] = before
    try:
        logger.level("METRIC")
    except ValueError:
        # It logs at a level that it registers only where its logging is on, and fails without.
        logger.level("METRIC", no=38)


with _handlers_kept():
    from llmcompressor import oneshot
    from llmcompressor.core import reset_session
    from llmcompressor.modifiers.gptq import base as gptq_base
    from llmcompressor.modifiers.gptq import gptq_quantize
    from llmcompressor.modifiers.pruning.sparsegpt import sgpt_sparsify


def pruning_settings(spec: CompressionSpec, names: list[str]) -> dict[str, Any]:
    """What llm-compressor's pruning modifiers are told: how much, in which pattern, which layers."""
    # The library's n counts the zeros, ours (and the literature's) the weights that stay.
    pattern = spec.promise.pattern
    structure = "0:0" if pattern is None else f"{pattern[1] - pattern[0]}:{pattern[1]}"
    return {"sparsity": spec.sparsity, "mask_structure": structure, "targets": names}


def weight_groups(spec: CompressionSpec, names: list[str]) -> dict[str, QuantizationScheme]:
    """What llm-compressor's quantising modifiers are told, for the quantising half of a specification."""
    weights = QuantizationArgs(
        num_bits=spec.quantiser_bits,
        symmetric=spec.symmetric,
        strategy="channel" if spec.group_size is None else "group",
        group_size=spec.group_size,
    )
    return {"blocks": QuantizationScheme(targets=names, weights=weights)}


def refusing_gptq() -> contextlib.AbstractContextManager[None]:
    """Within it GPTQ fails where it would otherwise round to nearest in silence."""
    return patch_attr(gptq_base, "logger", _Refusing)


def refusing_sparsegpt() -> contextlib.AbstractContextManager[None]:
    """Within it SparseGPT fails where it would otherwise take an identity for its Hessian in silence."""
    return patch_attr(sgpt_sparsify, "logger", _Refusing)


def apply(target: Target, modifier: Any) -> None:
    """Apply one modifier to what a method is applied to."""
    run(target.model, target.tokenizer, modifier, target.blocks)


def run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    modifier: Any,
    blocks: Int[Tensor, "samples length"],
) -> None:
    """Apply one modifier to `model` in place, on exactly these blocks in this order, one at a time."""
    # A loader of our own, for the library's would shuffle, sort by length, and cut.
    rows = [{"input_ids": block, "attention_mask": torch.ones_like(block)} for block in blocks.cpu()]
    name = model.config.name_or_path
    try:
        with tempfile.TemporaryDirectory() as folder:
            # `oneshot` reads the configuration from `name_or_path`, on the hub if need be: give a local one.
            model.config.save_pretrained(folder)
            model.config.name_or_path = folder
            oneshot(
                model=model,
                tokenizer=tokenizer,
                dataset=DataLoader(rows, batch_size=1, shuffle=False),  # type: ignore[arg-type]
                recipe=[modifier],
                num_calibration_samples=len(rows),
                shuffle_calibration_samples=False,
            )
    finally:
        model.config.name_or_path = name
        reset_session()  # it would keep the model alive
    remove_dispatch(model)


class _Refusing:
    """Stands in for the logger of a modifier whose warnings say that it carries on without its Hessian."""

    @staticmethod
    def info(message: str) -> None:
        """Say nothing."""

    debug = info

    @staticmethod
    def warning(message: str) -> None:
        """Make an error of the warning."""
        raise RuntimeError(f"The compressor could not use the calibration text: {message}")


@contextlib.contextmanager
def holding_zeros() -> Iterator[None]:
    """Make GPTQ quantise weights that are zero to zero, by SparseGPT's own rule for pruning with quantising.

    The library's GPTQ would push error into pruned weights and fill them. Here its columns run one at a time;
    in a pruned weight what was pushed there counts as error and moves on to the columns to come.
    """
    quantise_all, update_column = gptq_quantize.quantize_weight, gptq_quantize.gptq_block_update

    def quantise_alive(weights: Tensor, hessians: Tensor, quant_args: Any, **rest: Any) -> Any:
        pruned = weights == 0
        if quant_args.actorder:
            order = torch.diagonal(hessians, dim1=-2, dim2=-1).argsort(dim=-1, descending=True)
            pruned = pruned.gather(-1, order.unsqueeze(-2).expand_as(pruned))
        with patch_attr(gptq_quantize, "gptq_block_update", _update_alive(update_column, pruned)):
            return quantise_all(weights=weights, hessians=hessians, quant_args=quant_args, **rest)

    with patch_attr(gptq_base, "quantize_weight", quantise_alive):
        yield


def _update_alive(update_column: Callable[..., None], pruned: Bool[Tensor, "batch out in"]) -> Callable[..., None]:
    """Return GPTQ's update of a block of columns, with the pruned weights held at zero."""

    def update(
        work: Float[Tensor, "batch out columns"],
        inverse: Float[Tensor, "batch columns columns"],
        quantised: Float[Tensor, "batch out columns"],
        errors: Float[Tensor, "batch out columns"],
        losses: Float[Tensor, "batch out columns"],
        *,
        i1: int,
        **rest: Any,
    ) -> None:
        for column in range(work.shape[-1]):
            here, later = slice(column, column + 1), slice(column + 1, None)
            pushed = work[:, :, here] / inverse[:, here, here]
            tensors = (work, inverse[:, here], quantised, errors, losses)
            update_column(*(tensor[:, :, here] for tensor in tensors), i1=i1 + column, **rest)
            dead = pruned[:, :, i1 + column : i1 + column + 1]
            quantised[:, :, here].masked_fill_(dead, 0.0)
            errors[:, :, here] = torch.where(dead, pushed, errors[:, :, here])
            losses[:, :, here] = errors[:, :, here].square()
            work[:, :, later] -= errors[:, :, here] * inverse[:, here, later]

    return update
