"""The workbench on a tiny stored run: no model is loaded, a link restores its view, and no path leaves the root."""

import json
from pathlib import Path
from urllib.parse import parse_qsl

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from analysis.figures_heads import cell_of
from analysis.look import SITES
from analysis.pages.drawing import without_minus_zero
from analysis.pages.picking import question_words
from analysis.reading import chances_of, compact, list_runs, read_manifest, read_table, run_below, sentence_of
from data.errors import InputError
from tests.stored_runs import LOST, PREDICTION, SETTING, write_run

ROOT = Path(__file__).parent.parent
FRAME = str(ROOT / "analysis" / "pages" / "frame.py")
PAGES = (
    *("question", "recovery", "evidence", "drift", "attention", "choices", "facts", "causal", "live"),
    *("new_study", "compare"),
)
CHARTS = {"question": 1, "recovery": 3, "evidence": 2, "drift": 4, "attention": 3, "choices": 2, "facts": 2}
CHARTS |= {"causal": 2, "compare": 1}
TABLELESS = ("question", "evidence", "new_study")
"""Pages that read the verdict alone, or no run."""


def opened(page: str = "question", **link: str) -> AppTest:
    app = AppTest.from_file(FRAME, default_timeout=60)
    for name, value in link.items():
        app.query_params[name] = value
    if page != "question":
        app.switch_page(f"{page}.py")
    return app.run()


def errors_of(page: AppTest) -> list[str]:
    assert not page.exception
    return [one.value for one in page.error]


def words_of(page: AppTest) -> str:
    return " ".join(one.value for one in [*page.markdown, *page.caption, *page.title, *page.subheader])


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_in_every_scope(root, page):
    write_run(root / "second", controls=False)
    for link in ({"run": "first"}, {"run": "first", "scope": "locked"}, {"run": "second", "seed": "1"}):
        app = opened(page, **link)
        assert not app.exception
        assert not app.error
        assert not app.warning
        shown = CHARTS.get(page, 0) - (page == "compare" and link.get("scope") == "locked")  # the second run has none
        assert len(app.get("plotly_chart")) == shown


@pytest.mark.parametrize("page", PAGES)
def test_a_table_that_is_not_there_is_one_sentence_and_the_frame_stays(root, page):
    inside = ("lens", "lens_items", "interventions", "examples", "timings")
    for table in ("recovery", "drift", "attention", "answers", "banks", "selectors", "selections", *inside):
        (root / "first" / f"{table}.parquet").unlink()
    app = opened(page)
    assert not app.exception
    assert app.selectbox(key="run").value == "first"
    told = [one.value for one in [*app.error, *app.warning]]
    if page in TABLELESS:
        assert not told
    else:
        assert told
        assert all("run" in one for one in told)


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
    path.write_text(
        "repair,phase,batch,form,ratio,compression,tokens,rounds\nprompt-4,prefill,1,,1.25,gptq-3bit,64,3\n"
    )
    page = opened("recovery")
    assert len(page.get("plotly_chart")) == CHARTS["recovery"] + 1
    assert "What recovery costs in time" in words_of(page)
    assert "was timed" not in words_of(page)
    path.write_text(path.read_text() + "lora-r4,prefill,1,merged,0.93,gptq-3bit,64,3\n")
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
    assert "Nothing was predicted beside what decides" in words_of(opened("evidence"))
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
    assert "`gptq-3bit`: most comes back with the residual after the block of layer 2" in said
    assert "1.50 [1.40, 1.60] nats of log-odds, beyond every placebo (p 0.010" in said
    read = opened("facts", which="read by the lens", of="gptq-3bit + prompt-4")
    assert question_words(LOST) in read.selectbox(key="item").options
    assert opened("facts", item=LOST).selectbox(key="item").value == LOST


def test_a_run_that_patched_nothing_says_so(root):
    path = root / "first" / "interventions.parquet"
    pd.read_parquet(path).head(0).astype({"group": object}).to_parquet(path, index=False)
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


def test_a_title_is_shown_as_it_stands(root):
    assert not opened().exception  # pages are known to Streamlit only where an app imports them
    from analysis.pages.drawing import as_it_stands

    assert as_it_stands("a *b* [c] $d$ :red[e] <unk>") == r"a \*b\* \[c\] \$d\$ \:red\[e\] \<unk>"
    assert as_it_stands(None) == ""


def test_a_figure_is_shown_again_as_it_was(root):
    page = opened("figures")
    first = page.get("plotly_chart")[0].proto.spec
    assert "height" in first
    page.run()
    assert page.get("plotly_chart")[0].proto.spec == first


