"""The columns of `tasks` (one row per variant and item) and `perplexity` (per variant and document)."""

TASK_COLUMNS = (
    *("variant_id", "plan", "task", "domain", "item", "kind", "correct", "correct_norm"),
    *("choice", "choice_norm", "answer", "said", "log_probs", "greedy", "chosen", "tokens_cut"),
)
TEXT_COLUMNS = (
    *("variant_id", "text", "document", "window", "log_likelihood", "tokens", "words", "bytes"),
    *("perplexity", "word_perplexity", "bits_per_byte"),
)
