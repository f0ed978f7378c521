"""Columns that several tables share, and short ways to declare one."""

from functools import partial

from analysis.schema.table import COUNT, COUNTS, NUMBER, NUMBERS, TEXT, TRUTH, TRUTHS, Column

text = partial(Column, type=TEXT)
number = partial(Column, type=NUMBER)
count = partial(Column, type=COUNT)
truth = partial(Column, type=TRUTH)
numbers = partial(Column, type=NUMBERS)
counts = partial(Column, type=COUNTS)
truths = partial(Column, type=TRUTHS)

VARIANT = text("variant_id", about="hash of the variant; `variants` says what it is")
SCOPE = text("scope", about="main: the study; locked, never: controls; ablations: more or less of a repair")
COMPRESSION = text("compression", about="name of the compression; dense: none")
REPAIR = text("repair", about="name of the repair; empty: none")
VARIANT_NAME = text("variant", about="name of the variant, its compression with its repair")
GROUP = text("group", about="group of facts")
SPLIT = text(
    "split",
    about="which facts: read by repairs (tune), used to fit readouts (calibrate), held out (test)",
    values=("tune", "calibrate", "test"),
)
READING = text(
    "reading",
    about="candidates: best of the fixed candidates; vocabulary: best of the full vocabulary",
    values=("candidates", "vocabulary"),
)
MEASURE = text(
    "measure",
    about="accuracy: share of right answers, in [0, 1]; bits: calibrated bits per fact",
    values=("accuracy", "bits"),
)
ITEM = text("item", about="the question's name")
ENTITY = text("entity", about="the fact's subject")
RELATION = text("relation", about="the fact's relation")
ANSWER = text("answer", about="the right answer")
ITEMS = count("items", about="how many items the value rests on")
ENTITIES = count("entities", about="how many subjects the value rests on")
REPLICATES = count("replicates", about="how many replicates the value rests on")
LAYER = count("layer", about="layer, from 0")
LOG_PROB = number("log_prob", about="log-probability of the right answer, nats")
CORRECT = truth("correct", about="whether the answer is right")


def interval(about: str, name: str = "value", ends: str = "", missing: str = "") -> tuple[Column, Column, Column]:
    """A value with the ends of its 95 % interval."""
    return (
        number(name, about=about, missing=missing),
        number(f"{ends}lower", about=f"lower end of the 95 % interval of {name}", missing=missing),
        number(f"{ends}upper", about=f"upper end of the 95 % interval of {name}", missing=missing),
    )