def test_a_figure_of_times_is_drawn_anew_when_they_are_measured(root):
    assert "nothing was timed" in opened("figures", figure="latency").warning[0].value
    (root / "first" / "latency.csv").write_text(
        "repair,phase,batch,form,ratio,compression,tokens,rounds\nprompt-4,prefill,1,,1.25,gptq-3bit,64,3\n"
    )
    page = opened("figures", figure="latency")
    assert not page.warning
    assert page.get("plotly_chart")


def test_two_runs_stand_side_by_side(root):
    write_run(root / "second", controls=False)
    page = opened("compare", run="first")
    assert {"1: first", "2: second"} <= set(page.dataframe[0].value.columns)
    assert "not in this run" in set(page.dataframe[0].value["2: second"])
    figures = page.dataframe[1].value
    assert {"accuracy, share right", "bits per fact"} >= set(figures["measure"])
    assert " x " in figures["n in 1"].iloc[0]
    assert len(page.get("plotly_chart")) == 1
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


def test_a_link_restores_its_view(root):
    write_run(root / "second")
    link = {"run": "first", "scope": "locked", "reading": "vocabulary", "seed": "1", "compression": "wanda-70%"}
    inside = {"site": "mlp_out", "metric": "relative_l2", "layer": "2"}
    heads = {"first": "wanda-70% + lora-r2", "attention_metric": "prompt_mass", "layer": "1", "head": "3"}
    for page, more in (("drift", inside), ("attention", heads)):
        app = opened(page, **link, **more)
        assert not app.exception
        shared = link | more | {"compression": ["wanda-70%"]}
        assert {name: app.session_state[name] for name in shared} == shared


def test_a_run_of_very_many_variants_begins_with_a_few(root, monkeypatch):
    assert not opened("recovery").exception
    monkeypatch.setattr("analysis.pages.shared.AT_FIRST", 16)
    page = opened("recovery")
    assert page.multiselect(key="compression").value == ["dense", "gptq-3bit"]
    assert "2 of 3 compressions are shown" in " ".join(one.value for one in page.sidebar.caption)
    assert not page.dataframe[0].value["variant"].str.startswith("wanda").any()
    for name in ("recovery", "drift", "attention", "facts"):  # and reads no other's rows
        assert not opened(name).exception
    page.multiselect(key="compression").set_value([]).run()
    assert page.dataframe[0].value["variant"].str.startswith("wanda").any()
    linked = opened("recovery", compression="wanda-70%")
    assert linked.multiselect(key="compression").value == ["wanda-70%"]


def test_a_choice_changes_the_table(root):
    page = opened("recovery")
    page.segmented_control(key="scope").set_value("locked").run()
    assert not page.exception
    assert "Scope locked, group locked" in words_of(page)


def test_values_that_do_not_exist_fall_back(root):
    page = opened("drift", scope="nowhere", metric="none", layer="99")
    assert not page.exception
    assert page.session_state["scope"] == "main"
    assert page.session_state["layer"] == "0"


@pytest.mark.parametrize("name", ["../first", "/etc", "..", "gone"])
def test_a_run_that_is_none_is_refused_until_another_is_chosen(root, name):
    write_run(root / "second")
    page = opened(run=name)
    assert not page.exception
    assert "no finished run" in page.error[0].value
    assert not page.get("plotly_chart")
    page.run()
    assert "no finished run" in page.error[0].value
    box = page.selectbox(key="run")
    box.set_value(next(one for one in box.options if one != box.value)).run()
    assert not page.error
    assert page.get("plotly_chart")


def test_a_scope_of_another_run_is_given_up(root):
    write_run(root / "real", controls=False)
    page = opened(run="first", scope="locked")
    page.selectbox(key="run").set_value("real").run()
    assert not page.exception
    assert page.session_state["scope"] == "main"


