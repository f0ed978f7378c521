"""Figures from frames built by hand: what is drawn is what was given, and a repair looks the same everywhere."""

import shutil
import tomllib
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest

from analysis.figures.compare import compare_drift_figure, compare_figure, drift_of_both, of_both
from analysis.figures.drift import layerwise_drift_figure
from analysis.figures.figure import write_figure
from analysis.figures.heads import attention_figure, heads_figure
from analysis.figures.recovery import recovery_figure
from analysis.look import (
    DASHES,
    FLOOR_NAME,
    REPAIR_COLOURS,
    SYMBOLS,
    colour_of,
    counts_of,
    dashes_of,
    filled,
    looks_of,
    symbols_of,
)
from data.errors import InputError
from tests.stored_frames import (
    COMPRESSIONS,
    FLOOR,
    REPAIRS,
    attention_frame,
    drift_frame,
    recovery_frame,
    variants_frame,
)
from tests.stored_runs import DRAWN_AS


def lines_of(figure) -> list:
    return [trace for trace in figure.figure.data if trace.mode == "lines+markers"]


def test_recovery_draws_every_variant_once_per_split():
    recovery = recovery_frame()
    found = recovery_figure(recovery, "main", "facts", "vocabulary")
    drawn = sorted(
        (trace.name, trace.x[0], trace.x[0] - trace.error_x.arrayminus[0], trace.x[0] + trace.error_x.array[0])
        for trace in found.figure.data
        if trace.error_x.array is not None
    )
    wanted = recovery.query("reading == 'vocabulary' and measure == 'accuracy' and split != 'calibrate'")
    expected = sorted(wanted[["variant", "value", "lower", "upper"]].itertuples(index=False, name=None))
    assert len(found.data) == len(drawn) == 2 * len(COMPRESSIONS) * len(REPAIRS)
    assert [row[0] for row in drawn] == [row[0] for row in expected]
    assert [row[1:] for row in drawn] == [pytest.approx(row[1:]) for row in expected]


def test_recovery_marks_chance_only_where_there_is_one():
    names = {trace.name for trace in recovery_figure(recovery_frame(), "main", "facts", "candidates").figure.data}
    assert not any("chance" in name for name in names)
    figure = recovery_figure(recovery_frame(), "main", "facts", "candidates", chance=0.125).figure
    lines = [trace for trace in figure.data if trace.name == "chance (0.12)"]
    assert len(lines) == len(COMPRESSIONS)
    assert {value for line in lines for value in line.x} == {0.125}


def test_two_runs_are_drawn_by_the_variants_that_both_have():
    first = recovery_frame()
    second = first[first["compression"] != "wanda-70%"].assign(value=lambda rows: rows["value"] / 2)
    both = of_both((first, second), "main", "facts", "candidates")
    found = compare_figure(both, ("1: a", "2: b"), "facts", "candidates")
    assert "wanda-70%" in set(first["compression"])
    assert set(found.data["compression"]) == set(second["compression"])
    values = found.data.pivot(index="variant", columns="run", values="value")
    assert list(values["second"]) == list(values["first"] / 2)
    assert {"1: a", "2: b"} <= {trace.name for trace in found.figure.data}
    assert of_both((first, second), "main", "elsewhere", "candidates").empty


def test_layers_of_two_runs_are_drawn_by_the_variants_that_both_have():
    variants = variants_frame()
    first = drift_frame(variants)
    fewer = variants[variants["compression"] != "wanda-70%"]
    told = {"metric": "cosine", "site": "resid_post", "group": "questions", "reference": "dense"}
    both = drift_of_both((first, first.assign(value=first["value"] / 2)), (variants, fewer), **told)
    assert set(both["compression"]) == set(COMPRESSIONS) - {"wanda-70%"}
    values = both.pivot(index=["variant", "layer"], columns="run", values="value")
    assert list(values["second"]) == pytest.approx(list(values["first"] / 2))
    found = compare_drift_figure(both, ("1: a", "2: b"), **told)
    drawn = {(line.customdata[0][2], tuple(line.y)) for line in lines_of(found)}
    wanted = {(2, tuple(rows["value"])) for _, rows in both.groupby(["variant", "run"])}
    assert drawn == wanted
    rings = [line for line in lines_of(found) if line.marker.symbol.endswith("-open")]
    assert len(rings) * 2 == len(lines_of(found))
    assert drift_of_both((first, first), (variants, fewer), **told | {"group": "text"}).empty


