"""The frame of the workbench on a tiny stored run: every page opens, a link restores its view, choices hold."""

import errno
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from analysis import reading
from analysis.literal import for_page
from analysis.look import SITES
from analysis.pages.catalogue import page_of
from analysis.pages.drawing import without_minus_zero
from analysis.reading import chances_of, read_table
from analysis.run_files import sealed_text
from tests.opened_pages import CHARTS, FRAME, PAGES, ROOT, errors_of, opened, words_of
from tests.stored_runs import write_run


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_in_every_scope(root, page):
    write_run(root / "second", controls=False)
    for link in ({"run": "first"}, {"run": "first", "scope": "locked"}, {"run": "second", "seed": "1"}):
        app = opened(page, **link)
        assert not app.exception
        assert not app.error
        assert not app.warning
        nothing_shared = page == "compare" and link.get("scope") == "locked"  # the second run has none
        drawn = len(app.get("plotly_chart"))
        assert drawn == (0 if nothing_shared else CHARTS.get(page, drawn))


@pytest.mark.parametrize("page", PAGES)
def test_a_table_that_is_not_there_is_one_sentence_and_the_frame_stays(root, page):
    inside = ("lens", "lens_items", "interventions", "examples", "timings")
    for table in ("recovery", "drift", "attention", "answers", "banks", "selectors", "selections", *inside):
        (root / "first" / f"{table}.parquet").unlink()
    app = opened(page)
    assert not app.exception
    assert app.selectbox(key="run").value == "first"
    told = [one.value for one in [*app.error, *app.warning]]
    assert bool(told) == bool(page_of(page).tables)
    assert all("run" in one for one in told)


def test_a_title_is_shown_as_it_stands(root):
    assert not opened().exception  # pages are known to Streamlit only where an app imports them
    from analysis.literal import for_page as as_it_stands

    assert as_it_stands("a *b* [c] $d$ :red[e] <unk>") == r"a \*b\* \[c\] \$d\$ \:red\[e\] \<unk>"


def test_a_figure_is_shown_again_as_it_was(root):
    page = opened("figures")
    first = page.get("plotly_chart")[0].proto.spec
    assert "height" in first
    page.run()
    assert page.get("plotly_chart")[0].proto.spec == first


def test_a_figure_of_times_is_drawn_anew_when_they_are_measured(root):
    assert "nothing was timed" in opened("figures", figure="latency").warning[0].value
    (root / "first" / "latency.csv").write_text(
        sealed_text(
            "repair,phase,batch,form,ratio,compression,tokens,rounds\nprompt-4,prefill,1,,1.25,gptq-3bit,64,3\n"
        )
    )
    page = opened("figures", figure="latency")
    assert not page.warning
    assert page.get("plotly_chart")


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
    assert not opened("recovery").exception  # pages are known to Streamlit only where an app imports them
    from analysis.pages import shared

    monkeypatch.setattr(shared, "AT_FIRST", 16)
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
    assert box.value is None  # no other run's name stands over what is said of this one
    box.set_value(next(one for one in box.options if one != box.value)).run()
    assert not page.error
    assert page.get("plotly_chart")


@pytest.mark.parametrize("name", ["é" * 128, "deep/" * 900, "a\x00b"], ids=len)
@pytest.mark.parametrize("page", PAGES)
def test_whatever_an_address_names_at_length_is_one_sentence_at_most(root, page, name):
    write_run(root / "second")
    told = errors_of(opened(page, run=name))
    assert len(told) == (page != "new_study")
    assert all(one.startswith("run '") and len(one) < 300 for one in told)
    keys = ("beside", "example", "figure", "from", "item", "setting", "first", "scope", "typed", "of", "find", "live")
    assert errors_of(opened(page, run="first", **dict.fromkeys(keys, name))) == []


def test_a_runs_folder_that_cannot_be_looked_into_is_one_sentence(root, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_RUNS", "r" * 300)
    assert "no file's name has more than 255 bytes" in errors_of(opened())[0]
    monkeypatch.setenv("PALIMPSEST_RUNS", str(root))
    for one, other in (("ring", "round"), ("round", "ring")):
        (root / one).symlink_to(root / other)
    assert errors_of(opened(run="first")) == []
    assert "no finished run" in errors_of(opened(run="ring"))[0]


def test_what_the_system_refuses_a_part_of_a_page_is_one_sentence(root, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    assert opened("recovery").dataframe
    monkeypatch.setattr(reading, "read_latency", refuse)
    page = opened("recovery")
    said = "run 'first': this part needs what the system does not give (OSError: [Errno 24] Too many open files)"
    assert errors_of(page) == [for_page(said)]
    assert page.dataframe


def test_a_run_that_is_read_stays_when_a_newer_one_finishes_and_is_named_when_it_is_gone(root):
    page = opened("recovery")
    write_run(root / "newer")
    assert page.run().selectbox(key="run").value == "first"
    assert page.query_params["run"] == "first"
    shutil.rmtree(root / "first")
    page.query_params.clear()
    page.run()
    assert "run 'first': no finished run" in page.error[0].value
    assert page.selectbox(key="run").value is None


def test_a_box_in_which_nothing_was_chosen_follows_what_stands_first(root):
    page = opened("choices")
    assert page.selectbox(key="bank").value == "gptq-3bit + idp-2x4-attention"
    page.multiselect(key="compression").set_value(["wanda-70%"]).run()
    assert page.selectbox(key="bank").value == "wanda-70% + idp-2x4-attention"
    page.multiselect(key="compression").set_value([]).run()
    assert page.selectbox(key="bank").value == "gptq-3bit + idp-2x4-attention"
    page.selectbox(key="bank").set_value("dense + idp-2x4-attention").run()
    page.multiselect(key="compression").set_value(["dense", "wanda-70%"]).run()
    assert page.selectbox(key="bank").value == "dense + idp-2x4-attention"


def test_a_box_that_was_cleared_stays_so_and_its_link_too(root):
    page = opened("live")
    assert page.multiselect(key="live").value
    page.multiselect(key="live").set_value([]).run()
    assert page.multiselect(key="live").value == []
    assert opened("live", live=page.query_params["live"]).multiselect(key="live").value == []


def test_two_names_of_the_same_words_are_told_apart_in_a_box():
    from analysis.pages.picking import shown_as

    shown = shown_as(["a", "b", "c"], {"a": "alike", "b": "alike", "c": "other"})
    assert [shown(name) for name in "abc"] == ["alike (a)", "alike (b)", "other"]


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


def test_nothing_shows_as_minus_zero_and_all_else_keeps_its_digits():
    table = pd.DataFrame({"name": ["a", "b", "c"], "bits": [-0.0049, -0.00501, 0.1234], "n": [1, 2, 3]})
    shown = without_minus_zero(table)
    assert [f"{bits:+.2f}" for bits in shown["bits"]] == ["+0.00", "-0.01", "+0.12"]
    assert list(shown["bits"][1:]) == [-0.00501, 0.1234]
    assert shown[["name", "n"]].equals(table[["name", "n"]])


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
