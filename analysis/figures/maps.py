"""Attention maps of one question: a panel per variant, at the layer where compression moved attention most."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float
from plotly.subplots import make_subplots

from analysis import reading
from analysis.figures.entry import Drawn, RunFigure
from analysis.figures.figure import Figure
from analysis.figures.source import Source
from analysis.literal import for_plotly
from analysis.look import SEQUENTIAL, dress
from analysis.reading import Example, Shown

COLUMNS = 3
LONGEST = 10


def maps_figure(example: Example, names: Mapping[str, str]) -> Figure:
    """To what does each token of a question attend in dense, in its compressed copy and behind each repair?

    `names` maps identities to spoken names, dense first, then the unrepaired copy. Rows are the content's tokens,
    columns all that they may attend to, soft tokens first as P1 to Pn; a mean over heads.
    """
    shown = {name: example.variants[identity] for identity, name in names.items() if identity in example.variants}
    layer = _moved_most(list(shown.values()))
    rows = -(-len(shown) // COLUMNS)
    figure = make_subplots(
        rows=rows,
        cols=min(COLUMNS, len(shown)),
        subplot_titles=[for_plotly(name).replace(" + ", "<br>+ ") for name in shown],
        horizontal_spacing=0.035,
        vertical_spacing=0.4 / max(1, rows),
    )
    parts = []
    for place, (name, one) in enumerate(shown.items()):
        grid = _content(one, layer)
        later = np.arange(len(one.tokens))[None] > np.arange(one.prompt, len(one.tokens))[:, None]
        words = [for_plotly(_short(token)) for token in one.tokens]
        queries = words[one.prompt :]
        ticks = [key for key in range(len(words)) if key >= one.prompt or key in (0, one.prompt - 1)]
        where = {"row": place // COLUMNS + 1, "col": place % COLUMNS + 1}
        figure.add_heatmap(
            z=np.where(later, np.nan, grid),
            zmin=0,
            zmax=1,
            colorscale=SEQUENTIAL,
            reversescale=True,
            showscale=place == 0,
            colorbar={"title": {"text": "share", "side": "right"}, "thickness": 10, "x": 1.01},
            xgap=0.5,
            ygap=0.5,
            hoverinfo="z",
            **where,
        )
        figure.update_xaxes(tickvals=ticks, ticktext=[words[key] for key in ticks], tickangle=-90, **where)
        figure.update_yaxes(
            tickvals=list(range(len(queries))), ticktext=queries, range=[len(queries) - 0.5, -0.5], **where
        )
        if place % COLUMNS:
            figure.update_yaxes(showticklabels=False, **where)
        cells = pd.DataFrame(grid, index=range(len(queries)), columns=range(len(words))).stack()
        table = cells.rename("attention").rename_axis(["query", "key"]).reset_index()
        table = table[table["key"] <= table["query"] + one.prompt]
        parts.append(
            table.assign(
                variant=name,
                layer=layer,
                query_token=[one.tokens[one.prompt + query] for query in table["query"]],
                key_token=[one.tokens[key] for key in table["key"]],
            )
        )
    figure.update_xaxes(showgrid=False, zeroline=False)
    figure.update_yaxes(showgrid=False, zeroline=False)
    longest = max(len(one.tokens) - one.prompt for one in shown.values())
    heads = next(iter(shown.values())).attention.shape[1]
    dress(
        figure,
        title=f"To what each token attends: layer {layer}",
        subtitle=f"one question: '{example.question}'; mean over {heads} heads of the layer where the copy attends "
        "least like dense; rows sum to one; P1 to Pn: the prompt",
        height=130 + rows * (130 + 22 * max(5, longest)),
    )
    return Figure(figure, pd.concat(parts, ignore_index=True))


def _content(one: Shown, layer: int) -> Float[np.ndarray, "query key"]:
    """Attention of the content's tokens at one layer, a mean over heads."""
    return one.attention[layer].astype(float).mean(axis=0)[one.prompt :]


def _moved_most(shown: list[Shown]) -> int:
    """The layer at which the second variant attends least like the first, neither having a prompt; else the last."""
    if len(shown) < 2 or shown[0].tokens != shown[1].tokens:
        return len(shown[0].attention) - 1
    moved = np.abs(shown[0].attention.astype(float) - shown[1].attention.astype(float))
    return int(moved.mean(axis=(1, 2, 3)).argmax())


def _short(token: str) -> str:
    seen = token.strip() or "␣"
    return seen if len(seen) <= LONGEST else f"{seen[: LONGEST - 1]}…"


def _maps(source: Source) -> Drawn:
    examples, variants = source.table("examples"), source.shown_variants()
    names = dict(zip(variants["variant_id"], variants["variant"], strict=True))
    placebos = set(variants.loc[variants["kind"] == "placebo", "variant_id"])
    for file, rows in examples[examples["variant_id"].isin(names)].groupby("file", sort=False):
        own = {one: names[one] for one in rows["variant_id"] if one not in placebos}
        yield str(file).removesuffix(".npz"), maps_figure(reading.read_example(source.run, str(file)), own)


MAPS = RunFigure(
    name="attention-maps",
    question="to what does each token attend, variant by variant?",
    draw=_maps,
    tables=("examples", "variants"),
    each="question that was kept token by token",
)
