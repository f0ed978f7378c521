"""Tables of repairs that choose among several prompts."""

from analysis.schema.parts import (
    CORRECT,
    ENTITIES,
    ENTITY,
    GROUP,
    ITEM,
    ITEMS,
    RELATION,
    VARIANT,
    count,
    counts,
    interval,
    number,
    numbers,
    text,
    truths,
)
from analysis.schema.table import Column, Table

SELECTOR = text("selector", about="name of the selector")
COST = text(
    "cost",
    about="what a choice costs",
    values=("none", "first_layer", "full_pass", "full_pass_per_prompt"),
)
ALL_KEPT = "where all prompts are kept"
DRAWN = "where all prompts are kept, or prompts cannot be ordered"
UNDIVIDED = "where the bank is not divided by relation"

BANKS = Table(
    "banks",
    "One row per prompt of a bank.",
    (
        count("prompt", about="the prompt's place in its bank, from 0"),
        count("length", about="its length, tokens"),
        number("vector_norm", about="mean norm of its vectors"),
        number("key_norm", about="mean norm of its keys in the first layer"),
        VARIANT,
    ),
)
SELECTIONS = Table(
    "selections",
    "One row per variant with a bank, test question and selector.",
    (
        *(ITEM, ENTITY, RELATION, GROUP),
        numbers("log_prob_by_prompt", about="log-probability of the right answer under each prompt, nats"),
        truths("correct_by_prompt", about="whether the answer under each prompt is right"),
        count("oracle", about="the prompt that was best for this question"),
        count("own", about="the prompt that was tuned on the question's relation", missing=UNDIVIDED),
        *(SELECTOR, COST),
        count("chosen", about="the prompt that was selected", missing=ALL_KEPT),
        counts("draws", about="the prompt selected in every draw of a random choice; one for all others"),
        numbers("scores", about="the selector's score of each prompt"),
        number("log_prob", about="log-probability of the right answer under what was selected, nats"),
        CORRECT,
        VARIANT,
    ),
)


def _against(rival: str, words: str) -> tuple[Column, Column, Column]:
    """A selector's worth less a rival's."""
    return interval(f"value less that of {words}", f"minus_{rival}", f"minus_{rival}_")


SELECTORS = Table(
    "selectors",
    "One row per variant with a bank, group, selector and measure.",
    (
        *(GROUP, SELECTOR, COST, ITEMS, ENTITIES),
        numbers("usage", about="share of questions for which each prompt was selected"),
        number("choice_bits", about="entropy of these shares, bits", missing=ALL_KEPT),
        *interval(
            "Spearman's correlation of scores with answers over prompts",
            "rank_correlation",
            "rank_correlation_",
            missing=DRAWN,
        ),
        *interval(
            "share of questions for which the prompt tuned on their relation was selected",
            "own_prompt",
            "own_prompt_",
            missing=UNDIVIDED,
        ),
        number("choice_and_key_norm", about="correlation of the choice with a prompt's key norm", missing=DRAWN),
        number("choice_and_position", about="correlation of the choice with a prompt's place", missing=DRAWN),
        number("choice_and_length", about="correlation of the choice with a prompt's length", missing=DRAWN),
        text(
            "measure",
            about="log-probability of the right answer (nats), or accuracy",
            values=("log_prob", "accuracy"),
        ),
        *interval("mean of the measure under what was selected"),
        number("regret", about="what the best prompt in hindsight would add"),
        number("expected", about="mean where choices are dealt out to other questions", missing=ALL_KEPT),
        number("p", about="one-sided p of value against expected", missing=ALL_KEPT),
        number("expected_within_relation", about="as expected, dealt out within a relation", missing=ALL_KEPT),
        number("p_within_relation", about="one-sided p of value against that", missing=ALL_KEPT),
        *_against("best_single", "the best single prompt"),
        *_against("random", "a random prompt"),
        *_against("mixture", "all prompts together"),
        *_against("oracle", "the prompt that was best in another wording"),
        VARIANT,
    ),
)
