"""Every entry of the list of metrics: complete, the same number as by NumPy, quiet on one model, shown in words.

And one more metric, of one file (`toy_metric.py`) and one entry, goes from a study's YAML to its table and its page.
"""

import copy
import html
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import look, work_drift
from analysis.comparison import Comparison
from analysis.drift import DRIFT_KINDS, Reference, stream_states
from analysis.drift_tables import BATCH_PLAN, Gathered
from analysis.figures.drift import layerwise_drift_figure
from analysis.figures.heads import attention_figure
from analysis.metrics import registry
from analysis.metrics.metric import PATTERN, STATES, Metric
from analysis.metrics.registry import METRICS, measured_in, metric_groups
from analysis.metrics.seen import Reducer, reducer_of
from analysis.reading import read_table
from analysis.run import prepare
from analysis.study import Drift, load_study
from data.errors import InputError
from probes.capture import Recorder
from probes.models import open_model
from probes.prompts import draw_prompt
from probes.sites import Kind, Site, sites_of
from probes.variants import Variant
from tests.metrics_by_numpy import BY_SEQUENCE, PER_HEAD, Numbers, cka, in_span
from tests.opened_pages import opened
from tests.studies import AS_WRITTEN
from tests.tiny_models import HEADS, LAYERS, WIDTH, tiny

ROWS = [[5, 9, 3, 11, 7, 8, 22, 30], [4, 6, 12, 13, 40, 41], [8, 7, 6, 5, 4, 50, 51, 9, 10, 33]]
SLOTS, SEED = 3, 0
TOLERANCE = 2e-5


def test_every_entry_is_complete():
    words = [metric.words for metric in METRICS.values()]
    assert len(set(words)) == len(words)
    for name, metric in METRICS.items():
        assert name == metric.name
        assert metric.words
        assert metric.unit
        assert metric.group in metric_groups()
        assert isinstance(reducer_of(metric.module), Reducer)
        assert set(metric.sites) <= {kind.value for kind in DRIFT_KINDS}
        assert metric.sites == PATTERN or set(metric.sites) <= set(STATES)
        assert set(metric.references) <= {"dense", "parent"}
        assert not (metric.level and metric.references)
        assert (metric.floor is None) == bool(metric.references), "dense against itself moves nowhere"
        assert metric.is_distance == (not metric.level and not metric.references)


def test_the_list_is_read_without_what_computes():
    """Of a cell's description, the part of an entry that shapes numbers comes back as it was."""
    for metric in METRICS.values():
        assert Drift(metrics=("basic", metric.group)).metrics[-1] == metric.group
    for one in measured_in(metric_groups()):
        assert type(one).of(one.stored()) == one
    with pytest.raises(ValueError, match="there is no group bsic; there are basic, robust, geometry"):
        Drift(metrics=("bsic",))


@dataclass
class Shown:
    """What one variant shows of every row, in float64, its padding cut off."""

    states: dict[Site, list[Numbers]]
    """Content tokens x width."""
    patterns: dict[Site, list[Numbers]]
    """Head x content query x content key."""
    on_prompt: dict[Site, list[Numbers]]
    """Head x content query: what lies on no content key."""
    values: dict[int, Numbers]
    """Key head x slot x head width, of the prompt, by layer."""


def shown(variant: Variant) -> Shown:
    """Everything of one plain pass."""
    found = Shown({}, {}, {}, {})
    inputs = variant.inputs(ROWS)
    prompt = (inputs.attention_mask.bool() & ~inputs.content)[0]

    def keep(site: Site, tensor: torch.Tensor) -> None:
        held = tensor.double().numpy().copy()
        if site.kind == Kind.PATTERN:
            rows = [held[place, :, -len(row) :] for place, row in enumerate(ROWS)]
            found.patterns[site] = [one[:, :, -one.shape[1] :] for one in rows]
            found.on_prompt[site] = [one[:, :, : -one.shape[1]].sum(axis=-1) for one in rows]
        elif site.kind == Kind.VALUE:
            found.values[site.layer] = held[0, prompt.numpy()].transpose(1, 0, 2)
        else:
            found.states[site] = [held[place, -len(row) :] for place, row in enumerate(ROWS)]

    sites = sites_of(variant.model, [*DRIFT_KINDS, Kind.VALUE])
    Recorder(variant.model, backend="hooks").stream(inputs, sites, keep)
    return found