def test_no_runs_gives_a_hint(tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_RUNS", str(tmp_path / "none"))
    page = opened("facts")
    assert not page.exception
    assert page.code[0].value == "make demo"
    assert not page.dataframe


def test_a_click_is_a_layer_and_a_head():
    event = {"selection": {"points": [{"customdata": [2, 3, 0.5]}]}}
    assert cell_of(event) == ("2", "3")
    assert cell_of({"selection": {"points": [{"customdata": {"0": 2, "1": 3, "2": 0.5}}]}}) == ("2", "3")
    assert cell_of({"selection": {"points": []}}) is None
    assert cell_of(None) is None


def test_no_path_leaves_the_root(root, tmp_path):
    outside = write_run(tmp_path / "outside")
    (root / "linked").symlink_to(outside)
    write_run(root / "deep" / "inner")
    assert list_runs(root) == ["first"]
    for name in ("../outside", str(outside), "linked", "deep/inner", "deep", "..", ".", ""):
        with pytest.raises(InputError, match="no finished run"):
            run_below(root, name)
    assert run_below(root, "first") == root / "first"


def test_another_schema_is_refused(root):
    (root / "first" / "manifest.json").write_text('{"schema": 2}')
    with pytest.raises(InputError, match="schema 2"):
        read_manifest(root / "first")


def test_chance_is_read_off_the_lists(root):
    answers = read_table(root / "first", "answers")
    assert chances_of(answers)["facts"] == pytest.approx(1 / 6 + 4 / 6 * 1)
    assert "nobody" not in chances_of(answers)


def test_nothing_shows_as_minus_zero_and_all_else_keeps_its_digits():
    table = pd.DataFrame({"name": ["a", "b", "c"], "bits": [-0.0049, -0.00501, 0.1234], "n": [1, 2, 3]})
    shown = without_minus_zero(table)
    assert [f"{bits:+.2f}" for bits in shown["bits"]] == ["+0.00", "-0.01", "+0.12"]
    assert list(shown["bits"][1:]) == [-0.00501, 0.1234]
    assert shown[["name", "n"]].equals(table[["name", "n"]])


def test_figures_in_few_characters():
    assert compact(0.714, -0.001, 1.0) == ".71 [.00, 1.00]"


@pytest.mark.parametrize("decision", ["displaced", "relearned", "re-injected", "unreached", "undecided"])
def test_every_decision_has_its_sentence(decision):
    said = sentence_of(SETTING | {"decision": decision, "reasons": ["two seeds"]})
    assert len(said) > 20
    assert "erased" not in said


def test_only_the_rows_that_are_shown_of_a_large_run_are_read(root, monkeypatch):
    assert not opened("recovery").exception  # pages are known to Streamlit only where an app imports them
    from analysis.pages import shared

    monkeypatch.setattr(shared, "AT_FIRST", 16)
    view = shared.View(root / "first", "large", "main", "candidates", ("gptq-3bit",), (), None)
    variants = view.table("variants").query("scope == 'main'").set_index("variant_id")["compression"]
    for name in ("answers", "drift", "attention"):
        assert set(variants.loc[view.rows(name)["variant_id"].unique()]) == {"dense", "gptq-3bit"}
    assert view.chance("facts") == chances_of(read_table(root / "first", "answers"))["facts"]
    monkeypatch.setattr(shared, "AT_FIRST", 120)
    assert len(view.rows("drift")) == len(view.table("drift"))


def test_what_was_typed_into_the_form_stays_while_other_pages_are_looked_at(root):
    app = opened("new_study")
    steps = next(one for one in app.number_input if one.label == "Tuning steps")
    steps.set_value(7).run()
    app.switch_page("recovery.py").run()
    app.switch_page("new_study.py").run()
    assert next(one for one in app.number_input if one.label == "Tuning steps").value == 7


def test_boxes_show_words_and_the_address_keeps_the_names_of_tables(root):
    page = opened("drift", site="resid_post", metric="nothing")
    assert page.selectbox(key="site").value == "resid_post"
    assert set(page.selectbox(key="site").options) <= set(SITES.values())
    assert page.selectbox(key="metric").value == "cosine"
    page.selectbox(key="metric").select("relative_l2").run()
    assert not page.exception
    assert (page.query_params["site"], page.query_params["metric"]) == ("resid_post", "relative_l2")
    page.selectbox(key="metric").select("cosine").run()
    assert "metric" not in page.query_params
    page.query_params["metric"] = "relative_l2"
    assert page.run().selectbox(key="metric").value == "relative_l2"


def dashes_on(page: AppTest) -> dict[str, str]:
    """The dash of every compression in the first chart: a panel each, in the order of their titles."""
    drawn = json.loads(page.get("plotly_chart")[0].proto.spec)
    lines = [trace for trace in drawn["data"] if trace["mode"] == "lines+markers"]
    return {trace["hovertemplate"].split(",")[0].split(" + ")[0]: trace["line"]["dash"] for trace in lines}


def test_a_compression_has_one_dash_whatever_is_chosen(root):
    every = dashes_on(opened("drift"))
    last = list(every)[-1]
    alone = dashes_on(opened("drift", compression=last))
    assert len(every) > 2
    assert alone[last] == every[last]


def test_what_is_served_is_the_frame():
    import app

    assert ROOT / app.app.script_path == Path(FRAME)
