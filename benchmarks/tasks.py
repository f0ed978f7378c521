"""What scoring a task costs beside lm-eval's own Hugging Face model, on the same requests in one run.

Items as ARC's are: a question of some thirty words and four answers of a few; every answer is scored. The words are
the Python language reference's, since no hub may be in reach and what they say does not matter to time.
"""

from collections.abc import Callable

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from analysis.timing import time_ratio, times
from benchmarks.measure import Ratio
from benchmarks.models import Bench
from data.tasks import quiet
from data.text import load_text
from probes.idp import PromptBank
from probes.lm_eval_adapter import VariantLM
from probes.prompts import draw_prompt
from probes.selection.attention import Selector
from probes.variants import Variant

ITEMS = 24
CHOICES = 4
BATCH = 16
QUESTION = 30
ANSWER = 5
"""Words of a question, and of an answer."""
BANK, PROMPT = 3, 8
OURS, IDP = 1.1, 1.15


def task_ratios(rounds: int) -> dict[str, Ratio]:
    """Dense in units of lm-eval's own model, and IDP in units of dense, both scored here."""
    quiet()
    bench = Bench.open()
    requests = requests_of(ITEMS)
    prompts = [draw_prompt(bench.model, PROMPT, seed) for seed in range(BANK)]
    bank = PromptBank(bench.model, prompts, Selector())
    models = {
        "lm_eval": HFLM(pretrained=bench.model, tokenizer=bench.tokenizer, batch_size=BATCH),
        "dense": VariantLM(Variant("dense", bench.model, bench.tokenizer), batch=BATCH),
        "prompt": VariantLM(Variant("prompt", bench.model, bench.tokenizer, prompt=prompts[0]), batch=BATCH),
        "idp": VariantLM(Variant("idp", bench.model, bench.tokenizer, bank=bank), batch=BATCH),
    }
    taken = times({name: _asking(lm, requests) for name, lm in models.items()}, rounds=rounds)
    shape = f"{ITEMS} items of {CHOICES} answers, batch {BATCH}"
    return {
        "tasks_dense": Ratio(
            time_ratio(taken, "dense", "lm_eval"), OURS, "time ratio", f"lm-eval's own model, {shape}"
        ),
        "tasks_prompt": Ratio(time_ratio(taken, "prompt", "dense"), None, "time ratio", f"dense, {shape}"),
        "tasks_idp": Ratio(time_ratio(taken, "idp", "dense"), IDP, "time ratio", f"dense, {shape}"),
    }


def _asking(lm: HFLM | VariantLM, requests: list[Instance]) -> Callable[[], object]:
    return lambda: lm.loglikelihood(requests, disable_tqdm=True)


def requests_of(items: int) -> list[Instance]:
    """Requests of a multiple-choice task."""
    words = " ".join(load_text("pydoc", "heldout").paragraphs).split()
    found = []
    for item in range(items):
        start = item * (QUESTION + CHOICES * ANSWER)
        context = f"Question: {' '.join(words[start : start + QUESTION])}\nAnswer:"
        for choice in range(CHOICES):
            first = start + QUESTION + choice * ANSWER
            answer = " " + " ".join(words[first : first + ANSWER - choice % 2])
            found.append(Instance(request_type="loglikelihood", doc={}, arguments=(context, answer), idx=choice))
    return found
