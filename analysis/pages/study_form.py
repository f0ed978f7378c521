"""The fields of a study as widgets: rows of compressions and repairs, and what counts how often."""

from typing import Any, Final

import streamlit as st

from analysis import drafting, launching
from analysis.drafting import OTHER, REPAIR_FIELDS
from analysis.metrics.registry import metric_groups
from data.errors import InputError
from data.user_yaml import read_yaml
from probes.specs.selectors import selectors

METHODS = [*drafting.QUANTISERS, *drafting.PRUNERS, OTHER]
FLOORS = ["batch_plan", "sdpa", "bfloat16", "calibration_draw"]
BANKS = ["seeds", "relations", "clusters"]
SELECTORS = {kind.name: kind.words for kind in selectors() if not kind.bound}
HELP = {
    "selector": "Keeps, for each question:\n" + "".join(f"\n- {name}: {words}" for name, words in SELECTORS.items())
}
NO_FORM = "written as YAML, since this form has no fields for it"

KEPT: Final = "session"
"""How long what was typed stays: through other pages."""


class Fields:
    """Widgets whose first values are a template's: another template begins anew, another page leaves them alone."""

    def __init__(self, name: str) -> None:
        self.name = name

    def key(self, field: str) -> str:
        return f"new {self.name} {field}"

    def text(self, label: str, value: object, field: str, **more: Any) -> str:
        return str(st.text_input(label, str(value), key=self.key(field), persist_state=KEPT, **more)).strip()

    def number(self, label: str, value: float, field: str, low: int, high: int, **more: Any) -> int:
        most = max(high, int(value))  # a study written by hand may go beyond what is sensible
        return int(st.number_input(label, low, most, int(value), 1, key=self.key(field), persist_state=KEPT, **more))

    def rate(self, label: str, value: float, field: str) -> float:
        return float(
            st.number_input(
                label, 1e-5, 1.0, float(value), 0.001, format="%g", key=self.key(field), width=130, persist_state=KEPT
            )
        )

    def one(self, label: str, options: list[str], value: object, field: str, **more: Any) -> str:
        options = options if value in options else [*options, str(value)]
        return str(
            st.selectbox(label, options, options.index(str(value)), key=self.key(field), persist_state=KEPT, **more)
        )

    def some(self, label: str, options: list[str], values: list[str], field: str, **more: Any) -> list[str]:
        options = list(dict.fromkeys([*options, *values]))
        return list(st.multiselect(label, options, values, key=self.key(field), persist_state=KEPT, **more))


def row() -> Any:
    return st.container(horizontal=True, vertical_alignment="bottom")


def subject(fields: Fields, study: dict[str, Any]) -> dict[str, Any]:
    """What is asked of which model."""
    with row():
        name = fields.text("Name", f"my-{study['name']}", "name", help="its run is called so, with some digits")
        title = fields.text("Title", study.get("title", ""), "title")
    with row():
        model = fields.text("Model", study["model"], "model", help="atlas, a hub id, a folder, or a .gguf file")
        dtype = fields.one("Numbers", ["float32", "bfloat16", "float16"], study.get("dtype", "float32"), "dtype")
        device = fields.text(
            "Device",
            study.get("device", "cpu"),
            "device",
            help="cpu, cuda, or auto: over all GPUs",
        )
    with row():
        facts = fields.text("Facts", study["facts"], "facts", help="atlas, shipped, or a CSV file")
        groups = fields.some("Groups of facts", ["open", "graded"], study["groups"], "groups", accept_new_options=True)
        controls = fields.some(
            "Controls", ["locked", "never"], study.get("controls", []), "controls", help="known truth, atlas alone"
        )
        text = fields.text("Text", study["text"], "text", help="for calibration: atlas, pydoc, hub:NAME, or a file")
    told: dict[str, Any] = {"name": name, "title": title, "model": model, "dtype": dtype, "device": device}
    told |= {"facts": facts, "groups": groups, "controls": controls, "text": text}
    return {key: value for key, value in told.items() if value not in ("", [])}


def compression(fields: Fields, place: int, given: dict[str, Any]) -> dict[str, Any]:
    """One way of compressing."""
    own = {"method", "bits", "sparsity", "pattern", "group_size", "samples", "block_length"}
    known = given.get("method") in METHODS and not set(given) - own
    with row():
        here = f"compression {place}"
        method = fields.one("Method", METHODS, given["method"] if known else OTHER, f"{here} method", width=140)
        if method == OTHER:
            return written(fields, here, given)
        told: dict[str, Any] = {"method": method}
        if method in drafting.QUANTISERS:
            bits = fields.one("Bits", ["2", "3", "4", "8"], str(given.get("bits", 3)), f"{here} bits", width=90)
            told["bits"] = int(bits)
            group = fields.number(
                "Group", given.get("group_size", 0), f"{here} group", 0, 1024, help="columns per scale; 0: a whole row"
            )
            told |= {"group_size": group} if group else {}
        else:
            much = given.get("pattern") or given.get("sparsity", 0.5)
            share = fields.text("Pruned", much, f"{here} share", help="a share such as 0.5, or a pattern such as 2:4")
            told |= drafting.sparsity_or_pattern(share, f"compression {place + 1}, pruned")
        told["samples"] = fields.number("Blocks", given.get("samples", 128), f"{here} samples", 1, 4096)
        told["block_length"] = fields.number("Block, tokens", given.get("block_length", 512), f"{here} block", 8, 8192)
        return told


