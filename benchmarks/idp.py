"""What IDP's choice costs at inference: reading a batch behind the kept prompt, in units of one fixed prompt.

Both read 256 content tokens a row behind the cached keys and values of a prompt of the same length, and give the
logits after the last token. The prompt as tokens, as most libraries have it, stands beside.
"""

from benchmarks.measure import Ratio, time_ratio, times
from benchmarks.models import PROMPT, open_benchmark_model, rows_of, variants_of
from probes.variants import Variant

BATCHES = (1, 8)
LENGTH = 256
TARGET = 1.05


def idp_ratios(rounds: int) -> dict[str, Ratio]:
    """Time of IDP and of a prompt as tokens, each in units of one fixed prompt with cached keys."""
    model, tokenizer, _ = open_benchmark_model()
    variants = variants_of(model, tokenizer)
    found = {}
    for batch in BATCHES:
        rows = rows_of(batch, LENGTH)
        works = {
            "fixed": lambda rows=rows: variants["prompted"].logits(rows),
            "idp": lambda rows=rows: variants["idp"].logits(rows),
            "none": lambda rows=rows: variants["compressed"].logits(rows),
            "tokens": lambda rows=rows: _as_tokens(variants["prompted"], rows),
        }
        taken = times(works, rounds=rounds)
        shape = f"batch {batch} x {LENGTH} tokens, prompts of {PROMPT}"
        fixed = f"one fixed prompt, {shape}"
        found |= {
            f"idp_prefill_batch_{batch}": Ratio(
                time_ratio(taken, "idp", "fixed"), TARGET if batch == 8 else None, "time ratio", fixed
            ),
            f"prompt_as_tokens_batch_{batch}": Ratio(time_ratio(taken, "tokens", "fixed"), None, "time ratio", fixed),
            f"fixed_prompt_batch_{batch}": Ratio(
                time_ratio(taken, "fixed", "none"), None, "time ratio", f"the compressed model, {shape}"
            ),
        }
    return found


def _as_tokens(variant: Variant, rows: list[list[int]]) -> object:
    """The same logits by a pass over prompt and content."""
    arguments = variant.inputs(rows).forward_arguments()
    return variant.model(**arguments, use_cache=True, logits_to_keep=1).logits
