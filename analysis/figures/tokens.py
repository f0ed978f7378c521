"""Figures of one text token by token: what attends to what at one head, and what every layer's lens says."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from analysis.figures.figure import Figure
from analysis.literal import for_plotly
from analysis.look import GREY, SEQUENTIAL, colour_of, dashes_of, dress, filled, marker, places_axis, symbols_of
from analysis.reading import Shown

LONGEST = 14
"""Characters of a token that are drawn on an axis."""
CHARACTERS_A_ROW, FEWEST_CHARACTERS = 72, 4
"""Characters that stand side by side in a narrow window; a cell with room for fewer is left without its word."""
WRITTEN = "written: the lens's first word; "
ON_TOP = 1.5
"""A mean rank over replicates below this is the first."""


def mass_on_prompt(shown: Shown, layer: int, head: int) -> float:
    """Share of a head's attention that goes to the prompt, a mean over the content's tokens."""
    rows = shown.attention[layer, head, shown.prompt :].astype(float)
    return float(rows[:, : shown.prompt].sum(axis=1).mean())


def tokens_table(shown: Mapping[str, Shown], layer: int, head: int) -> pd.DataFrame:
    """A row per variant, content token and token that it may attend to."""
    parts = []
    for variant, one in shown.items():
        for query in range(one.prompt, len(one.tokens)):
            keys = range(query + 1)
            parts += [
                {"variant": variant, "layer": layer, "head": head, "query": query, "key": key}
                | {"query_token": one.tokens[query], "key_token": one.tokens[key], "prompt": key < one.prompt}
                | {"attention": float(one.attention[layer, head, query, key])}
                for key in keys
            ]
    columns = ["variant", "layer", "head", "query", "key", "query_token", "key_token", "prompt", "attention"]
    return pd.DataFrame(parts, columns=columns)


def tokens_figure(shown: Mapping[str, Shown], layer: int, head: int, question: str) -> Figure:
    """To which tokens does each token of the content attend at one head, in variants side by side?

    Soft tokens stand first as P1 to Pn, with a line behind the last.
    """
    titles = [
        for_plotly(variant).replace(" + ", "<br>+ ")
        + (f"<br>on the prompt: {mass_on_prompt(one, layer, head):.2f}" if one.prompt else "<br>no prompt")
        for variant, one in shown.items()
    ]
    figure = make_subplots(
        rows=1,
        cols=len(shown),
        subplot_titles=titles,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        column_widths=[len(one.tokens) for one in shown.values()],  # cells of one width, so that tokens can be read
    )
    for place, one in enumerate(shown.values(), 1):
        content = len(one.tokens) - one.prompt
        grid = one.attention[layer, head, one.prompt :].astype(float)
        later = np.arange(len(one.tokens))[None] > np.arange(one.prompt, len(one.tokens))[:, None]
        words = [for_plotly(_short(token)) for token in one.tokens]
        queries = words[one.prompt :]
        figure.add_heatmap(
            z=np.where(later, np.nan, grid.round(4)),
            zmin=0,
            zmax=1,
            colorscale=SEQUENTIAL,
            showscale=place == len(shown),
            colorbar={"title": {"text": "share", "side": "top"}, "thickness": 12},
            xgap=1,
            ygap=1,
            customdata=[[(query, key) for key in words] for query in queries],
            hovertemplate="%{customdata[0]} attends to %{customdata[1]}: %{z:.2f}<extra></extra>",
            row=1,
            col=place,
        )
        figure.update_xaxes(tickvals=list(range(len(words))), ticktext=words, tickangle=-90, row=1, col=place)
        figure.update_yaxes(
            tickvals=list(range(content)), ticktext=queries, range=[content - 0.5, -0.5], row=1, col=place
        )
        if one.prompt:
            figure.add_vline(x=one.prompt - 0.5, line_color=GREY, line_width=2, row=1, col=place)
    longest = max(len(one.tokens) - one.prompt for one in shown.values())
    figure.update_xaxes(title="attended to", showgrid=False, tickfont={"size": 10})
    figure.update_xaxes(zeroline=False).update_yaxes(showgrid=False, zeroline=False, tickfont={"size": 11})
    figure.update_yaxes(title="from", col=1)
    dress(
        figure,
        title=f"Layer {layer}, head {head}, token by token",
        subtitle=f"one question: '{question}'; rows sum to one",
        height=290 + 24 * max(6, longest),
    )
    return Figure(figure, tokens_table(shown, layer, head))


def _short(token: str, longest: int = LONGEST) -> str:
    """A token as drawn: spaces seen, long ones cut."""
    seen = token.replace("\n", "↵").strip() or "␣"
    return seen if len(seen) <= longest else f"{seen[: longest - 1]}…"


def lens_table(shown: Shown) -> pd.DataFrame:
    """A row per layer and token of the text: what the lens puts first, and what it makes of the right answer.

    After a soft token there is nothing to say.
    """
    content = slice(shown.prompt, None)
    ranks = shown.lens_rank[:, content]
    layers, count = ranks.shape
    return pd.DataFrame(
        {
            "layer": np.repeat(np.arange(layers), count),
            "place": np.tile(np.arange(shown.prompt, len(shown.tokens)), layers),
            "token": list(shown.tokens[content]) * layers,
            "first": shown.lens_top[:, content].reshape(-1),
            "first_log_prob": shown.lens_top_log_prob[:, content].astype(float).reshape(-1),
            "answer_log_prob": shown.lens_log_prob[:, content].astype(float).reshape(-1),
            "answer_rank": ranks.reshape(-1),
        }
    )


def lens_words_figure(shown: Shown, variant: str, answer: str) -> Figure:
    """What would each layer say after each token of the text, read through the lens?

    Colour: log-probability of the right answer's first token; words: what the lens puts first, where there is room.
    """
    data = lens_table(shown)
    shape = (shown.lens_rank.shape[0], -1)
    first, answers, ranks = (
        data[name].to_numpy().reshape(shape) for name in ("first", "answer_log_prob", "answer_rank")
    )
    tokens = shown.tokens[shown.prompt :]
    room = min(LONGEST, CHARACTERS_A_ROW // len(tokens))
    seen = room >= FEWEST_CHARACTERS
    figure = go.Figure(
        go.Heatmap(
            z=answers.round(2),
            colorscale=SEQUENTIAL,
            zmax=0,
            customdata=np.dstack([ranks.astype(object), np.vectorize(for_plotly, otypes=[object])(first)]),
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": "nats", "side": "top"}, "thickness": 12},
            hovertemplate=f"layer %{{y}}: first is %{{customdata[1]}}; '{for_plotly(answer)}' has rank "
            "%{customdata[0]}, %{z:.2f} nats<extra></extra>",
        )
    )
    if seen:
        _write(figure, [[_short(str(word), room) for word in row] for row in first], answers)
    figure.update_xaxes(
        tickvals=list(range(len(tokens))),
        ticktext=[for_plotly(_short(token)) for token in tokens],
        tickangle=-60,
        showgrid=False,
    )
    figure.update_yaxes(places_axis(data["layer"]), title="layer", showgrid=False)
    dress(
        figure,
        title=f"What each layer would say after each token: {variant}",
        subtitle=f"{WRITTEN if seen else ''}colour: log-probability of '{answer}' (first token); n = 1 text",
        height=270 + 26 * max(6, shape[0]),
    )
    return Figure(figure, data)


def _write(figure: go.Figure, words: list[list[str]], values: Float[np.ndarray, "row column"]) -> None:
    """A word into every cell, black on the lighter half of the scale and white on the darker one."""
    lowest = float(values.min())
    dark = values < lowest / 2 if lowest < 0 else np.zeros(values.shape, dtype=bool)
    rows, columns = np.indices(values.shape)
    figure.add_scatter(
        x=columns.ravel(),
        y=rows.ravel(),
        mode="text",
        text=[for_plotly(word) for row in words for word in row],
        textfont={"size": 11, "color": np.where(dark, "#FFFFFF", "#111111").ravel().tolist()},
        hoverinfo="skip",
        showlegend=False,
    )


def item_lens_figure(rows: pd.DataFrame, answer: str) -> Figure:
    """At which layer does each variant's lens first put the right answer of one question on top?

    `rows`: a row per variant and layer with `variant`, `compression`, `repair`, `layer`, `rank` (1 is the top) and
    `log_prob` (nats), means over replicates. Filled marks: on top.
    """
    symbols = symbols_of(rows["repair"])
    figure = make_subplots(rows=1, cols=1)
    dashes = dashes_of(rows["compression"])
    for (variant, compression, repair), part in rows.groupby(["variant", "compression", "repair"], sort=False):
        shapes = [filled(symbols[repair], rank < ON_TOP) for rank in part["rank"]]
        figure.add_scatter(
            x=part["layer"],
            y=part["log_prob"],
            mode="lines+markers",
            line={"color": colour_of(repair), "width": 2, "dash": dashes[compression]},
            marker=marker(repair, filled(symbols[repair]), 9) | {"symbol": shapes},
            name=for_plotly(variant),
            customdata=part[["rank"]],
            hovertemplate=f"{for_plotly(variant)}, layer %{{x}}<br>%{{y:.2f}} nats, rank %{{customdata[0]:.3g}}"
            "<extra></extra>",
        )
    figure.update_xaxes(places_axis(rows["layer"]), title="layer")
    figure.update_yaxes(title=f"log-probability of '{for_plotly(answer)}' (nats)", tickformat=".2~g", zeroline=False)
    dress(
        figure,
        title="What the lens makes of the right answer, layer by layer",
        subtitle="n = 1 question, its answer's first token; filled: on top of the whole vocabulary",
        height=420,
    )
    return Figure(figure, rows)


def first_layers(rows: pd.DataFrame) -> pd.DataFrame:
    """From which layer each variant's lens keeps the right answer on top: a row per variant, none where it never does.

    Columns: variant, first (layer where it is on top for the first time), stays (from which on it stays there), last
    (rank after the last layer).
    """
    found = []
    for variant, part in rows.sort_values("layer").groupby("variant", sort=False):
        top = (part["rank"] < ON_TOP).to_numpy()
        layers = part["layer"].to_numpy()
        below = np.flatnonzero(~top)
        stays = 0 if not len(below) else below[-1] + 1
        found.append(
            {"variant": variant, "first": layers[top.argmax()] if top.any() else None}
            | {"stays": layers[stays] if stays < len(layers) else None, "last": float(part["rank"].iloc[-1])}
        )
    return pd.DataFrame(found, columns=["variant", "first", "stays", "last"]).astype(
        {"first": "Int64", "stays": "Int64"}
    )
