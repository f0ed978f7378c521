"""The figures of two runs side by side: did the same variant come out alike, and did its layers drift alike?"""

import pandas as pd

from analysis.figures.figure import Figure, averaged, chosen
from analysis.literal import for_plotly
from analysis.look import (
    METRICS,
    NO_REPAIR,
    SITES,
    colour_of,
    counts_of,
    dashes_of,
    dress,
    filled,
    label_bottom,
    marker,
    panels_of,
    places_axis,
    reading_words,
    reference_words,
    rows_of,
    symbols_of,
)
from analysis.marks import paired_marks

RUNS = ("first", "second")


def of_both(recoveries: tuple[pd.DataFrame, pd.DataFrame], scope: str, group: str, reading: str) -> pd.DataFrame:
    """Accuracy of the variants that both runs have, on subjects no repair read; column `run` is first or second."""
    keep = {"scope": scope, "group": group, "reading": reading, "measure": "accuracy", "split": "test"}
    first, second = (chosen(recovery, **keep) for recovery in recoveries)
    return _shared(first, second)


def drift_of_both(
    drifts: tuple[pd.DataFrame, pd.DataFrame], variants: tuple[pd.DataFrame, pd.DataFrame], **measured: str
) -> pd.DataFrame:
    """Drift by layer of the variants that both runs measured so; column `run` is first or second.

    `measured` names metric, site, group and reference; `variants` are each run's, of one scope.
    """
    first, second = (
        averaged(chosen(drift, **measured), own, ["layer"]) for drift, own in zip(drifts, variants, strict=True)
    )
    return _shared(first, second)


def _shared(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    shared = set(first["variant"]) & set(second["variant"])
    both = pd.concat([one.assign(run=run) for run, one in zip(RUNS, (first, second), strict=True)])
    return both[both["variant"].isin(shared)].reset_index(drop=True)


def compare_figure(both: pd.DataFrame, runs: tuple[str, str], group: str, reading: str) -> Figure:
    """Did the same variant come out alike in two runs?

    Accuracy with 95 % intervals; the first run's marks are open and above the second's, which are filled; a panel per
    compression. `both` is `of_both`.
    """
    figure, panels = paired_marks(both, "run", dict(zip(RUNS, runs, strict=True)))
    dress(
        figure,
        title=f"The same variants in both runs, group {group}, {reading_words(reading)}",
        subtitle="accuracy; 95 % intervals over replicates and subjects of each run; "
        f"n = up to {int(both['entities'].max())} test subjects, {int(both['replicates'].max())} replicates",
        height=200 + (50 + 42 * both["repair"].nunique()) * rows_of(panels),
    )
    return Figure(figure, both)


def compare_drift_figure(
    both: pd.DataFrame, runs: tuple[str, str], *, metric: str, site: str, group: str, reference: str
) -> Figure:
    """Did the layers of the same variant drift alike in two runs?

    A line per variant and run, its mean over replicates, in a panel per compression; marks of the first run are open
    and large, those of the second filled and small, so that layers alike show as a dot in a ring. `both` is
    `drift_of_both`.
    """
    figure, panels = panels_of(both["compression"])
    symbols, dashes = symbols_of(both["repair"]), dashes_of(both["compression"])
    words = dict(zip(RUNS, runs, strict=True))
    named: set[str] = set()
    for (variant, compression, repair, run), rows in both.groupby(
        ["variant", "compression", "repair", "run"], sort=False
    ):
        first = run == RUNS[0]
        figure.add_scatter(
            x=rows["layer"],
            y=rows["value"],
            mode="lines+markers",
            line={"color": colour_of(repair), "width": 1 if first else 2, "dash": dashes[compression]},
            marker=marker(repair, filled(symbols[repair], not first), 12 if first else 6),
            name=for_plotly(repair or NO_REPAIR),
            legendgroup=repair or NO_REPAIR,
            showlegend=not first and repair not in named,
            customdata=rows[["lower", "upper", "replicates"]],
            hovertemplate=f"{for_plotly(f'{variant}, {words[run]}')}, layer %{{x}}<br>%{{y:.3g}} "
            "[%{customdata[0]:.3g}, %{customdata[1]:.3g}], %{customdata[2]} replicates<extra></extra>",
            **panels[compression],
        )
        named |= set() if first else {repair}
    for said, symbol, size in zip(runs, ("circle-open", "circle"), (12, 6), strict=True):
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker("", symbol, size), name=for_plotly(said))
    named_metric, unit = METRICS.get(metric, (metric, ""))
    label_bottom(figure, "layer")
    figure.update_xaxes(places_axis(both["layer"]))
    figure.update_yaxes(rangemode="tozero", tickformat=".2~g")
    figure.update_yaxes(title=f"{named_metric} ({unit})", col=1)
    dress(
        figure,
        title=f"The same variants in both runs: drift from {reference_words(reference)}, {SITES.get(site, site)}",
        subtitle=f"{counts_of(both)} of {group}; means over replicates; intervals over sequences in the CSV",
        height=170 + 300 * rows_of(panels),
    )
    return Figure(figure, both)
