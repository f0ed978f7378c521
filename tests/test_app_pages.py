"""What each page shows of a run: numbers of the tables, words for what they say, and where its links lead."""

import json
from urllib.parse import parse_qsl

import pandas as pd
import pytest

from analysis.figures.heads import cell_of
from analysis.pages.picking import question_words
from analysis.reading import read_table
from analysis.run_files import sealed_text
from tests.opened_pages import CHARTS, errors_of, opened, words_of
from tests.stored_runs import LOST, PREDICTION, write_run


def test_the_question_is_answered_in_five_sentences(root):
    said = words_of(opened())
    assert "1 displaced" in said
    assert "dequantised" in said
    assert "Where what was known has gone" in said
    assert "erased" not in said


def test_the_recovery_table_has_every_variant_and_one_seed_beside(root):
    table = opened("recovery", seed="1").dataframe[0].value
    assert "gptq-3bit + placebo-4" in set(table["variant"])
    assert {"accuracy, tune", "accuracy, test", "bits, tune", "bits, test", "replicates"} <= set(table.columns)
    alone = table.set_index("variant")["test, seed 1"]
    assert alone["gptq-3bit"] == pytest.approx(5 / 6)
    assert alone["gptq-3bit + prompt-4"] == 1


@pytest.mark.parametrize(("page", "table"), [("drift", "drift"), ("attention", "attention"), ("choices", "banks")])
def test_a_scope_that_was_not_looked_into_names_the_one_that_was(root, page, table):
    path = root / "first" / f"{table}.parquet"
    rows, variants = pd.read_parquet(path), pd.read_parquet(root / "first" / "variants.parquet")
    inside = variants.loc[variants["scope"] == "main", "variant_id"]
    rows[rows["variant_id"].isin(inside)].to_parquet(path, index=False)
    assert "choose scope main" in opened(page, scope="locked").warning[0].value
    assert not opened(page, scope="main").warning


def test_the_account_beside_recovery_is_drawn_when_it_is_opened(root):
    assert len(opened("recovery", account_open="true").get("plotly_chart")) == CHARTS["recovery"] + 1
    assert "transfer" in opened("recovery", transfer_open="true").warning[0].value  # this run moved no repair


def test_time_is_shown_where_it_was_measured_and_said_to_be_missing_where_not(root):
    assert "repairs first --latency" in words_of(opened("recovery"))
    path = root / "first" / "latency.csv"
    timed = "repair,phase,batch,form,ratio,compression,tokens,rounds\nprompt-4,prefill,1,,1.25,gptq-3bit,64,3\n"
    path.write_text(sealed_text(timed))
    page = opened("recovery")
    assert len(page.get("plotly_chart")) == CHARTS["recovery"] + 1
    assert "What recovery costs in time" in words_of(page)
    assert "was timed" not in words_of(page)
    path.write_text(sealed_text(timed + "lora-r4,prefill,1,merged,0.93,gptq-3bit,64,3\n"))
    assert "the same computation was timed 0.07 off 1" in words_of(opened("recovery"))
    path.write_text("not a table of times\n")
    damaged = opened("recovery")
    assert not damaged.exception
    assert "latency.csv cannot be read" in damaged.warning[0].value


def test_evidence_shows_the_numbers_of_the_verdict(root):
    page = opened("evidence")
    row = page.dataframe[0].value.iloc[0]
    assert (row["estimate"], row["p_corrected"]) == (0.41, "0.004")
    assert "no more than answers re-weighted" in row["H0"]
    assert "knowledge came back for subjects the repair never saw" in words_of(page)


def test_evidence_shows_what_stands_beside_what_decides(root):
    path = write_run(root / "second") / "verdict.json"
    verdict = json.loads(path.read_text())
    told = PREDICTION | {"about": "mechanism", "statistic": "nats", "name": "knockout", "p_corrected": None}
    absent = told | dict.fromkeys(("estimate", "lower", "upper", "p", "n")) | {"name": "scaling"}
    verdict["settings"][0]["further_predictions"] = [
        told | {"sentence": "knockout: +0.41, p 0.002, n 12 (nats); replicate 0"},
        absent | {"sentence": "scaling: not run: it takes prompts of 3 lengths"},
    ]
    path.write_text(json.dumps(verdict))
    page = opened("evidence", run="second")
    assert not page.exception
    table = next(one.value for one in page.dataframe if "said" in one.value).set_index("name")
    assert (table.loc["knockout", "estimate"], table.loc["knockout", "said"]) == (0.41, "nats; replicate 0")
    assert (table.loc["knockout", "p"], table.loc["scaling", "p"]) == ("0.002", "")
    assert table.loc["scaling", "said"] == "not run: it takes prompts of 3 lengths"
    assert pd.isna(table.loc["scaling", "estimate"])


