"""GPTQ (Frantar et al., arXiv 2210.17323): quantise column by column, the error spread over the columns to come."""

import contextlib

from probes.compression.method import Method, Target


def _apply(target: Target) -> None:
    """Quantise by llm-compressor's GPTQ; a pruned model keeps its zeros."""
    from probes import oneshot  # first: it keeps the library's hands off the log
    from llmcompressor.modifiers.gptq import GPTQModifier  # isort: skip

    with contextlib.ExitStack() as stack:
        stack.enter_context(oneshot.refusing_gptq())
        if target.spec.pruner is not None:
            stack.enter_context(oneshot.holding_zeros())
        oneshot.apply(target, GPTQModifier(config_groups=oneshot.weight_groups(target.spec, target.names)))


METHOD = Method("gptq", "quantises", "GPTQ: rounds column by column, spreading the error", "arXiv 2210.17323", _apply)
