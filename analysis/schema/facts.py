"""Tables of variants and of what they answer."""

from analysis.schema.parts import (
    ANSWER,
    COMPRESSION,
    CORRECT,
    ENTITIES,
    ENTITY,
    GROUP,
    ITEM,
    ITEMS,
    LOG_PROB,
    MEASURE,
    READING,
    RELATION,
    REPAIR,
    REPLICATES,
    SCOPE,
    SPLIT,
    VARIANT,
    VARIANT_NAME,
    count,
    interval,
    number,
    text,
)
from analysis.schema.table import Table

PARAMETERS = count("parameters_added", about="parameters that the repair adds")
BYTES = count("bytes_added", about="size of what the repair adds, bytes")

VARIANTS = Table(
    "variants",
    "One row per variant: a model with its compression and its repair, in one replicate.",
    (
        VARIANT,
        VARIANT_NAME,
        text("parent", about="variant_id of the model without the repair or the compression", missing="for dense"),
        text("model", about="the dense model, as the study names it"),
        SCOPE,
        COMPRESSION,
        REPAIR,
        text("kind", about="kind of repair; empty: none"),
        text("drawn_as", about="kind of repair as figures mark it: controls of a prompt apart from prompts"),
        number("compression_seed", about="seed of the compression", missing="where none shaped it"),
        number("repair_seed", about="seed of the repair", missing="where none shaped it"),
        count("replicate", about="replicate that the variant belongs to"),
        count("draw", about="which draw of an untrained prompt within its replicate, from 0; 0 for all others"),
        text("tuned_on", about="facts that were read, or `text alone`", missing="where nothing was tuned"),
        text("text", about="plain text of the study"),
        text("tuning", about="settings of tuning, JSON", missing="where nothing was tuned"),
        PARAMETERS,
        BYTES,
        count("parameters_tuned", about="parameters that were tuned"),
        count("soft_tokens_untuned", about="soft tokens that were not tuned"),
        count("text_tokens", about="tokens of a repair that is a text"),
        text("prompt_tokens", about="tokens of a repair that is a text, a JSON list", missing="for all other repairs"),
        count("tokens_seen", about="tokens read in tuning"),
        count("steps", about="steps of tuning"),
        text("weights_sha", about="hash of the weights"),
        number(
            "parity_max_abs",
            about="largest difference of logits and sites from Hugging Face's",
            missing="where the inside was not read",
        ),
        number(
            "logit_difference",
            about="largest difference of logits from the parent's",
            missing="for dense, and for a control that leaves the model as it is",
        ),
        text(
            "budget",
            about="what it has equal with the repair it is measured against",
            missing="where nothing was tuned",
        ),
    ),
)

ANSWERED = (
    ITEM,
    GROUP,
    SPLIT,
    text("phrasing", about="which wording of the question", values=("measure", "damage")),
    RELATION,
    ENTITY,
    ANSWER,
    text("rule", about="how the probability of an answer is read where another begins with it"),
    READING,
    LOG_PROB,
    number("bits", about="calibrated bits of the right answer"),
    CORRECT,
    text("predicted", about="the answer given"),
    VARIANT,
)
ANSWERS = Table("answers", "One row per variant, question and reading.", ANSWERED)
DEALT = Table(
    "dealt",
    "One row per question and reading of a prompt trained on shuffled answers, which count as right.",
    ANSWERED,
)

RECOVERY = Table(
    "recovery",
    "One row per variant (over its replicates), group, reading, split and measure.",
    (
        *(SCOPE, COMPRESSION, REPAIR, VARIANT_NAME, GROUP, READING, SPLIT, MEASURE),
        *interval("accuracy, or bits per fact"),
        *(ITEMS, ENTITIES, REPLICATES, PARAMETERS, BYTES),
    ),
)

TRANSFER = Table(
    "transfer",
    "One row per repair used elsewhere, what it was tuned on and is used on, group, reading, split and measure.",
    (
        REPAIR,
        text("source", about="compression that it was tuned on"),
        text("target", about="compression that it is used on"),
        text("read", about="what it read: all, text, or relations"),
        text(
            "asked",
            about="which relations are counted",
            values=("all", "read relations", "other relations"),
        ),
        *(VARIANT_NAME, GROUP, READING, SPLIT, MEASURE),
        *interval("accuracy, or bits per fact"),
        *interval("the same less that of the target without repair", "gain", "gain_"),
        *(ITEMS, ENTITIES, REPLICATES),
    ),
)