def test_a_fact_shows_what_every_variant_answered(root):
    page = opened("facts", find="oslo")
    assert page.selectbox(key="item").value == LOST
    table = page.dataframe[1].value.set_index("variant")
    assert table.loc["gptq-3bit", "answers"] == "paris"
    assert table.loc["gptq-3bit + prompt-4", "answers"] == "oslo"
    returned = opened("facts", which="returned by a repair", of="gptq-3bit + prompt-4")
    assert returned.selectbox(key="item").options == [question_words(LOST)]
    assert "clear the search" in opened("facts", find="nobody").info[0].value


def test_facts_opens_on_a_question_that_was_looked_into(root):
    kept = read_table(root / "first", "examples")["item"]
    page = opened("facts")
    assert page.selectbox(key="item").value == kept.iloc[0] == LOST
    assert "item" not in page.query_params
    (root / "first" / "examples.parquet").unlink()
    (root / "first" / "lens_items.parquet").unlink()
    older = opened("facts").selectbox(key="item")
    assert question_words(str(older.value)) == older.options[0]


def test_what_a_search_does_not_find_in_a_group_is_said_of_the_others(root):
    answers, recovery = (root / "first" / f"{name}.parquet" for name in ("answers", "recovery"))
    rows, found = pd.read_parquet(answers), pd.read_parquet(recovery)
    moved = (rows["group"] == "facts") & (rows["entity"] == "land of oslo")
    rows.assign(group=rows["group"].mask(moved, "others")).to_parquet(answers, index=False)
    pd.concat([found, found[found["group"] == "facts"].assign(group="others")]).to_parquet(recovery, index=False)
    assert "group others above has what is searched" in opened("facts", find="oslo").info[0].value
    assert not opened("facts", find="oslo", group="others").info
    assert "clear the search" in opened("facts", find="oslo turin").info[0].value


def test_evidence_leads_to_the_group_of_the_question_that_was_kept(root):
    write_run(root / "older")
    (root / "older" / "examples.parquet").unlink()
    for run, group in (("first", "facts"), ("older", None)):
        link = next(one.proto for one in opened("evidence", run=run).get("page_link") if one.proto.page == "facts")
        assert dict(parse_qsl(link.query_string)).get("with-group") == group


def test_attention_opens_on_the_question_that_was_kept(root):
    link = next(one.proto for one in opened("facts", find="oslo").get("page_link") if one.proto.page == "attention")
    steps = dict(parse_qsl(link.query_string))
    assert steps == {"with-example": LOST, "with-first": "gptq-3bit + prompt-4", "with-second": "gptq-3bit"}
    page = opened("attention", **steps)
    assert not page.exception
    chosen = {name.removeprefix("with-"): page.session_state[name.removeprefix("with-")] for name in steps}
    assert chosen == {name.removeprefix("with-"): value for name, value in steps.items()}
    assert "kept this question token by token" in words_of(opened("facts", find="turin"))


def test_a_fact_shows_where_the_lens_finds_it_and_what_patching_restores(root):
    page = opened("facts", find="oslo", compression="gptq-3bit")
    table = next(one.value for one in page.dataframe if "stays" in one.value).set_index("variant")
    assert (table.loc["gptq-3bit + prompt-4", "first"], table.loc["gptq-3bit + prompt-4", "stays"]) == (1, 1)
    assert pd.isna(table.loc["gptq-3bit", "first"])
    assert table.loc["gptq-3bit", "last"] == 7
    said = words_of(page)
    assert "gptq-3bit: most comes back with the residual after the block of layer 2" in said
    assert "1.50 [1.40, 1.60] nats of log-odds, beyond every placebo (p 0.010" in said
    read = opened("facts", which="read by the lens", of="gptq-3bit + prompt-4")
    assert question_words(LOST) in read.selectbox(key="item").options
    assert opened("facts", item=LOST).selectbox(key="item").value == LOST


def test_a_run_that_patched_nothing_says_so(root):
    path = root / "first" / "interventions.parquet"
    pd.read_parquet(path).head(0).to_parquet(path, index=False)
    page = opened("facts")
    assert errors_of(page) == []
    assert "was patched in this run" in words_of(page)


def test_causal_maps_show_each_place_with_its_placebo(root):
    page = opened("causal")
    first = page.dataframe[0].value.iloc[0]
    assert (first["value"], first["placebo"], first["p_placebo"]) == (1.5, 0.1, "0.010")
    page.selectbox(key="intervention").set_value("Knockout of the prompt")
    page.run()
    assert not page.exception
    assert page.session_state["form"] == "zeroed"
    assert len(page.get("plotly_chart")) == 2
    assert "choose other compressions" in opened("causal", compression="wanda-70%").warning[0].value


