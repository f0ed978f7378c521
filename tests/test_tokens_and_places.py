"""One text token by token, and interventions place by place: planted numbers come out as they went in."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.causal import layers_said, places_of, strongest
from analysis.figures.tokens import first_layers, item_lens_figure, lens_words_figure, mass_on_prompt, tokens_figure
from analysis.reading import read_example
from tests.stored_inside import HEADS, LAYERS, PROMPT, RESTORED, WORDS, interventions
from tests.stored_runs import seeded_variants, write_run

LENS = ("lens_top", "lens_top_log_prob", "lens_log_prob", "lens_rank")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    example = read_example(write_run(tmp_path_factory.mktemp("runs") / "first"), "main-one.npz")
    return {identity.removesuffix("/0").removeprefix("main"): one for identity, one in example.variants.items()}


def test_mass_on_the_prompt_is_what_was_planted(shown):
    assert mass_on_prompt(shown["gptq-3bit + prompt-4"], 1, 2) == pytest.approx(0.5, abs=1e-3)
    assert mass_on_prompt(shown["dense"], 1, 2) == 0


def test_a_map_shows_content_rows_that_sum_to_one(shown):
    figure = tokens_figure(shown, 2, 3, "the town is")
    sums = figure.data.groupby(["variant", "query"])["attention"].sum()
    assert sums.to_numpy() == pytest.approx(1, abs=2e-3)
    assert len(sums) == len(shown) * len(WORDS)
    repaired = figure.data[figure.data["variant"] == "gptq-3bit + prompt-4"]
    assert list(repaired["key_token"].unique()) == ["P1", "P2", *WORDS]
    assert set(repaired.loc[repaired["prompt"], "key"]) == set(range(PROMPT))
    assert figure.figure.data[2].z.shape == (len(WORDS), PROMPT + len(WORDS))


def test_the_lens_of_every_token_is_written_on_its_cell(shown):
    figure = lens_words_figure(shown["dense"], "dense", "oslo")
    assert len(figure.data) == LAYERS * len(WORDS)
    assert set(figure.data["first"]) == {"oslo"}
    words = figure.figure.data[1]
    assert set(words.text) == {"oslo"}
    assert len(words.text) == LAYERS * len(WORDS)


def test_a_word_is_black_on_a_light_cell_and_white_on_a_dark_one(shown):
    one = shown["dense"]
    found = np.full_like(one.lens_log_prob, -10)
    found[-1, -1] = -0.5  # near the top of the scale, which ends at zero, where Cividis is lightest
    words = lens_words_figure(replace(one, lens_log_prob=found), "dense", "oslo").figure.data[1]
    assert list(words.textfont.color[-2:]) == ["#FFFFFF", "#111111"]
    assert (words.x[-1], words.y[-1]) == (len(WORDS) - 1, LAYERS - 1)


def test_the_lens_says_nothing_after_a_soft_token(shown):
    figure = lens_words_figure(shown["gptq-3bit + prompt-4"], "gptq-3bit + prompt-4", "oslo")
    assert list(figure.data["token"].unique()) == list(WORDS)
    assert figure.data["place"].min() == PROMPT


def test_words_that_have_no_room_are_left_to_the_pointer(shown):
    one = shown["dense"]
    many = {name: np.repeat(getattr(one, name), 10, axis=1) for name in LENS}
    figure = lens_words_figure(replace(one, tokens=one.tokens * 10, **many), "dense", "oslo")
    assert len(figure.figure.data) == 1
    assert "written" not in figure.figure.layout.title.subtitle.text


def test_the_layer_where_an_answer_appears_and_the_one_from_which_it_stays():
    ranks = {"steady": [5, 1, 1, 1], "lost again": [5, 1, 4, 9], "returns": [1, 3, 1, 1], "never": [9, 8, 7, 2]}
    rows = pd.DataFrame(
        [
            {"variant": name, "compression": "dense", "repair": "", "layer": layer, "rank": rank, "log_prob": -rank}
            for name, own in ranks.items()
            for layer, rank in enumerate(own)
        ]
    )
    found = first_layers(rows).set_index("variant")
    assert found["first"].fillna(-1).to_dict() == {"steady": 1, "lost again": 1, "returns": 0, "never": -1}
    assert found["stays"].fillna(-1).to_dict() == {"steady": 1, "lost again": -1, "returns": 2, "never": -1}
    assert found["last"].to_dict() == {"steady": 1, "lost again": 9, "returns": 1, "never": 2}
    assert len(item_lens_figure(rows, "oslo").figure.data) == 4


def test_a_place_carries_its_strongest_placebo_and_its_corrected_p():
    variants = seeded_variants("main")
    places = places_of(interventions(variants, "facts"), variants)
    assert len(places) == 2 * LAYERS * (HEADS + 1)
    last = places[(places["layer"] == LAYERS - 1) & (places["intervention"] == "patching")]
    assert set(last["value"]) == {RESTORED}
    assert set(last["p_placebo"]) == {0.01}
    assert set(places["placebo"]) == {0.1}
    best = strongest(places).set_index("intervention")
    assert best.loc["patching", ["layer", "head", "variant"]].to_list() == [LAYERS - 1, -1, "gptq-3bit"]
    assert layers_said(pd.Series({"layer": 0, "last_layer": 3})) == "0 to 3"