def test_drift_averages_replicates_and_keeps_the_widest_interval():
    variants = variants_frame()
    found = layerwise_drift_figure(drift_frame(variants), variants, "cosine", "resid_post", "questions", "dense")
    one = found.data[found.data["variant"] == "gptq-3bit + lora-r2"]
    assert list(one["value"]) == pytest.approx([0.35, 0.45, 0.55])
    assert list(one["lower"]) == pytest.approx([0.2, 0.3, 0.4])
    assert list(one["upper"]) == pytest.approx([0.5, 0.6, 0.7])
    assert set(one["replicates"]) == {2}
    assert len(lines_of(found)) == found.data["variant"].nunique() == len(COMPRESSIONS) * (len(REPAIRS) - 1)
    for trace, (_, rows) in zip(lines_of(found), found.data.groupby(["variant"], sort=False), strict=True):
        assert list(trace.y) == list(rows["value"])


def test_drift_shades_the_floor_in_every_panel_and_names_it_once():
    variants = variants_frame()
    figure = layerwise_drift_figure(drift_frame(variants), variants, "cosine", "mlp_out", "questions", "dense").figure
    floors = [trace for trace in figure.data if trace.name == FLOOR_NAME]
    assert len(floors) == len(COMPRESSIONS)
    assert sum(trace.showlegend for trace in floors) == 1
    assert all(trace.fill == "tozeroy" and set(trace.y) == {FLOOR} for trace in floors)
    assert "95 % interval" in figure.layout.title.subtitle.text


def test_a_repair_has_one_colour_and_a_compression_one_dash():
    variants = variants_frame()
    recovered = recovery_figure(recovery_frame(), "main", "facts", "candidates").figure
    drifted = lines_of(
        layerwise_drift_figure(drift_frame(variants), variants, "cosine", "mlp_out", "questions", "dense")
    )
    by_repair = {(trace.name, trace.line.color) for trace in drifted}
    points = [trace for trace in recovered.data if trace.error_x.array is not None]
    named = {(trace.name.partition(" + ")[2] or "no repair", trace.marker.color) for trace in points}
    assert by_repair <= named
    assert len(named) == len(REPAIRS) == len({colour for _, colour in named})
    assert {trace.line.dash for trace in drifted} == set(DASHES[: len(COMPRESSIONS)])
    assert len(set(REPAIR_COLOURS.values())) == len(set(SYMBOLS.values())) == len(REPAIR_COLOURS)


@pytest.fixture(autouse=True)
def _looks():
    """What the repairs of the frames are, as their run's table would say."""
    with looks_of(
        pd.DataFrame({"compression": "dense", "repair": list(DRAWN_AS), "drawn_as": list(DRAWN_AS.values())})
    ):
        yield


def test_names_not_known_still_get_a_look():
    assert colour_of("prefix-8").startswith("#")
    assert symbols_of(["else-4", "else-16"]) == {"else-4": "cross", "else-16": "cross-open"}
    assert dashes_of(["gptq-3bit", "dense"])["dense"] == "solid"


def test_a_look_is_of_the_run_and_not_of_what_is_shown_beside():
    run = pd.DataFrame({"compression": ["dense", "gptq-3bit", "wanda-70%"], "repair": ["", "prompt-4", "prompt-16"]})
    run = run.assign(drawn_as=["", "prompt", "prompt"])
    alone = dashes_of(["wanda-70%"]), symbols_of(["prompt-16"])
    with looks_of(run):
        assert dashes_of(["wanda-70%"])["wanda-70%"] == dashes_of(run["compression"])["wanda-70%"] == "dot"
        assert symbols_of(["prompt-16"])["prompt-16"] == symbols_of(run["repair"])["prompt-16"] == "triangle-up-open"
        assert symbols_of(["prompt"]) == {"prompt": "triangle-up"}
        assert dashes_of(["another"]) == {"dense": "solid", "another": "dashdot"}
    assert alone == ({"dense": "solid", "wanda-70%": "dash"}, {"prompt-16": "cross"})