def test_drift_offers_what_was_measured_together(root):
    folder = write_run(root / "second")
    drift = pd.read_parquet(folder / "drift.parquet")
    own = drift[(drift["metric"] == "cosine") & (drift["site"] == "mlp_out")]
    one = own.assign(metric="value_span", site="attn_out", reference="parent", floor=float("nan"))
    pd.concat([drift, one]).to_parquet(folder / "drift.parquet", index=False)
    page = opened("drift", run="second", metric="value_span", site="mlp_out", reference="dense")
    assert not page.exception
    assert {name: page.session_state[name] for name in ("site", "reference")} == {
        "site": "attn_out",
        "reference": "parent",
    }
    said = words_of(page)
    assert "no floor" in said
    assert "nan" not in said
    assert "The movement inside the span of the prompt's values is no distance from dense" in said


def test_the_lens_is_read_by_layer(root):
    page = opened("drift", lens_metric="lens_top")
    assert page.session_state["lens_group"] == "facts"
    assert "right answer's first token on top of the lens" in " ".join(
        one.proto.spec for one in page.get("plotly_chart")
    )
    folder = write_run(root / "second")
    pd.read_parquet(folder / "lens.parquet").head(0).to_parquet(folder / "lens.parquet", index=False)
    assert "inside={lens: {items: 24}}" in words_of(opened("drift", run="second"))


def test_a_head_is_shown_token_by_token(root):
    page = opened("attention", first="gptq-3bit + prompt-4", second="gptq-3bit", layer="2", head="3")
    assert not page.exception
    told = " ".join(one.proto.spec for one in page.get("plotly_chart"))
    assert "on the prompt: 0.50" in told
    assert "no prompt" in told
    assert '"P2"' in told
    assert "lost, given back" in words_of(page)
    cut = write_run(root / "cut short")
    (cut / "examples" / "main-one.npz").write_bytes(b"cut short")
    assert "cannot be read" in opened("attention", run="cut short").warning[0].value


def test_attention_opens_where_two_variants_differ_most(root):
    folder = write_run(root / "second")
    path = folder / "attention.parquet"
    table = pd.read_parquet(path)
    copy = table["variant_id"].str.startswith("maingptq-3bit/")
    for (layer, head), less in {(1, 2): 0.9, (2, 4): 0.5}.items():
        table.loc[copy & (table["layer"] == layer) & (table["head"] == head), "value"] -= less
    table.to_parquet(path, index=False)
    link = {"run": "second", "first": "gptq-3bit + prompt-4", "second": "gptq-3bit"}
    for chosen, cell in (({}, ("1", "2")), ({"layer": "2"}, ("2", "2")), ({"layer": "0", "head": "1"}, ("0", "1"))):
        page = opened("attention", **link, **chosen)
        assert not page.exception
        assert not page.warning
        assert (page.session_state["layer"], page.session_state["head"]) == cell


def test_live_opens_nothing_before_it_is_asked(root):
    page = opened("live")
    assert not page.exception
    assert "nothing is loaded before you ask" in words_of(page)
    assert "0.8 GB" in words_of(page)
    assert page.multiselect(key="live").value[0] == "gptq-3bit"
    page.button(key="live_ask").click().run()
    assert not page.exception
    assert "are not in" in page.warning[0].value


def test_two_runs_stand_side_by_side(root):
    write_run(root / "second", controls=False)
    page = opened("compare", run="first")
    assert {"1: first", "2: second"} <= set(page.dataframe[0].value.columns)
    assert "not in this run" in set(page.dataframe[0].value["2: second"])
    figures = page.dataframe[1].value
    assert {"accuracy, share right", "bits per fact"} >= set(figures["measure"])
    assert " x " in figures["n in 1"].iloc[0]
    assert len(page.get("plotly_chart")) == 2
    assert set(page.table[0].value.index) <= {"name", "title"}
    manifest = json.loads((root / "second" / "manifest.json").read_text())
    manifest["study"] |= {"seeds": [*manifest["seeds"], 7], "tuning": {"steps": 5, "batch": None}}
    (root / "second" / "manifest.json").write_text(json.dumps(manifest))
    shown = opened("compare", run="first").table[0].value
    assert shown.loc["seeds", "2: second"].endswith("7")
    assert shown.loc["tuning.steps", "2: second"] == "5"
    assert "tuning.batch" not in shown.index
    alone = opened("compare", run="first", beside="nowhere")
    assert not alone.exception


def test_a_click_is_a_layer_and_a_head():
    event = {"selection": {"points": [{"customdata": [2, 3, 0.5]}]}}
    assert cell_of(event) == ("2", "3")
    assert cell_of({"selection": {"points": [{"customdata": {"0": 2, "1": 3, "2": 0.5}}]}}) == ("2", "3")
    assert cell_of({"selection": {"points": []}}) is None
    assert cell_of(None) is None
