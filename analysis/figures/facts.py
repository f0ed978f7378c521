"""Figures of single questions and choices: what every variant thinks of one answer, and which prompts were kept."""

import pandas as pd
from plotly.subplots import make_subplots

from analysis.figures.figure import Figure
from analysis.literal import for_plotly
from analysis.look import GREY, NO_REPAIR, colour_of, dress, filled, marker, symbols_of
from analysis.marks import name_rows, whiskers

CHOICE = "#009E73"


def answer_figure(told: pd.DataFrame, answer: str) -> Figure:
    """How probable is the right answer to every variant?

    Mean log-probability over replicates with a line from the lowest to the highest of them; filled where most
    replicates answer right.
    """
    names = list(told["variant"])[::-1]
    symbols = symbols_of(told["repair"])
    figure = make_subplots(rows=1, cols=1)
    shown: set[str] = set()
    for _, row in told.iterrows():
        repair, colour = row["repair"], colour_of(row["repair"])
        symbol = filled(symbols[repair], row["right"] > 0.5)
        figure.add_scatter(
            x=[row["log_prob"]],
            y=[names.index(row["variant"])],
            error_x=whiskers([row["log_prob"]], [row["lowest"]], [row["highest"]], colour),
            mode="markers",
            marker=marker(repair, symbol, 10),
            name=for_plotly(repair or NO_REPAIR),
            legendgroup=repair,
            showlegend=repair not in shown,
            hovertemplate=for_plotly(f"{row['variant']}: {row['answers']}") + "<br>%{x:.2f} nats<extra></extra>",
        )
        shown.add(repair)
    figure.update_xaxes(title=f"log-probability of '{for_plotly(answer)}' (nats)", tickformat=".2~g", zeroline=False)
    name_rows(figure, names)
    dress(
        figure,
        title="How probable the right answer is",
        subtitle=f"mean over replicates, n = {_ends(told['replicates'])}; lines from the lowest to the highest; "
        "filled: most of them answer right",
        height=210 + 21 * max(4, len(names)),
    )
    return Figure(figure, told)


def _ends(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def usage_figure(selectors: pd.DataFrame) -> Figure:
    """Does a selector spread its choices over the bank, or keep one prompt for everything?

    Share of items for which each prompt was kept, a row per selector. `selectors` is of one variant, group and measure.
    """
    rows = [
        {"selector": one["selector"], "prompt": place, "share": share, "items": one["items"]}
        for _, one in selectors.iterrows()
        if one["usage"] is not None
        for place, share in enumerate(one["usage"])
    ]
    data = pd.DataFrame(rows, columns=["selector", "prompt", "share", "items"])
    grid = data.pivot(index="selector", columns="prompt", values="share")
    grid = grid.loc[list(dict.fromkeys(data["selector"]))[::-1]]
    figure = make_subplots(rows=1, cols=1)
    figure.add_heatmap(
        z=grid.to_numpy(),
        x=[f"prompt {place + 1}" for place in grid.columns],
        y=[for_plotly(name) for name in grid.index],
        zmin=0,
        zmax=1,
        colorscale="Cividis",
        xgap=2,
        ygap=2,
        text=[[f"{share:.2f}" for share in row] for row in grid.to_numpy()],
        texttemplate="%{text}",
        colorbar={"title": {"text": "share"}, "thickness": 12},
        hovertemplate="%{y}, %{x}: %{z:.2f}<extra></extra>",
    )
    figure.update_yaxes(type="category")
    items = int(data["items"].max()) if len(data) else 0
    dress(
        figure,
        title="How often each prompt was kept",
        subtitle=f"share of n = {items} test questions",
        height=190 + 24 * max(3, len(grid)),
    )
    return Figure(figure, data)


def choice_figure(scores: list[float], log_probs: list[float], chosen: int) -> Figure:
    """For one question: what the selector scored, and what each prompt would have said."""
    data = pd.DataFrame({"prompt": range(1, len(log_probs) + 1), "score": scores, "log_prob": log_probs})
    figure = make_subplots(
        rows=1,
        cols=2,
        subplot_titles=["what the<br>selector saw", "what each prompt<br>would have answered"],
        horizontal_spacing=0.25,
    )
    hues = [CHOICE if place == chosen else GREY for place in range(len(data))]
    for column, name in ((1, "score"), (2, "log_prob")):
        figure.add_bar(
            x=data["prompt"],
            y=data[name],
            marker={"color": hues},
            showlegend=False,
            hovertemplate="prompt %{x}: %{y:.3g}<extra></extra>",
            row=1,
            col=column,
        )
    figure.update_xaxes(title="prompt of the bank", dtick=1)
    figure.update_yaxes(title="score", col=1)
    figure.update_yaxes(title="log-probability (nats)", col=2)
    dress(
        figure,
        title="One question: scores, and what they were worth",
        subtitle="green: the prompt that was kept; n = 1 question",
        height=360,
    )
    return Figure(figure, data)


def scores_figure(scores: tuple[float, ...], kept: int) -> Figure:
    """For one typed text: what the selector gave each prompt of the bank, and which was kept."""
    data = pd.DataFrame({"prompt": range(1, len(scores) + 1), "score": scores})
    figure = make_subplots(rows=1, cols=1)
    figure.add_bar(
        x=data["prompt"],
        y=data["score"],
        marker={"color": [CHOICE if place == kept else GREY for place in range(len(data))]},
        showlegend=False,
        hovertemplate="prompt %{x}: %{y:.3g}<extra></extra>",
    )
    figure.update_xaxes(title="prompt of the bank", dtick=1)
    figure.update_yaxes(title="score", tickformat=".2~g")
    dress(figure, title=f"Kept: prompt {kept + 1}", subtitle="green: the prompt that was kept; n = 1 text", height=330)
    return Figure(figure, data)
