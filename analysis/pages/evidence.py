"""Evidence: each comparison, what H0 and H1 say, what came out, and the same test where the truth is known."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from analysis import reading, saying
from analysis.figures.account import comparisons_figure
from analysis.figures.evidence import calibration_figure
from analysis.figures.figure import Figure
from analysis.literal import for_page
from analysis.pages.drawing import drawn, show, take, without_minus_zero
from analysis.pages.picking import pick, unique
from analysis.pages.shared import View, go_to, panel, view
from analysis.report_markdown import TERMS
from data.errors import InputError

NUMBERS = ("estimate", "lower", "upper", "p", "p_corrected")


def chosen_of(now: View, table: pd.DataFrame) -> pd.DataFrame:
    """The predictions that the shared choices keep."""
    kept = table[table["scope"] == now.scope]
    if now.compressions:
        kept = kept[kept["compression"].isin(now.compressions)]
    if now.repairs:
        kept = kept[kept["repair"].isin(now.repairs)]
    return kept


@drawn
def comparisons_chart(now: View, settings: tuple[str, ...]) -> Figure:
    return comparisons_figure(saying.prediction_table(every(now)), list(settings))


@drawn
def calibration_chart(run: Path, stamp: float) -> Figure:
    """One a run: symbols of repairs are numbered by the run's."""
    found = calibration_of(stamp)
    return calibration_figure(found.summary, found.organisms)


@panel
def show_setting(now: View, table: pd.DataFrame) -> None:
    """One setting's comparisons, and beside them the controls under the same repair."""
    own = chosen_of(now, table)
    if own.empty:
        st.caption("None of the settings chosen at the side has a verdict: verdicts are given for reported repairs.")
        return
    setting = pick("Setting", unique(own["setting"]), "setting", help="a compression with a repair")
    rows = own[own["setting"] == setting]
    one = next(each for each in every(now) if reading.place_of(each) == setting)
    with st.container(border=True):
        st.markdown(f"**{for_page(setting)}, {one['decision']}**: {for_page(reading.sentence_of(one))}.")
    beside = table[(table["repair"] == rows["repair"].iloc[0]) & (table["scope"] != "main")]
    show(
        comparisons_chart(now, (setting, *(name for name in unique(beside["setting"]) if name != setting))),
        "comparisons",
        "Left: the setting. Right: the same repair on models whose truth is known, locked (displaced, so every mark "
        "should lie right of zero) and never (nothing there, so none should). Displaced is said only where every "
        "comparison rejects H0 after Holm's correction over settings.",
    )
    shown = rows[["comparison", *NUMBERS, "n", "supports", "H0", "H1"]]
    st.dataframe(
        with_p_words(shown),
        hide_index=True,
        key="hypotheses",
        height="content",
        column_config=columns(),
    )
    show_beside(one)
    with st.expander("What the words and letters mean", key="terms", bind="query-params"):
        st.markdown(TERMS)
    repair, compression = rows["repair"].iloc[0], rows["compression"].iloc[0]
    with st.container(horizontal=True):
        here: dict[str, str | list[str]] = {"compression": [compression], "repair": [repair]}
        go_to("facts", "Which facts these are", **here, **group_kept(now, compression))
        go_to("drift", "Where it parts from dense", **here)


def group_kept(now: View, compression: str) -> dict[str, str]:
    """The group of the question that was kept token by token of a compressed copy, as a choice; none without one."""
    variants = now.of_all_seeds()
    own = variants.loc[variants["compression"] == compression, "variant_id"]
    with suppress(InputError):  # what is wrong with the table is said where it is shown
        kept = now.table("examples", "variant_id", "group")
        groups = unique(kept.loc[kept["variant_id"].isin(own), "group"])
        return {"group": groups[0]} if groups else {}
    return {}


@panel
def show_beside(setting: dict[str, Any]) -> None:
    """The setting's predictions that decide nothing, measured or with the reason why not."""
    table = beside_of(setting)
    st.markdown("**Beside what decides**")
    st.dataframe(
        with_p_words(table),
        hide_index=True,
        key="beside",
        height="content",
        placeholder="",
        column_config=columns()
        | {
            "estimate": st.column_config.NumberColumn("estimate", format="%+.2f"),
            "p": st.column_config.TextColumn("p", help="one-sided, this prediction alone"),
            "n": st.column_config.NumberColumn("n", help="subjects; questions; replicates where drift is compared"),
            "said": st.column_config.TextColumn("as measured, or why not", width="large"),
        },
    )
    st.caption("Each p is of its prediction alone and not corrected: none of them decides anything.")
    take(table, "beside")