@dataclass
class Compared:
    """The tables of three models' rows, and what each of them showed."""

    drift: pd.DataFrame
    attention: pd.DataFrame
    floors: pd.DataFrame
    shown: dict[str, Shown]
    projections: list[Numbers]

    def expected(self, name: str, reference: str, site: Site) -> Numbers:
        """A metric by NumPy: one number, or one a head."""
        if name in PER_HEAD:
            return self._per_head(name, reference, site)
        ours, theirs, dense = (self.shown[one].states[site] for one in ("variant", reference, "dense"))
        if name == "cka":
            return np.array([cka(ours, theirs)])
        measure = self._spans(name, site) if name.startswith("value_span") else BY_SEQUENCE[name]
        more = [dense] if name == "direction" else []
        base = self.shown["parent"].states[site] if name == "direction" else theirs
        return np.array([np.mean([measure(*one) for one in zip(ours, base, *more, strict=True)])])

    def _spans(self, name: str, site: Site) -> Callable[..., float]:
        values = self.shown["variant"].values[site.layer]
        if name == "value_span_random":
            generator = torch.Generator().manual_seed(SEED)
            draws = [torch.randn(values.shape, generator=generator).double().numpy() for _ in range(LAYERS)]
            values = draws[site.layer]
        return partial(in_span, values, self.projections[site.layer])

    def _per_head(self, name: str, reference: str, site: Site) -> Numbers:
        own, other = self.shown["variant"], self.shown[reference]
        parts = zip(own.patterns[site], other.patterns[site], own.on_prompt[site], strict=True)
        return np.mean([PER_HEAD[name](*part) for part in parts], axis=0)


@pytest.fixture(scope="module")
def compared() -> Compared:
    """A prompt before a noisy copy of a tiny model, against that copy and against the model."""
    dense = tiny("llama").requires_grad_(False)
    parent = copy.deepcopy(dense)
    generator = torch.Generator().manual_seed(1)
    for parameter in parent.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    variants = {
        "dense": Variant("dense", dense, None),  # type: ignore[arg-type]
        "parent": Variant("parent", parent, None),  # type: ignore[arg-type]
        "variant": Variant("variant", parent, None, prompt=draw_prompt(parent, SLOTS, 1)),  # type: ignore[arg-type]
    }
    metrics, sites = measured_in(metric_groups()), sites_of(dense, DRIFT_KINDS)
    recorders = {name: Recorder(one.model, backend="hooks") for name, one in variants.items()}
    references = {
        name: Reference.record(recorders[name], variants[name].inputs(ROWS), sites) for name in ("dense", "parent")
    }
    modules = {one.module: reducer_of(one.module).prepare for one in metrics}
    prepared = {module: prepare(variants["variant"]) for module, prepare in modules.items() if prepare}
    gathered = Gathered(metrics)
    comparison = Comparison(references, variants["variant"].inputs(ROWS), metrics, prepared)
    stream_states(recorders["variant"], comparison.inputs, sites, comparison)
    gathered.add("variant", "questions", comparison)
    for place, row in enumerate(ROWS):  # the same model, each row by itself
        alone = Comparison(
            {"dense": references["dense"].sequence(place, len(row))}, variants["dense"].inputs([row]), metrics
        )
        stream_states(recorders["dense"], alone.inputs, sites, alone)
        gathered.add(BATCH_PLAN, "questions", alone)
    projections = [layer.self_attn.o_proj.weight.double().numpy() for layer in parent.model.layers]
    return Compared(
        *gathered.tables(["variant"]),
        gathered.floors([BATCH_PLAN], {"dense": "dense"}),
        {name: shown(one) for name, one in variants.items()},
        projections,
    )


def rows_of(compared: Compared, name: str) -> pd.DataFrame:
    """What the tables hold of a metric."""
    table = compared.attention if METRICS[name].sites == PATTERN else compared.drift
    return table[table["metric"] == name]


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_what_numpy_finds_wherever_it_is_said_to_be_measured(name, compared):
    metric, rows = METRICS[name], rows_of(compared, name)
    assert set(rows["site"]) == set(metric.sites)
    assert set(rows["reference"]) == ({metric.references[0]} if metric.references else {"dense", "parent"})
    heads = HEADS if metric.sites == PATTERN else 1
    places = list(rows.groupby(["reference", "layer", "site"], sort=False))
    # What enters the first block is the words alone, which no prompt moves.
    still = metric.references and "resid_pre" in metric.sites
    assert len(places) == LAYERS * len(metric.sites) * (1 if metric.references else 2) - bool(still)
    for (reference, layer, kind), found in places:
        expected = compared.expected(name, reference, Site(int(layer), Kind(kind)))
        assert expected.shape == (heads,)
        np.testing.assert_allclose(found["value"], expected, atol=TOLERANCE, err_msg=f"{reference} {layer} {kind}")
    assert (rows["value"] < -TOLERANCE).any() <= metric.signed
    assert rows["value"].abs().max() > 1e-3, "as far apart as these models are, no metric may be silent"
    assert rows["value"].abs().min() < WIDTH


