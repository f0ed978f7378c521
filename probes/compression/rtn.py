"""Round to nearest: every weight by itself, no calibration text read; what GPTQ has to beat."""

from probes.compression.method import Method, Target


def _apply(target: Target) -> None:
    """Quantise by llm-compressor's plain modifier; a weight that is zero is rounded to zero where that is a level."""
    from probes import oneshot  # first: it keeps the library's hands off the log
    from llmcompressor.modifiers.quantization import QuantizationModifier  # isort: skip

    oneshot.apply(target, QuantizationModifier(config_groups=oneshot.weight_groups(target.spec, target.names)))


METHOD = Method("rtn", "quantises", "Round to nearest: each weight to its nearest level", "no calibration", _apply)