def beside_of(setting: dict[str, Any]) -> pd.DataFrame:
    """A row per prediction of a setting that decides nothing."""
    names = ["name", "about", "estimate", "lower", "upper", "p", "n", "supports", "said"]
    rows = [one | {"said": said_of(one)} for one in setting["further_predictions"]]
    table = pd.DataFrame(rows, columns=names)
    return table.astype(dict.fromkeys(("estimate", "lower", "upper", "p", "n"), float))


def said_of(prediction: dict[str, Any]) -> str:
    """What was measured and what limits it, or why it was not: the sentence without figures that have columns."""
    before, measured, after = prediction["sentence"].partition(f"({prediction['statistic']})")
    return f"{prediction['statistic']}{after}" if measured else before.removeprefix(f"{prediction['name']}: ")


def with_p_words(table: pd.DataFrame) -> pd.DataFrame:
    """Every p as it is written elsewhere, nothing where there is none."""
    told = {
        name: [reading.p_words(p) if pd.notna(p) else "" for p in table[name]]
        for name in ("p", "p_corrected")
        if name in table
    }
    return without_minus_zero(table.assign(**told))


def columns() -> dict[str, Any]:
    """How the table's columns are headed and rounded."""
    number = st.column_config.NumberColumn
    return {
        "estimate": number("bits per fact", format="%+.2f"),
        "lower": number("from", format="%+.2f", help="95 % interval"),
        "upper": number("to", format="%+.2f", help="95 % interval"),
        "p": st.column_config.TextColumn("p", help="one-sided, this comparison alone"),
        "p_corrected": st.column_config.TextColumn("p, Holm", help="the setting's largest p, corrected over settings"),
        "n": number("n", help="test subjects"),
        "H0": st.column_config.TextColumn(width="large"),
        "H1": st.column_config.TextColumn(width="large"),
    }


def every(now: View) -> list[dict]:
    """All settings, controls last."""
    verdict = now.verdict()
    return [*verdict["settings"], *verdict["controls"]]


@panel
def show_all(now: View, table: pd.DataFrame) -> None:
    st.subheader("Every comparison of this run")
    kept = table[["scope", "setting", "decision", "comparison", *NUMBERS, "n", "supports"]]
    st.dataframe(with_p_words(kept), hide_index=True, key="predictions", height=420, column_config=columns())
    take(table, "predictions")


@panel
def show_put_back(now: View) -> None:
    """What was computed from the dense weights: a bound, no evidence."""
    put_back = now.verdict()["reinjections"]
    if put_back:
        st.subheader("Put back from the dense weights")
        st.caption("Computed from the dense model, so it says nothing of what was still there: a bound.")
        st.dataframe(pd.json_normalize(put_back), hide_index=True, key="reinjections", height="content")


def listed(sentences: list[str]) -> str:
    """A list with a point each."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


@st.cache_data(max_entries=1, show_spinner=False)
def calibration_of(stamp: float) -> reading.Calibration:
    """The committed calibration, read again when it is written anew."""
    return reading.read_calibration()


@panel
def show_calibration(now: View) -> None:
    """How often the same pipeline is wrong where the truth is known: of the product, not of this run."""
    st.subheader("How far the test itself can be trusted")
    recipe = reading.CALIBRATION / "recipe.json"
    stamp = recipe.stat().st_mtime if recipe.exists() else 0.0
    found = calibration_of(stamp)
    st.markdown(listed(found.sentences[:2]))
    with st.expander("Power and coverage at every share"):
        st.markdown(listed(found.sentences[2:]))
    show(
        calibration_chart(now.run, stamp),
        "calibration_chart",
        "Independent models trained so that the truth is known, each through the whole pipeline; the same for every "
        "run. Left: hard nulls should lie at zero, the rest far to the right. Right: a mark on the dotted line gave "
        "back all that the key opens; below it, less than is there, so that a share is a lower bound.",
    )


@panel
def show_page(now: View) -> None:
    table = saying.prediction_table(every(now))
    if table.empty:
        st.caption("This run's verdict holds no comparison: name repairs under `reported` in its study and run it.")
        return
    show_setting(now, table)
    show_all(now, table)
    show_put_back(now)
    show_calibration(now)


now = view()
st.title("Does it come back beyond every comparison?")
show_page(now)