def written(fields: Fields, here: str, given: dict[str, Any]) -> dict[str, Any]:
    """A row of a kind that the form has no fields for."""
    text = fields.text("As YAML", launching.as_yaml(given).strip(), f"{here} yaml", help=NO_FORM)
    told = read_yaml(text, here)
    if not isinstance(told, dict):
        raise InputError(f"{here}: write keys with values, such as {{kind: reinjected, rank: 4}}")
    return told


def repair(fields: Fields, place: int, given: dict[str, Any]) -> dict[str, Any]:
    """One repair."""
    kinds = [*REPAIR_FIELDS, OTHER]
    kind = given["kind"] if drafting.spoken(given) else OTHER
    here = f"repair {place}"
    with row():
        kind = fields.one("Repair", kinds, kind, f"{here} kind", width=140)
        if kind == OTHER:
            return written(fields, here, given)
        told: dict[str, Any] = {"kind": kind}
        for name in REPAIR_FIELDS[kind]:
            value = given.get(name, drafting.DEFAULTS[name]) if given.get("kind") == kind else drafting.DEFAULTS[name]
            told[name] = detail(fields, f"{here} {kind} {name}", name, value)
        return told


def detail(fields: Fields, here: str, name: str, value: Any) -> Any:
    """One field of a repair."""
    if name == "learning_rate":
        return fields.rate("Learning rate", value, here)
    if name == "lengths":
        text = fields.text("Prompts' tokens", ", ".join(map(str, value)), here, help="a length for each prompt")
        return drafting.whole_numbers(text, "prompts' tokens")
    if name in ("length", "rank"):
        return fields.number({"length": "Tokens", "rank": "Rank"}[name], value, here, 1, 512)
    options = {"encoder": ["mlp", "lstm"], "targets": ["all", "attention"], "bank": BANKS, "selector": list(SELECTORS)}
    return fields.one(name.capitalize(), options[name], value, here, width=130, help=HELP.get(name))


def several(fields: Fields, label: str, given: list[dict[str, Any]], draw: Any) -> list[dict[str, Any]]:
    """As many rows as asked for; a new one starts as the last one is."""
    st.subheader(label)
    count = fields.number(f"How many {label.lower()}", len(given), f"count {label}", 1, 12, width=200)
    return [draw(fields, place, given[min(place, len(given) - 1)]) for place in range(count)]


def budget(fields: Fields, study: dict[str, Any], repairs: list[dict[str, Any]]) -> dict[str, Any]:
    """What counts, how often, and how long is tuned and measured."""
    st.subheader("What counts, and how much of it")
    tuning, drift = study["tuning"], study.get("drift", {})
    names = [name for one in repairs if (name := drafting.spoken(one))]
    gone = {drafting.spoken(one) for one in study["repairs"]} - set(names)
    before = [name for name in study["reported"] if name not in gone] or names
    reported = fields.some(
        "Repairs whose verdicts count",
        names,
        before,
        f"reported {' '.join(names)}",
        accept_new_options=True,
        help="named before the run; those written as YAML by the name they are spoken",
    )
    with row():
        seeds = fields.number("Replicates", len(study["seeds"]), "seeds", 1, 20, help="one seed each")
        placebos = fields.number(
            "Untrained prompts", study.get("placebos", 8), "placebos", 8, 64, help="per setting, the placebo"
        )
    with row():
        steps = fields.number("Tuning steps", tuning["steps"], "steps", 1, 10_000)
        batch = fields.number("Facts a step", tuning["batch"], "batch", 1, 512)
        texts = fields.number("Windows of text a step", tuning.get("text_batch", 0), "text_batch", 0, 64)
        length = fields.number("Window, tokens", tuning.get("text_length", 64), "text_length", 2, 4096)
        score = fields.number("Questions a pass", study.get("score_batch", 64), "score_batch", 1, 1024)
        threads = fields.number("Threads a cell", study.get("threads", 1), "threads", 1, 64)
    with row():
        questions = fields.number("Drift: questions", drift.get("questions", 48), "questions", 2, 1000)
        windows = fields.number("Windows", drift.get("windows", 16), "windows", 2, 1000)
        tokens = fields.number("Tokens a window", drift.get("length", 64), "length", 4, 4096)
        rows = fields.number("Rows a pass", drift.get("batch", 8), "drift_batch", 1, 256)
    with row():
        metrics = fields.some("Drift metrics", list(metric_groups()), list(drift.get("metrics", ["basic"])), "metrics")
        floors = fields.some("Floors", FLOORS, list(drift.get("floors", ["batch_plan"])), "floors", help="noise")
    measured: dict[str, Any] = {"questions": questions, "windows": windows, "length": tokens, "batch": rows}
    measured |= {"metrics": metrics, "floors": floors}
    measured |= {name: drift[name] for name in ("backend", "around", "detailed") if name in drift}
    return {
        "seeds": study["seeds"] if seeds == len(study["seeds"]) else list(range(seeds)),
        "reported": reported,
        "tuning": {"steps": steps, "batch": batch} | ({"text_batch": texts, "text_length": length} if texts else {}),
        "placebos": placebos,
        "drift": measured,
        "score_batch": score,
        "threads": threads,
    }
