"""What a model of the paper's size costs: each part in units of a plain forward pass, with peak memory.

Random weights in the shapes of Llama-7B and OPT-6.7B (those that the shipped studies name), bfloat16, eager attention;
time and memory depend on shapes alone. For each:

1. Compress: 3-bit GPTQ or half-pruned SparseGPT through llm-compressor, proved as in a study.
2. Plain: a forward pass of the compressed copy over a batch, logits included: the unit of time, in tokens a second.
3. Prompt: a step of prompt tuning on the batch (forward and backward), and reading it behind a prompt's cached keys.
4. IDP: the choice by the first layer and the reading behind what was chosen.
5. Drift: reference, compressed, prompted and IDP streamed, all kinds of drift site at every layer, no head: in units of
   four plain passes.

On a GPU where torch finds one, else on the processor: there the dense weights stay in a file that is mapped into
memory, whose pages the system may drop, and a batch is one row. Memory is what was held at most beyond what was there
before, in units of the dense weights: by the GPU's allocator; on the processor by the process, mapped files apart.
"""

import gc
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from rich.console import Console
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from analysis.comparison import Comparison
from analysis.drift import DRIFT_KINDS, Reference, rows_at_once, stream_states
from analysis.study import load_study
from analysis.timing import Work, time_ratio, times
from benchmarks.measure import Ratio, own_memory_peak
from benchmarks.models import rows_of
from probes.capture import Recorder
from probes.compress import compress
from probes.idp import PromptBank
from probes.models import open_model
from probes.prompts import draw_prompt
from probes.selection.attention import Selector
from probes.sites import sites_of
from probes.specs.compression import CompressionSpec
from probes.tuning import text_rows, token_loss
from probes.variants import Variant

Made = TypeVar("Made")
SUBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama_7b": ("paper-llama-7b", {"method": "gptq", "bits": 3}),
    "opt_6_7b": ("paper-opt-6.7b", {"method": "sparsegpt", "sparsity": 0.5}),
}
"""The study whose shape is taken, and what compresses it."""
LENGTH = 512
SAMPLES, BLOCK = 16, 512
"""Calibration blocks, and tokens in each."""
PROMPT, BANK = 20, 2
WORDS = 32_000
"""Of Llama's vocabulary, the smaller one."""
GIGA = 1e9


def size_ratios(name: str, rounds: int, layers: int | None = None) -> dict[str, Ratio]:
    """One shape's ratios; fewer layers than the shape has make it quicker."""
    study, recipe = SUBJECTS[name]
    place = "cuda" if torch.cuda.is_available() else "cpu"
    spec = CompressionSpec(**recipe, samples=SAMPLES, block_length=BLOCK)
    with tempfile.TemporaryDirectory() as folder:
        subject = _Subject(study, spec, layers, place, folder)
        return {f"{name}_{part}": ratio for part, ratio in subject.ratios(rounds).items()}


