"""Qwen2: Llama's layout, with biases on queries, keys and values."""

from dataclasses import replace

from probes.families import llama

FAMILY = replace(llama.FAMILY, model_type="qwen2")
