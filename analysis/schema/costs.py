"""Tables of what tuning and computing took."""

from analysis.schema.parts import COMPRESSION, REPAIR, VARIANT, count, number, text
from analysis.schema.table import Table

TRAINING = Table(
    "training",
    "One row per variant, tuned part and step.",
    (
        count("step", about="the step"),
        number("loss", about="mean loss of the step, nats per token"),
        count("tokens", about="tokens read in the step"),
        text("part", about="which part of the repair: tuned0, tuned1, adapter, ..."),
        VARIANT,
    ),
)
LATENCY = Table(
    "latency",
    "One row per repair, phase, batch size and form: a file beside the tables, since times are no result.",
    (
        REPAIR,
        text("phase", about="reading the tokens, or writing one by one", values=("prefill", "decode")),
        count("batch", about="rows at once"),
        text("form", about="how it is run: empty, as it is scored; as tokens; merged into the weights"),
        number("ratio", about="time over that of the same model without repair"),
        COMPRESSION,
        count("tokens", about="tokens a row"),
        count("rounds", about="how often each was timed"),
    ),
)
TIMINGS = Table(
    "timings",
    "One row per cell: the one table that may differ between runs of the same study.",
    (
        text("kind", about="kind of cell"),
        text("label", about="name of the cell"),
        number("seconds_to_make", about="how long it took, seconds"),
        count("peak_bytes", about="most memory that its worker held, bytes"),
    ),
)
