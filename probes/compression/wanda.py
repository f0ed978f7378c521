"""Wanda (Sun et al., arXiv 2306.11695): prune by weight times the norm of its input, row by row, nothing corrected."""

from probes.compression.method import Method, Target


def _apply(target: Target) -> None:
    """Prune by llm-compressor's Wanda."""
    from probes import oneshot  # first: it keeps the library's hands off the log
    from llmcompressor.modifiers.pruning.wanda import WandaPruningModifier  # isort: skip

    oneshot.apply(target, WandaPruningModifier(**oneshot.pruning_settings(target.spec, target.names)))


METHOD = Method("wanda", "prunes", "Wanda: prunes by weight times input norm", "arXiv 2306.11695", _apply, unit="row")
