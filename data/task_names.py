"""Names of tasks: the nine of the paper as we read it, their domains, their files, and texts for perplexity.

`paper-nine` is our reading of arXiv 2310.00867: it speaks of nine tasks over several knowledge domains (world
knowledge, commonsense, language understanding) and names only TriviaQA for certain. Hence it is a field of the study.
"""

PAPER_NINE = "paper-nine"
PAPER_TASKS = (
    *("arc_easy", "arc_challenge", "sciq", "webqs", "triviaqa"),
    *("hellaswag", "lambada_openai", "winogrande", "mmlu"),
)
GROUPS = ("world knowledge", "commonsense", "language understanding")
"""Domains in the order in which they are shown."""
DOMAINS = {
    **dict.fromkeys(("arc_easy", "arc_challenge", "sciq", "webqs", "triviaqa", "mmlu"), "world knowledge"),
    **dict.fromkeys(("wikidata_facts", "atlas_recall", "atlas_who"), "world knowledge"),
    **dict.fromkeys(("hellaswag", "winogrande", "piqa"), "commonsense"),
    **dict.fromkeys(("lambada_openai", "atlas_last_word"), "language understanding"),
}
"""What a task is read as asking for; any other is of the domain `other`."""
FILE_NAMES = {"lambada_openai": "lambada", "webqs": "webquestions"}
"""Other names that a task's file may have."""
TEXTS = {"wikitext": "wikitext", "ptb": "paloma_ptb", "c4": "c4"}
"""Texts of a hub whose perplexity is taken, by lm-eval's name for them."""


def domain_of(name: str) -> str:
    """World knowledge, commonsense, language understanding, or other."""
    known = DOMAINS | {other: DOMAINS[task] for task, other in FILE_NAMES.items()}
    return "world knowledge" if name.startswith("mmlu_") else known.get(name, "other")
