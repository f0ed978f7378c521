"""Compare: two runs side by side, variant by variant and decision by decision."""

from typing import Any

import pandas as pd
import streamlit as st

from analysis import reading
from analysis.figures.compare import compare_drift_figure, compare_figure, drift_of_both, of_both
from analysis.literal import for_page
from analysis.pages.drawing import literal_table, show, take, without_minus_zero
from analysis.pages.picking import pick, pick_measurement
from analysis.pages.shared import View, group_of, other_view, panel, readable, runs_root, view
from analysis.selecting import at_home
from data.errors import InputError

UNITS = {"accuracy": "accuracy, share right", "bits": "bits per fact"}


def joined(one: pd.DataFrame, other: pd.DataFrame, names: tuple[str, str]) -> pd.DataFrame:
    """The same variant, group and measure in two runs, on test subjects, and how far apart."""
    on = ["variant", "group", "measure"]
    columns = [*on, "value", "lower", "upper", "entities", "replicates"]
    both = one[columns].merge(other[columns], on=on, how="outer", suffixes=("_1", "_2"), sort=False)
    figures = {
        name: [
            reading.compact(value, lower, upper) if pd.notna(value) else ""
            for value, lower, upper in both[[f"value_{place}", f"lower_{place}", f"upper_{place}"]].to_numpy()
        ]
        for place, name in enumerate(names, 1)
    }
    apart = (both["lower_1"] > both["upper_2"]) | (both["lower_2"] > both["upper_1"])
    counts = {
        f"n in {place}": [
            f"{subjects:.0f} x {replicates:.0f}" if pd.notna(subjects) else ""
            for subjects, replicates in both[[f"entities_{place}", f"replicates_{place}"]].to_numpy(dtype=float)
        ]
        for place in (1, 2)
    }
    return both[on].assign(
        measure=both["measure"].map(lambda name: UNITS.get(name, name)),
        **figures,
        difference=both["value_2"] - both["value_1"],
        intervals=apart.map({True: "apart", False: "overlap"}).where(both["value_1"].notna() & both["value_2"].notna()),
        **counts,
    )


def decisions(verdict: dict[str, Any]) -> pd.DataFrame:
    """A row per setting: its decision."""
    every = [*verdict["settings"], *verdict["controls"]]
    return pd.DataFrame(
        [{"setting": reading.place_of(one), "decision": one["decision"]} for one in every],
        columns=["setting", "decision"],
    )


def differences(one: dict[str, Any], other: dict[str, Any], names: tuple[str, str]) -> pd.DataFrame:
    """A row per field of the study that is not the same: of two lists, what each has alone."""
    first, second = leaves(one), leaves(other)
    rows = []
    for field in sorted(first.keys() | second.keys()):
        mine, theirs = (spoken(each) for each in (first.get(field), second.get(field)))
        if mine != theirs:
            alone = [", ".join(each for each in a if each not in b) for a, b in ((mine, theirs), (theirs, mine))]
            rows.append({"field": field, names[0]: alone[0], names[1]: alone[1]})
    return pd.DataFrame(rows, columns=["field", *names])


def leaves(block: dict[str, Any], before: str = "") -> dict[str, Any]:
    """The fields of a study by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in block.items():
        found |= leaves(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found


def spoken(value: Any) -> list[str]:
    """A value as a study's file has it, one by one where there are several, without fields that are not given."""
    if isinstance(value, list):
        return [word for one in value for word in spoken(one)]
    if isinstance(value, dict):
        given = (f"{name}: {', '.join(spoken(one))}" for name, one in value.items() if one is not None)
        return [f"{{{', '.join(given)}}}"]
    return [] if value is None else [str(value)]


@panel
def show_page(now: View) -> None:
    names = [name for name in reading.list_runs(runs_root()) if name != now.run.name]
    if not names:
        raise InputError(
            "there is one finished run only: a second one with a change in it makes a comparison, such as "
            "`python -m analysis run atlas --set 'seeds=[3, 4, 5]'`"
        )
    other = other_view(now, pick("Beside", names, "beside", help="another finished run"))
    with readable(now.run.name, other.run.name):
        show_both(now, other)