def test_the_heat_map_is_layers_by_heads_with_the_floor_marked():
    variants = variants_frame()
    attention = attention_frame(variants, layers=3, heads=5)
    found = attention_figure(attention, variants, "gptq-3bit + lora-r2", "jensen_shannon", "questions", "dense")
    heat, marks = found.figure.data
    assert heat.z.shape == (3, 5)
    assert heat.z[1, 4] == pytest.approx(0.41)
    assert heat.zmax == pytest.approx(0.41)
    assert sorted(zip(marks.y, marks.x, strict=True)) == [(0, 0), (1, 0), (2, 0)]
    by_identity = attention_figure(attention, variants, "gptq-3bit/1", "jensen_shannon", "questions", "dense")
    assert by_identity.figure.data[0].z[1, 4] == pytest.approx(0.4)


def test_a_signed_metric_has_zero_in_the_middle_and_a_level_is_against_nothing():
    variants = variants_frame()
    attention = attention_frame(variants, layers=3, heads=5)
    pair = ("gptq-3bit + lora-r2", "gptq-3bit")
    signed = attention.assign(metric="entropy_change", value=attention["value"] - 0.25)
    signed = signed.drop_duplicates(["variant_id", "layer", "head"])
    for found in (
        attention_figure(signed, variants, pair[0], "entropy_change", "questions", "dense"),
        heads_figure(signed, variants, pair, "entropy_change", "questions", "dense"),
    ):
        heat = found.figure.data[0]
        assert heat.zmin == -heat.zmax
        assert heat.zmin <= heat.z.min() < 0
        assert "against the dense model" in found.figure.layout.title.text
    level = heads_figure(signed.assign(metric="entropy"), variants, pair, "entropy", "questions", "dense")
    assert "against" not in level.figure.layout.title.text


def test_one_replicate_is_no_plural():
    data = pd.DataFrame({"replicates": [1, 1], "tokens": [67, 67]})
    assert counts_of(data).startswith("1 replicate, n = 67")
    assert counts_of(data.assign(replicates=[1, 2])).startswith("1 to 2 replicates, n = 67")


def test_variants_of_two_scopes_are_refused():
    variants = pd.concat([variants_frame("main"), variants_frame("locked")])
    with pytest.raises(ValueError, match="one scope"):
        layerwise_drift_figure(drift_frame(variants_frame()), variants, "cosine", "mlp_out", "questions", "dense")


def test_a_figure_is_written_with_its_rows(tmp_path):
    found = recovery_figure(recovery_frame(), "main", "facts", "candidates")
    write_figure(found, tmp_path / "new" / "recovery.html")
    assert len(pd.read_csv(tmp_path / "new" / "recovery.csv")) == len(found.data)
    with pytest.raises(InputError, match="endings are"):
        write_figure(found, tmp_path / "recovery.docx")


@pytest.mark.browser
def test_a_figure_becomes_a_vector_image(tmp_path):
    if not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no Chromium on this machine")
    write_figure(recovery_figure(recovery_frame(), "main", "facts", "candidates"), tmp_path / "recovery.svg")
    assert "prompt-4-masked" in (tmp_path / "recovery.svg").read_text()


def test_an_image_without_a_browser_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("choreographer.browsers.chromium.Chromium.find_browser", lambda **_: None)
    with pytest.raises(InputError, match="needs Chrome or Chromium"):
        write_figure(recovery_figure(recovery_frame(), "main", "facts", "candidates"), tmp_path / "recovery.pdf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["placebo", "prompt", "lora", "text", "key", "unheard"])
def test_symbols_of_five_alike_can_be_drawn_filled_and_open(kind):
    names = [f"{kind}-{length}" for length in (1, 2, 4, 8, 16)]
    run = pd.DataFrame({"compression": "dense", "repair": names, "drawn_as": kind})
    with looks_of(run):
        symbols = symbols_of(names)
    assert len(set(symbols.values())) == min(5, 2 if kind in ("placebo", "text") else 4)
    for symbol in symbols.values():
        shapes = [filled(symbol, yes) for yes in (True, False)]
        assert go.Scatter(marker={"symbol": shapes}).marker.symbol == tuple(shapes)
        assert ["open" in shape for shape in shapes] == [False, True]


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_hue_is_seen_on_the_dark_page():
    theme = tomllib.loads((Path(__file__).parent.parent / ".streamlit" / "config.toml").read_text())["theme"]
    dark = luminance(theme["dark"]["backgroundColor"]) + 0.05
    assert {kind: hue for kind, hue in REPAIR_COLOURS.items() if (luminance(hue) + 0.05) / dark < 3} == {}
