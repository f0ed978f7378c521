"""Tables of standard tasks and of perplexity."""

from analysis.schema.parts import CORRECT, VARIANT, count, counts, number, numbers, text, truth, truths
from analysis.schema.table import Table

ONE_CHOICE = "where the task has no choices, or several of them are right"

TASKS = Table(
    "tasks",
    "One row per variant and item of a standard task.",
    (
        VARIANT,
        text("plan", about="main, or other: the same in another batch size"),
        text("task", about="name of the task"),
        text("domain", about="its domain"),
        text("item", about="name of the item"),
        text("kind", about="how lm-eval reads an answer"),
        CORRECT,
        truth("correct_norm", about="the same with log-probabilities by length", missing="where lm-eval has none"),
        count("choice", about="the choice taken, from 0", missing=ONE_CHOICE),
        count("choice_norm", about="the same with log-probabilities by length", missing=ONE_CHOICE),
        text("answer", about="the right answer, or all of them"),
        text("said", about="the answer given", missing="where the task asks only whether an answer is said"),
        numbers("log_probs", about="log-probability of each choice, nats", missing="where the model writes its answer"),
        truths("greedy", about="whether greedy decoding says each choice", missing="where the model writes its answer"),
        counts("chosen", about="prompt that each request selected", missing="where none was selected"),
        count("tokens_cut", about="tokens cut off at the left"),
    ),
)
PERPLEXITY = Table(
    "perplexity",
    "One row per variant and document of a text.",
    (
        VARIANT,
        text("text", about="name of the text"),
        count("document", about="place of the document, from 0"),
        count("window", about="tokens read at once"),
        number("log_likelihood", about="of the document, nats"),
        count("tokens", about="its tokens"),
        count("words", about="its words"),
        count("bytes", about="its bytes"),
        number("perplexity", about="per token"),
        number("word_perplexity", about="per word"),
        number("bits_per_byte", about="per byte, bits"),
    ),
)
