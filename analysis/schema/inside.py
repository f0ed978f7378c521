"""Tables of what is read inside the variants."""

import pyarrow as pa

from analysis.schema.parts import (
    CORRECT,
    ENTITIES,
    GROUP,
    ITEM,
    ITEMS,
    LAYER,
    SPLIT,
    VARIANT,
    count,
    interval,
    number,
    text,
)
from analysis.schema.table import Column, Table

TEXTS = text("group", about="group of texts: questions, or plain text")
REFERENCE = text("reference", about="what the variant is compared with", values=("dense", "parent"))
SITE = text("site", about="place in the layer")
METRIC = text("metric", about="name of the metric; its words and unit stand in analysis/metrics/registry.py")
FLOOR = number(
    "floor",
    about="the same number of dense against itself in another batch: numerical noise",
    missing="where dense against itself has none",
)
TOKENS = count("tokens", about="tokens that the value rests on")
HEAD = count("head", about="attention head, from 0; -1: all of the layer")

MEASURED = (VARIANT, REFERENCE, TEXTS, LAYER, SITE, METRIC, *interval("the metric, a mean over sequences"))
DRIFT = Table(
    "drift",
    "One row per variant, reference, group of texts, layer, site and metric: how far activations lie apart.",
    (*MEASURED, FLOOR, TOKENS),
    cells="drift",
)
ATTENTION = Table(
    "attention",
    "The same of attention patterns, one row per head.",
    (*MEASURED, FLOOR, TOKENS, HEAD),
    cells="drift",
)
FLOORS = Table(
    "floors",
    "One row per numerical floor, layer, site, head and metric: the same model twice.",
    (
        *(VARIANT, text("floor", about="which floor"), REFERENCE, TEXTS, LAYER, SITE, HEAD, METRIC),
        *interval("the metric, a mean over sequences"),
        TOKENS,
    ),
    cells="drift",
)

LENS = Table(
    "lens",
    "One row per variant, group, layer and metric of the logit lens.",
    (
        *(VARIANT, GROUP, SPLIT, count("layer", about="layer, from 0; -1: all of them together")),
        METRIC,
        *interval("the metric, a mean over questions; of ranks the geometric mean"),
        *(ITEMS, ENTITIES),
    ),
    cells="lens",
)
LENS_ITEMS = Table(
    "lens_items",
    "One row per variant, question and layer of the logit lens.",
    (
        *(VARIANT, ITEM, GROUP),
        Column("layer", pa.int16(), "layer, from 0"),
        Column("log_prob", pa.float32(), "log-probability of the right answer's first token, nats"),
        Column("rank", pa.int32(), "rank of the right answer's first token, from 1"),
    ),
    cells="lens",
)
PROBES = Table(
    "probes",
    "One row per variant, group, layer, way and metric of the linear probes.",
    (
        *(VARIANT, GROUP, SPLIT, LAYER),
        text(
            "way",
            about="dense's probes as they are, probes fitted anew, or dense's probes after a rotation",
            values=("frozen", "refitted", "aligned"),
        ),
        METRIC,
        *interval("the metric, in [0, 1]; selectivity in [-1, 1]"),
        *(ITEMS, ENTITIES),
        count("fitted", about="facts that the probes were fitted on"),
    ),
    cells="probed",
)
INTERVENTIONS = Table(
    "interventions",
    "One row per variant, place and arm of activation patching or attention knockout.",
    (
        VARIANT,
        text("intervention", about="which of the two", values=("patching", "knockout")),
        text("source", about="variant whose activation is copied; empty for a knockout"),
        text("group", about="groups of facts, with commas"),
        SITE,
        count("layer", about="first layer of the place, from 0"),
        count("last_layer", about="last layer of the place"),
        HEAD,
        text("positions", about="token positions that are patched; all for a knockout"),
        text("form", about="how attention goes on without the keys; empty for patching"),
        text("arm", about="what was done: the intervention, a placebo, or the difference of the two"),
        *interval("log odds of the right answer restored (patching) or lost (knockout), nats"),
        number("p", about="one-sided p of a value above zero, max-T over the figure's places"),
        number("before", about="log odds before the intervention, nats"),
        number("reference", about="log odds of the source (patching) or of the parent (knockout), nats"),
        *(ITEMS, ENTITIES),
        count("lost", about="items that compression lost"),
        number("keys", about="keys that were knocked out, a mean over items", missing="where no key was knocked out"),
    ),
    cells="intervened",
)
EXAMPLES = Table(
    "examples",
    "One row per question that is kept token by token, and variant.",
    (
        text("file", about="its file in the folder examples"),
        *(VARIANT, ITEM, GROUP),
        text("question", about="the question"),
        text("answer", about="the right answer"),
        text("why", about="why it was chosen"),
        CORRECT,
    ),
    cells="examples",
)
