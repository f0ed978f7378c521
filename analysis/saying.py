"""What a run says in five plain sentences, and what each comparison claims: words made from verdict.json alone."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.reading import compact, p_words, place_of

QUANTITIES = {
    "expressed": "still answered",
    "redirected": "returned",
    "relearned": "learned anew",
    "unreached": "not reached",
}
"""The four-way account, in the order in which it is read."""
BEYOND = "test facts come back beyond "
REPAIR_AGAINST = {
    "recalibration": "answers re-weighted by what tune subjects' answers teach, the model untouched",
    "untrained prompts": "an untrained prompt of the same length",
    "tuning with answers masked": "a prompt tuned on the same text without its answers",
    "tuning with answers shuffled": "a prompt tuned on answers dealt to the wrong subjects",
    "the dense arm": "what the same repair gives to the undamaged model",
}
Verdict = dict[str, Any]


def hypotheses(prediction: dict[str, Any]) -> tuple[str, str]:
    """What H0 and H1 say of one prediction, in a sentence each."""
    name = str(prediction["name"])
    if name.startswith(BEYOND):
        arm = name.removeprefix(BEYOND)
        other = REPAIR_AGAINST.get(arm, arm)
        return (
            f"on subjects it never read, the repair returns no more than {other}",
            f"on subjects it never read, the repair returns more than {other}",
        )
    return f"not so: {name}", name


def account_table(settings: Sequence[Verdict]) -> pd.DataFrame:
    """The four-way account: a row per setting and quantity, in bits per fact with intervals."""
    rows = [
        {"setting": place_of(one), "scope": one["scope"], "compression": one["compression"], "repair": one["repair"]}
        | {"decision": one["decision"], "quantity": name, "words": words}
        | {key: found[other] for key, other in (("value", "estimate"), ("lower", "lower"), ("upper", "upper"))}
        | {"subjects": max((each["n"] for each in one["predictions"]), default=0)}
        for one in settings
        for name, words in QUANTITIES.items()
        if (found := one[f"{name}_bits"])
    ]
    columns = ["setting", "scope", "compression", "repair", "decision", "quantity", "words"]
    return pd.DataFrame(rows, columns=[*columns, "value", "lower", "upper", "subjects"])


def prediction_table(settings: Sequence[Verdict]) -> pd.DataFrame:
    """Every prediction of every setting: what H0 and H1 say and what came out."""
    rows = []
    for one in settings:
        for prediction in one["predictions"]:
            null, other = hypotheses(prediction)
            rows.append(
                {"setting": place_of(one), "scope": one["scope"], "compression": one["compression"]}
                | {"repair": one["repair"], "decision": one["decision"]}
                | {"comparison": str(prediction["name"]).removeprefix(BEYOND), "H0": null, "H1": other}
                | {name: prediction[name] for name in ("statistic", "estimate", "lower", "upper", "p")}
                | {name: prediction[name] for name in ("p_corrected", "n", "supports", "sentence")}
            )
    return pd.DataFrame(rows)


def five_sentences(verdict: Verdict) -> list[str]:
    """What was damaged, what was decided, what came back, what was only learned, and whether the controls hold."""
    settings = verdict["settings"]
    if not settings:
        return ["This run compares no repair of a compressed model, so it decides nothing."]
    return [
        _damage(settings),
        _decisions(settings),
        _most_returned(settings),
        _most_relearned(settings),
        _controls(verdict["controls"]),
    ]


def _figure(quantity: dict[str, float]) -> str:
    return compact(quantity["estimate"], quantity["lower"], quantity["upper"])


def _damage(settings: Sequence[Verdict]) -> str:
    by_compression = {one["compression"]: one["expressed_bits"] for one in settings if one["expressed_bits"]}
    if not by_compression:
        return "What the compressed models still answer was not asked, or not beside every arm."
    left = "; ".join(f"{name} {_figure(found)}" for name, found in by_compression.items())
    return f"After compression, and before any repair, the model still answers, in bits per fact: {left}."


def _decisions(settings: Sequence[Verdict]) -> str:
    counts = Counter(one["decision"] for one in settings)
    told = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    return f"Of {len(settings)} settings, each a compression with a repair, the evidence calls {told}."


def _most_returned(settings: Sequence[Verdict]) -> str:
    found = [one for one in settings if one["redirected_bits"]]
    if not found:
        return "What came back beyond every comparison was not measured."
    best = max(found, key=lambda one: one["redirected_bits"]["estimate"])
    quantity = best["redirected_bits"]
    p = min((each["p_corrected"] for each in best["predictions"]), default=1.0)
    start = f"The most that came back on subjects no repair had read is {_figure(quantity)} bits per fact"
    end = f"beyond every comparison ({place_of(best)}; p {p_words(p)} after Holm)"
    if quantity["upper"] < 0:
        return f"{start} {end}: less than nothing, so some comparison without knowledge in it did better."
    if quantity["lower"] <= 0:
        return f"{start} {end}, which zero may explain."
    return f"{start} {end}."


def _most_relearned(settings: Sequence[Verdict]) -> str:
    found = [one for one in settings if one["relearned_bits"]]
    if not found:
        return "How much a repair learned of what it read was not measured."
    most = max(found, key=lambda one: one["relearned_bits"]["estimate"])
    return (
        f"The most that a repair gave only to subjects it had read is {_figure(most['relearned_bits'])} bits per fact "
        f"({place_of(most)}): that is learning anew, not recovery."
    )


def _controls(controls: Sequence[Verdict]) -> str:
    if not controls:
        return "No model of known truth was run beside it, so a null result here cannot be told from a blind test."
    parts = []
    for scope in dict.fromkeys(one["scope"] for one in controls):
        own = [one for one in controls if one["scope"] == scope]
        counts = Counter(one["decision"] for one in own)
        parts.append(f"{scope}: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()))
    return (
        "Where the truth is known by construction (locked: displaced; never: nothing there), the same test says "
        f"{'; '.join(parts)}."
    )


def claims_told(claims: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A row per claim of the paper: `claim`, `paper` (its figure) and `run` (what this run found, in a few words)."""
    rows = [
        {"claim": one["claim"], "paper": one["paper"], "run": _found(one["measured"]) or one["ours"]} for one in claims
    ]
    return pd.DataFrame(rows, columns=["claim", "paper", "run"])


def _found(measured: Sequence[dict[str, Any]]) -> str:
    """From where to where what was measured reaches, and how many of its intervals leave zero."""
    if not measured:
        return ""
    values = [one["value"] for one in measured]
    units = ", ".join(dict.fromkeys(one["unit"] for one in measured))
    ends = [f"{end:.3f}" if abs(end) < 10 else f"{end:.3g}" for end in (min(values), max(values))]
    span = ends[0] if len(measured) == 1 else f"{ends[0]} to {ends[1]} in {len(measured)} settings"
    bounded = [one for one in measured if one["lower"] is not None]
    if not bounded:
        return f"{units}: {span}"
    above, below = sum(one["lower"] > 0 for one in bounded), sum(one["upper"] < 0 for one in bounded)
    return f"{units}: {span}; interval above zero in {above}, below in {below}"
