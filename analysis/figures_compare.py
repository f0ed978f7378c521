"""The figure of two runs side by side: did the same variant come out alike?"""

import pandas as pd

from analysis.figures import Figure, chosen
from analysis.look import dress, reading_words, rows_of
from analysis.marks import paired_marks


def of_both(recoveries: tuple[pd.DataFrame, pd.DataFrame], scope: str, group: str, reading: str) -> pd.DataFrame:
    """Accuracy of the variants that both runs have, on subjects no repair read; column `run` is first or second."""
    keep = {"scope": scope, "group": group, "reading": reading, "measure": "accuracy", "split": "test"}
    first, second = (chosen(recovery, **keep) for recovery in recoveries)
    shared = set(first["variant"]) & set(second["variant"])
    both = pd.concat([first.assign(run="first"), second.assign(run="second")])
    return both[both["variant"].isin(shared)].reset_index(drop=True)


def compare_figure(both: pd.DataFrame, runs: tuple[str, str], group: str, reading: str) -> Figure:
    """Did the same variant come out alike in two runs?

    Accuracy with 95 % intervals; the first run's marks are open and above the second's, which are filled; a panel per
    compression. `both` is `of_both`.
    """
    figure, panels = paired_marks(both, "run", dict(zip(("first", "second"), runs, strict=True)))
    dress(
        figure,
        title=f"The same variants in both runs, group {group}, {reading_words(reading)}",
        subtitle="accuracy; 95 % intervals over replicates and subjects of each run; "
        f"n = up to {int(both['entities'].max())} test subjects, {int(both['replicates'].max())} replicates",
        height=200 + (50 + 42 * both["repair"].nunique()) * rows_of(panels),
    )
    return Figure(figure, both)