@pytest.mark.parametrize("name", METRICS)
def test_the_same_model_twice_is_below_the_floor_that_is_said(name, compared):
    metric, floors = METRICS[name], compared.floors[compared.floors["metric"] == name]
    if metric.floor is None:
        assert floors.empty
        assert rows_of(compared, name)["floor"].isna().all()
        return
    own = np.zeros(len(floors))
    if metric.level:  # then it is the dense model's own
        dense = Compared(compared.drift, compared.attention, floors, {"variant": compared.shown["dense"]}, [])
        dense.shown["dense"] = compared.shown["dense"]
        own = np.concatenate([dense.expected(name, "dense", Site(layer, Kind.PATTERN)) for layer in range(LAYERS)])
    gap = np.abs(floors["value"].to_numpy() - own)
    assert len(gap)
    assert gap.max() <= metric.floor


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_stands_in_its_figure_in_words(name, compared):
    metric, rows = METRICS[name], rows_of(compared, name)
    variants = pd.DataFrame(
        [{"variant_id": "variant", "variant": "copy", "scope": "main", "compression": "copy", "repair": "prompt-3"}]
    )
    reference = str(rows["reference"].iloc[0])
    if metric.sites == PATTERN:
        figure = attention_figure(compared.attention, variants, "copy", name, "questions", reference).figure
        assert ("against" in figure.layout.title.text) == (not metric.level)
        told = figure.layout.title.text
        assert metric.unit in figure.to_json()
    else:
        figure = layerwise_drift_figure(compared.drift, variants, name, metric.sites[0], "questions", reference).figure
        told = figure.layout.yaxis.title.text
        assert f"({metric.unit})" in told
    assert metric.words[1:] in html.unescape(told)
    assert look.METRICS[name] == (metric.words, metric.unit)


TOY = Metric(
    name="toy_largest",
    words="largest entry of a state",
    unit="toys",
    group="toy",
    module="tests.toy_metric",
    sites=("resid_post",),
    level=True,
)
STUDY = AS_WRITTEN.replace("batch: 2}", "batch: 2, metrics: [basic, toy], around: dense}")


@pytest.fixture
def _listed(monkeypatch) -> None:
    """The one line that a metric takes beside its file."""
    monkeypatch.setitem(registry.METRICS, TOY.name, TOY)


@pytest.mark.slow
@pytest.mark.usefixtures("_listed")
def test_a_metric_of_ones_own_goes_from_a_study_to_its_table_and_its_page(tmp_path, monkeypatch, studies):
    path = tmp_path / "toy.yaml"
    path.write_text(STUDY)
    study = load_study(str(path))
    plan, _ = prepare(study)
    folder = studies.run(study, tmp_path / "runs")

    drift = read_table(folder, "drift").query("metric == 'toy_largest'")
    assert set(drift["site"]) == {"resid_post"}
    dense = read_table(folder, "variants").query("compression == 'dense' and repair == ''")["variant_id"].iloc[0]
    model = open_model("atlas", dtype="float32", device="cpu").model
    rows = work_drift.rows_of(plan.of("drift")[0].fields, study.drift)["text"]
    with torch.no_grad():
        states = [model(torch.tensor([row]), output_hidden_states=True).hidden_states for row in rows]
    found = drift[(drift["variant_id"] == dense) & (drift["group"] == "text")].drop_duplicates("layer")
    last = model.config.num_hidden_layers - 1  # what leaves the last block is shown after the last norm
    for layer, value, floor in found[["layer", "value", "floor"]].itertuples(index=False):
        if layer < last:
            by_hand = np.mean([float(one[layer + 1].abs().max()) for one in states])
            assert (value, floor) == pytest.approx((by_hand, by_hand), rel=1e-5)
    assert len(found) == last + 1

    assert look.METRICS["toy_largest"] == ("largest entry of a state", "toys")
    monkeypatch.setenv("PALIMPSEST_RUNS", str(tmp_path / "runs"))
    page = opened("drift", run=folder.name, metric="toy_largest")
    assert not page.exception
    box = page.selectbox(key="metric")
    assert box.value == "toy_largest"
    assert "largest entry of a state" in box.options
    assert any("largest entry of a state is no distance" in one.value for one in page.caption)


def test_a_study_that_names_a_group_that_nothing_is_in_is_refused(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(STUDY)
    with pytest.raises(InputError, match=r"drift\.metrics: there is no group toy; there are basic, robust, geometry"):
        load_study(str(path))
