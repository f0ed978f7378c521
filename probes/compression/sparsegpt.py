"""SparseGPT (Frantar & Alistarh, arXiv 2301.00774): prune by a Hessian of the layer's inputs, the others corrected."""

from probes.compression.method import Method, Target


def _apply(target: Target) -> None:
    """Prune by llm-compressor's SparseGPT; a Hessian that cannot be inverted is an error."""
    from probes import oneshot  # first: it keeps the library's hands off the log
    from llmcompressor.modifiers.pruning.sparsegpt import SparseGPTModifier  # isort: skip
    from probes.specs.compression import COLUMNS

    with oneshot.refusing_sparsegpt():
        oneshot.apply(
            target, SparseGPTModifier(**oneshot.pruning_settings(target.spec, target.names), block_size=COLUMNS)
        )


METHOD = Method(
    "sparsegpt",
    "prunes",
    "SparseGPT: prunes by the layer's inputs and corrects what stays",
    "arXiv 2301.00774",
    _apply,
    unit="columns",
)
