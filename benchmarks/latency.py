"""What a repair costs at inference, in units of the compressed model without one.

1. Prefill: 256 content tokens a row to the logits after the last, behind a prompt of 8 as tokens or as cached keys,
   IDP with each selector, LoRA as it is trained and merged into the weights.
2. Decode: 16 further tokens a row, one by one, from the keys and values that the prefill left.

The one target: IDP with a first-layer choice beside one fixed prompt of the same length, both with cached keys.
"""

from collections.abc import Mapping

from analysis.latency import decoding, read_as_tokens
from analysis.timing import Work, time_ratio, times
from benchmarks.measure import Ratio
from benchmarks.models import BANK, PROMPT, Bench, rows_of
from probes.idp import PromptBank
from probes.selection.attention import Selector
from probes.selection.base import PromptSelector
from probes.selection.key import KeySelector
from probes.selection.outputs import OutputSelector
from probes.selection.random import RandomSelector
from probes.variants import Variant

BATCHES = (1, 8)
LENGTH = 256
DECODED = 16
TARGET = 1.05
TARGET_BATCH = 8
DECODING = ("compressed", "prompt", "lora", "lora_merged")
"""What can differ in decoding: IDP has chosen by then, and a prompt as tokens leaves the same keys."""
Rows = list[list[int]]


def latency_ratios(rounds: int) -> dict[str, Ratio]:
    """Every repair's time in units of the compressed model's, and IDP's in units of one fixed prompt's."""
    bench = Bench.open()
    variants = _variants(bench)
    found: dict[str, Ratio] = {}
    for batch in BATCHES:
        rows = rows_of(batch, LENGTH)
        shape = f"batch {batch} x {LENGTH} tokens, prompts of {PROMPT}"
        found |= _prefill(variants, rows, shape, rounds)
        found |= _decode({name: variants[name] for name in DECODING}, rows, rounds)
    return found


def _variants(bench: Bench) -> dict[str, Variant]:
    """The benchmark's variants, LoRA merged, and IDP by each selector that needs no data to be made."""
    named = bench.variants()
    merged = bench.adapter().merge_and_unload(safe_merge=True)
    model, prompts = named["compressed"].model, bench.prompts
    selectors: dict[str, Selector | PromptSelector] = {
        "attention": Selector(),
        "attention_all_layers": Selector(layers="all"),
        "attention_separate": Selector(softmax="separate"),
        "random": RandomSelector(BANK, seed=0),
        "key": KeySelector.of_prompts(model, prompts),
        "entropy": OutputSelector(model, prompts, "entropy"),
        "likelihood": OutputSelector(model, prompts, "likelihood"),
    }
    banks = {f"idp_{name}": PromptBank(model, prompts, selector) for name, selector in selectors.items()}
    return {
        "compressed": named["compressed"],
        "prompt": named["prompted"],
        "lora": named["lora"],
        "lora_merged": Variant("lora, merged", merged, bench.tokenizer),
    } | {name: Variant(name, model, bench.tokenizer, bank=bank) for name, bank in banks.items()}


def _prefill(variants: Mapping[str, Variant], rows: Rows, shape: str, rounds: int) -> dict[str, Ratio]:
    works: dict[str, Work] = {name: _reading(variant, rows) for name, variant in variants.items()}
    works["prompt_as_tokens"] = lambda: read_as_tokens(variants["prompt"], rows)
    taken = times(works, rounds=rounds)
    batch = len(rows)
    found = {
        f"prefill_{name}_batch_{batch}": Ratio(
            time_ratio(taken, name, "compressed"), None, "time ratio", f"the compressed model, {shape}"
        )
        for name in works
        if name != "compressed"
    }
    target = TARGET if batch == TARGET_BATCH else None
    against = f"one fixed prompt, {shape}"
    for name in works:
        if name.startswith("idp_"):
            ratio = Ratio(
                time_ratio(taken, name, "prompt"), target if name == "idp_attention" else None, "time ratio", against
            )
            found[f"{name}_against_prompt_batch_{batch}"] = ratio
    return found


def _reading(variant: Variant, rows: Rows) -> Work:
    return lambda: variant.logits(rows)


def _decode(variants: Mapping[str, Variant], rows: Rows, rounds: int) -> dict[str, Ratio]:
    works = {name: decoding(variant.model, variant.read(rows), DECODED) for name, variant in variants.items()}
    taken = times(works, rounds=rounds)
    against = f"the compressed model, batch {len(rows)}, {DECODED} tokens after {LENGTH}"
    return {
        f"decode_{name}_batch_{len(rows)}": Ratio(
            time_ratio(taken, name, "compressed"), None, "time ratio per token", against
        )
        for name in works
        if name != "compressed"
    }