@dataclass
class _Subject:
    """One shape, its compressed copy, and the variants of it that are compared."""

    study: str
    spec: CompressionSpec
    layers: int | None
    place: str
    folder: str
    """For the file that holds the dense weights, on a processor."""

    @property
    def batch(self) -> int:
        """Rows read at once."""
        return 4 if self.place == "cuda" else 1

    @cached_property
    def rows(self) -> list[list[int]]:
        """What is read."""
        return rows_of(self.batch, LENGTH, WORDS)

    @cached_property
    def dense(self) -> PreTrainedModel:
        """Random weights, made where they are used; on a processor mapped from a file."""
        shape: dict[str, Any] = dict(load_study(self.study).shape or {})
        if self.layers is not None:
            shape["num_hidden_layers"] = self.layers
        torch.manual_seed(0)
        with torch.device(self.place):
            model = AutoModelForCausalLM.from_config(
                AutoConfig.for_model(**shape), dtype=torch.bfloat16, attn_implementation="eager"
            )
        if self.place == "cpu":
            model.save_pretrained(self.folder)
            del model
            gc.collect()
            model = AutoModelForCausalLM.from_pretrained(
                self.folder, dtype=torch.bfloat16, attn_implementation="eager", local_files_only=True
            )
        return model.eval().requires_grad_(False)

    def ratios(self, rounds: int) -> dict[str, Ratio]:
        """All parts, compression first since everything else is made from it."""
        weights = sum(weight.numel() * weight.element_size() for weight in self.dense.parameters())
        tokenizer = open_model("atlas", dtype="float32", device="cpu").tokenizer
        blocks = torch.tensor(rows_of(SAMPLES, BLOCK, WORDS))
        started = time.perf_counter()
        made, held = self._peak("compression", lambda: compress(self.dense, tokenizer, self.spec, blocks, seed=0))
        seconds = time.perf_counter() - started
        model = made.model.requires_grad_(False)
        proof = made.proof
        del made
        prompts = [draw_prompt(model, PROMPT, seed) for seed in range(BANK)]
        variants = {
            "compressed": Variant("compressed", model, tokenizer),
            "prompt": Variant("prompt", model, tokenizer, prompt=prompts[0]),
            "idp": Variant("idp", model, tokenizer, bank=PromptBank(model, prompts, Selector())),
        }
        works = self._works(Variant("dense", self.dense, tokenizer), variants)
        peaks = {name: self._peak(name, work)[1] / weights for name, work in works.items()}
        taken = times({name: self._finished(work) for name, work in works.items()}, rounds=rounds)
        plain = min(taken["plain"])
        unit = (
            f"plain pass {self.batch} x {LENGTH} on {self.place}, {self.batch * LENGTH / plain:,.0f} tokens/s; "
            f"{weights / GIGA:.1f} GB of weights"
        )
        alone = f"{self.spec.name} of {SAMPLES} x {BLOCK} tokens, {proof.changed} layers proved, {seconds:.0f} s"
        found = {
            "compress_time": Ratio(seconds / plain / (SAMPLES / self.batch), None, "time ratio", f"plain; {alone}"),
            "compress_memory": Ratio(held / weights, None, "memory ratio", "dense weights, themselves not counted"),
        }
        for name in works:
            passes = len(variants) + 1 if name == "drift" else 1
            if name != "plain":
                value = time_ratio(taken, name, "plain") / passes
                found[f"{name}_time"] = Ratio(value, None, "time ratio", f"{passes} x {unit}")
            found[f"{name}_memory"] = Ratio(peaks[name], None, "memory ratio", "dense weights, not counted")
        return found

    def _works(self, dense: Variant, variants: dict[str, Variant]) -> dict[str, Work]:
        model = variants["compressed"].model
        tuned = torch.nn.Parameter(draw_prompt(model, PROMPT, 9).float())
        read = text_rows(self.rows)
        sites = sites_of(self.dense, DRIFT_KINDS)
        recorders = {name: Recorder(one.model) for name, one in {"dense": dense, **variants}.items()}

        def step() -> None:
            tuned.grad = None
            token_loss(model, read, tuned).backward()

        def drift() -> None:
            size = rows_at_once(self.dense, sites, LENGTH, self.batch)
            for first in range(0, self.batch, size):
                rows = self.rows[first : first + size]
                reference = Reference.record(recorders["dense"], dense.inputs(rows), sites)
                for name, variant in variants.items():
                    comparison = Comparison({"dense": reference}, variant.inputs(rows))
                    stream_states(recorders[name], comparison.inputs, sites, comparison)

        @torch.no_grad()
        def plain() -> None:
            model(**variants["compressed"].inputs(self.rows).forward_arguments(), use_cache=False)

        return {
            "plain": plain,
            "tuning_step": step,
            "prompt": lambda: variants["prompt"].read(self.rows),
            "idp": lambda: variants["idp"].read(self.rows),
            "drift": drift,
        }

    def _finished(self, work: Work) -> Work:
        """The work, and waiting until a GPU has done it."""

        def whole() -> None:
            work()
            if self.place == "cuda":
                torch.cuda.synchronize()

        return whole

    def _peak(self, name: str, work: Callable[[], Made]) -> tuple[Made, int]:
        """What the work gives, and the bytes that were held at most beyond what was held before."""
        Console(stderr=True).print(f"{self.study}: {name}", highlight=False)
        gc.collect()
        if self.place == "cpu":
            return own_memory_peak(work)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = work()
        torch.cuda.synchronize()
        return result, torch.cuda.max_memory_allocated() - before