def show_both(now: View, other: View) -> None:
    """Decisions, figures and studies of two runs."""
    titles = (f"1: {now.run.name}", f"2: {other.run.name}")
    st.subheader("Decisions")
    both = decisions(now.verdict()).merge(decisions(other.verdict()), on="setting", how="outer", suffixes=titles)
    both.columns = ["setting", *titles]
    # What both have stands first: of two studies that differ much, the rest is long.
    both = both.sort_values("setting", key=lambda names: both.loc[names.index].isna().any(axis=1), kind="stable")
    st.dataframe(
        both.fillna("not in this run"), hide_index=True, height=min(38 + 35 * len(both), 460), key="decisions_table"
    )
    st.subheader("Test subjects")
    show_marks(now, other, titles)
    parts = [
        table[(table["reading"] == now.reading) & (table["split"] == "test") & (table["scope"] == now.scope)]
        for table in (now.table("recovery"), other.table("recovery"))
    ]
    table = joined(parts[0], parts[1], titles)
    st.dataframe(
        without_minus_zero(table),
        hide_index=True,
        height=460,
        key="compare_table",
        column_config={"difference": st.column_config.NumberColumn("2 less 1", format="%+.2f")}
        | {f"n in {place}": st.column_config.TextColumn(help="test subjects x replicates") for place in (1, 2)},
    )
    take(table, "compare")
    st.caption(
        "95 % intervals over replicates and subjects of each run by itself; n: test subjects x replicates. Intervals "
        "that lie apart differ; those that overlap may differ too: no paired test spans two runs. Empty: the run does "
        f"not have this variant. Of the choices at the side, scope {for_page(now.scope)} and reading {now.reading} "
        "hold here; compressions, repairs and seed narrow the layers below alone."
    )
    st.subheader("Layer by layer")
    show_layers(now, other, titles)
    shown = differences(now.manifest()["study"], other.manifest()["study"], titles)
    st.subheader("What the studies differ in")
    if shown.empty:
        st.caption("Nothing: the same study, by the same or by newer code.")
        return
    st.table(literal_table(shown.set_index("field")))
    st.caption("Of lists, what the other run has not. Empty: nothing else, or not given.")


@panel
def show_marks(now: View, other: View, titles: tuple[str, str]) -> None:
    group = group_of(now)
    own = at_home(now.table("variants"))["variant"]
    first, second = (table[table["variant"].isin(own)] for table in (now.table("recovery"), other.table("recovery")))
    both = of_both((first, second), now.scope, group, now.reading)
    if both.empty:
        st.caption(f"No variant of scope {for_page(now.scope)} and group {for_page(group)} is in both runs.")
        return
    show(
        compare_figure(both, titles, group, now.reading),
        "compare_chart",
        "Open marks are the first run's, filled ones the second's: where the two bars of a row lie apart, the runs "
        "differ by more than their own replicates and subjects do.",
    )


@st.fragment
@panel
def show_layers(now: View, other: View, titles: tuple[str, str]) -> None:
    views = (now, other)
    variants = tuple(one.variants() for one in views)
    first, second = (one.rows("drift") for one in views)
    first = first[first["variant_id"].isin(variants[0]["variant_id"])]
    second = second[second["variant_id"].isin(variants[1]["variant_id"])]
    measured = ["metric", "site", "group", "reference"]
    offered = first[measured].drop_duplicates().merge(second[measured].drop_duplicates())
    if offered.empty:
        st.caption(f"No drift of a variant of scope {for_page(now.scope)} was measured alike in both runs.")
        return
    with st.container(horizontal=True):
        told = dict(zip(measured, pick_measurement(offered), strict=True))
    both = drift_of_both((first, second), variants, **told)
    if both.empty:
        st.caption("None of the variants chosen at the side is in both runs.")
        return
    show(
        compare_drift_figure(both, titles, **told),
        "compare_drift_chart",
        "Rings are the first run's, dots the second's: a dot in its ring is a layer that drifted alike. Runs of other "
        "texts, models or seeds differ for those reasons too: the list below says in what the studies differ.",
    )


now = view()
st.title("Two runs side by side")
show_page(now)
